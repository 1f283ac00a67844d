"""The tables. JSON stands in text columns in one canonical form; ids sort by code point on every database.

Events are not tied to users and items by foreign keys: the single writer makes the rows they need, and checking each
event twice would cost more than it finds.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()
#: Feedback that changes a person's next answers. What asks for it says so in these words: else the index of it is looked past.
OPINION = text("kind IN ('hide', 'dislike', 'like')")
Id = String().with_variant(String(collation="C"), "postgresql")
Number = BigInteger().with_variant(Integer(), "sqlite")

meta = Table("meta", metadata, Column("key", Id, primary_key=True), Column("value", Text, nullable=False))

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    Column("attributes", Text),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("deleted", Double),
)

ties = Table(
    "ties",
    metadata,
    Column("user", Id, primary_key=True),
    Column("other", Id, primary_key=True),
    Column("time", Double, nullable=False),
    Index("ties_by_other", "other", "time"),
)

items = Table(
    "items",
    metadata,
    Column("id", Id, primary_key=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("categories", Text),
    Column("price", Double),
    Column("available", Boolean, nullable=False),
    Column("attributes", Text),
    Column("image", Text),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("deleted", Double),
    Index("items_by_revision", "revision", unique=True),
)

events = Table(
    "events",
    metadata,
    Column("n", Number, primary_key=True, autoincrement=True),
    Column("id", Id),
    Column("user", Id, nullable=False),
    Column("item", Id, nullable=False),
    Column("type", Id, nullable=False),
    Column("value", Double),
    Column("time", Double, nullable=False),
    Column("session", Id),
    Column("context", Text),
    Index("events_by_id", "id", unique=True, sqlite_where=text("id IS NOT NULL")),  # PostgreSQL would look past a partial one
    Index("events_by_user", "user", "time", "n", "item"),
    Index("events_by_time", "time", "type", "item"),
    sqlite_autoincrement=True,
)

slates = Table(
    "slates",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user", Id),
    Column("anonymous", Id),
    Column("time", Double, nullable=False),
    Column("policy", Id, nullable=False),
    Column("stochastic", Boolean, nullable=False),
    Column("model", Id),
    Column("experiment", Id),
    Column("variant", Id),
    Column("context", Text),
    Column("asked", Text),
    Index("slates_by_user", "user", "time"),
    Index("slates_by_anonymous", "anonymous"),
    Index("slates_by_time", "time"),
)

impressions = Table(
    "impressions",
    metadata,
    Column("slate", Id, ForeignKey("slates.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("item", Id, nullable=False),
    Column("propensity", Double),
    Column("source", Id),
    Column("team", Id),
)

feedback = Table(
    "feedback",
    metadata,
    Column("key", Id, primary_key=True),
    Column("slate", Id, ForeignKey("slates.id", ondelete="CASCADE"), nullable=False),
    Column("item", Id, nullable=False),
    Column("kind", Id, nullable=False),
    Column("value", Double, nullable=False),
    Column("time", Double, nullable=False),
    Column("unit", Id),  # whose slate it is: the user, else the visitor
    Column("n", BigInteger),  # of two words of one moment, the one written later counts
    Index("feedback_by_slate", "slate", "item"),
    Index("feedback_by_unit", "unit", "time", "n", "item", "kind", "value", sqlite_where=OPINION, postgresql_where=OPINION),
    Index("feedback_by_number", "n", unique=True),
)

searches = Table(
    "searches",
    metadata,
    Column("n", Number, primary_key=True, autoincrement=True),
    Column("user", Id),
    Column("query", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("results", Text),
    Column("context", Text),
    Column("anonymous", Id),
    Index("searches_by_user", "user"),
    Index("searches_by_anonymous", "anonymous"),
    Index("searches_by_time", "time"),
    sqlite_autoincrement=True,
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user", Id),
    Column("turns", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Index("conversations_by_user", "user"),
    Index("conversations_by_time", "updated"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("name", Id, primary_key=True),
    Column("spec", Text),
    Column("state", Id, nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("stopped", Double),
)

exposures = Table(
    "exposures",
    metadata,
    Column("experiment", Id, ForeignKey("experiments.name"), primary_key=True),
    Column("unit", Id, primary_key=True),
    Column("variant", Id, nullable=False),
    Column("time", Double, nullable=False),
    Index("exposures_by_unit", "unit"),
)

models = Table(
    "models",
    metadata,
    Column("version", Id, primary_key=True),
    Column("system", Id, nullable=False),
    Column("path", Text, nullable=False),
    Column("metrics", Text),
    Column("state", Id, nullable=False),
    Column("position", BigInteger),
    Column("created", Double, nullable=False),
    Column("activated", Double),
    Index(
        "models_one_active",
        "state",
        unique=True,
        sqlite_where=text("state = 'active'"),
        postgresql_where=text("state = 'active'"),
    ),
)

activations = Table(
    "activations",
    metadata,
    Column("n", Number, primary_key=True, autoincrement=True),
    Column("version", Id, ForeignKey("models.version"), nullable=False),
    Column("time", Double, nullable=False),
    Column("undone", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

keys = Table(
    "keys",
    metadata,
    Column("name", Id, primary_key=True),
    Column("hash", Id, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("revoked", Double),
)

erasures = Table(
    "erasures",
    metadata,
    Column("n", Number, primary_key=True, autoincrement=True),
    Column("mark", Id, nullable=False),
    Column("time", Double, nullable=False),
    Index("erasures_by_mark", "mark"),
    sqlite_autoincrement=True,
)

#: Every table, in an order in which rows can be put in.
IN_ORDER = tuple(metadata.sorted_tables)
