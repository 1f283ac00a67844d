"""Ids in paths: a slash that belongs to an id is told from one that parts a path.

Applications choose their own ids, and ids with a slash are common (paths of files, addresses of pages). Clients send it as
``%2F``; servers hand a path on decoded, in which ``/v1/profile/p%2Fexport`` (the profile of ``p/export``) and
``/v1/profile/p/export`` (everything about ``p``) are the same. So paths are matched as they came, part by part: here the
slashes and percent signs of ids stay encoded, and :func:`whole` decodes them when an id has been cut out. What lies between
must hand the path on as it came (nginx does for a ``proxy_pass`` without a path; Apache with ``AllowEncodedSlashes NoDecode``).
Only ``.`` and ``..`` can't be sent at all: clients resolve them, encoded or not. They are refused where ids come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote


def parted(scope: Mapping[str, Any]) -> str:
    """Return the path of a request, decoded but for the slashes and percent signs inside its parts."""
    raw = scope.get("raw_path")
    if raw is None:  # a server need not tell it; then all slashes part the path
        return str(scope["path"]).replace("%", "%25")
    parts = (unquote(part) for part in raw.decode("latin-1").split("/"))
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def whole(part: Any) -> Any:
    """Return an id that was cut out of a path of :func:`parted`."""
    return part.replace("%2F", "/").replace("%25", "%") if isinstance(part, str) else part
