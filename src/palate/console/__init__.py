"""The web console: one process's service, seen and steered from a browser; everything it needs comes from this machine.

It is the only package that imports NiceGUI. Pages live in :mod:`palate.console.pages`, one file each; they call the same
functions as the HTTP API and hold no logic of recommendation.
"""

from palate.extras import missing

try:
    import nicegui  # noqa: F401
except ImportError as error:
    raise missing(error.name or "nicegui", "the web console") from error

from palate.console.app import mount

__all__ = ["mount"]
