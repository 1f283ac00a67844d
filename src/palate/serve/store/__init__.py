"""The service's store: SQLite or PostgreSQL behind one class, and a writer that commits in groups."""

from palate.extras import missing

try:
    import sqlalchemy  # noqa: F401
except ImportError as error:
    raise missing("sqlalchemy", "the store") from error

from palate.serve.store.rows import (
    Added,
    Conversation,
    Erased,
    Event,
    ExperimentRow,
    Exposure,
    Feedback,
    ItemRow,
    KeyRow,
    ModelRow,
    Pulse,
    Search,
    Shown,
    Slate,
    UserRow,
)
from palate.serve.store.store import Store
from palate.serve.store.writer import GroupWriter

__all__ = [
    "Added",
    "Conversation",
    "Erased",
    "Event",
    "ExperimentRow",
    "Exposure",
    "Feedback",
    "GroupWriter",
    "ItemRow",
    "KeyRow",
    "ModelRow",
    "Pulse",
    "Search",
    "Shown",
    "Slate",
    "Store",
    "UserRow",
]
