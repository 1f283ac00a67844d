"""The first schema: users, items, events, slates, experiments, models, keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "conversations",
        sa.Column("id", ID, nullable=False),
        sa.Column("user", ID),
        sa.Column("turns", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("conversations_by_time", "conversations", ["updated"], unique=False)
    op.create_index("conversations_by_user", "conversations", ["user"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("n", NUMBER, autoincrement=True, nullable=False),
        sa.Column("mark", ID, nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("n"),
        sqlite_autoincrement=True,
    )
    op.create_index("erasures_by_mark", "erasures", ["mark"], unique=False)
    op.create_table(
        "events",
        sa.Column("n", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", ID),
        sa.Column("user", ID, nullable=False),
        sa.Column("item", ID, nullable=False),
        sa.Column("type", ID, nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("session", ID),
        sa.Column("context", sa.Text()),
        sa.PrimaryKeyConstraint("n"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "events_by_id",
        "events",
        ["id"],
        unique=True,
        sqlite_where=sa.text("id IS NOT NULL"),
    )
    op.create_index("events_by_time", "events", ["time", "type", "item"], unique=False)
    op.create_index("events_by_user", "events", ["user", "time", "n", "item"], unique=False)
    op.create_table(
        "experiments",
        sa.Column("name", ID, nullable=False),
        sa.Column("spec", sa.Text()),
        sa.Column("state", ID, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("started", sa.Double()),
        sa.Column("stopped", sa.Double()),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "items",
        sa.Column("id", ID, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("categories", sa.Text()),
        sa.Column("price", sa.Double()),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("attributes", sa.Text()),
        sa.Column("image", sa.Text()),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Double()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("items_by_revision", "items", ["revision"], unique=True)
    op.create_table(
        "keys",
        sa.Column("name", ID, nullable=False),
        sa.Column("hash", ID, nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double()),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "meta",
        sa.Column("key", ID, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "models",
        sa.Column("version", ID, nullable=False),
        sa.Column("system", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text()),
        sa.Column("state", ID, nullable=False),
        sa.Column("position", sa.BigInteger()),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("activated", sa.Double()),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_index(
        "models_one_active",
        "models",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "searches",
        sa.Column("n", NUMBER, autoincrement=True, nullable=False),
        sa.Column("user", ID),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("results", sa.Text()),
        sa.Column("context", sa.Text()),
        sa.PrimaryKeyConstraint("n"),
        sqlite_autoincrement=True,
    )
    op.create_index("searches_by_time", "searches", ["time"], unique=False)
    op.create_index("searches_by_user", "searches", ["user"], unique=False)
    op.create_table(
        "slates",
        sa.Column("id", ID, nullable=False),
        sa.Column("user", ID),
        sa.Column("anonymous", ID),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("policy", ID, nullable=False),
        sa.Column("stochastic", sa.Boolean(), nullable=False),
        sa.Column("model", ID),
        sa.Column("experiment", ID),
        sa.Column("variant", ID),
        sa.Column("context", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("slates_by_time", "slates", ["time"], unique=False)
    op.create_index("slates_by_user", "slates", ["user", "time"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("attributes", sa.Text()),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "activations",
        sa.Column("n", NUMBER, autoincrement=True, nullable=False),
        sa.Column("version", ID, nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("undone", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["models.version"],
        ),
        sa.PrimaryKeyConstraint("n"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "exposures",
        sa.Column("experiment", ID, nullable=False),
        sa.Column("unit", ID, nullable=False),
        sa.Column("variant", ID, nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"],
            ["experiments.name"],
        ),
        sa.PrimaryKeyConstraint("experiment", "unit"),
    )
    op.create_index("exposures_by_unit", "exposures", ["unit"], unique=False)
    op.create_table(
        "feedback",
        sa.Column("key", ID, nullable=False),
        sa.Column("slate", ID, nullable=False),
        sa.Column("item", ID, nullable=False),
        sa.Column("kind", ID, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["slate"], ["slates.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("feedback_by_slate", "feedback", ["slate", "item"], unique=False)
    op.create_table(
        "impressions",
        sa.Column("slate", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("item", ID, nullable=False),
        sa.Column("propensity", sa.Double()),
        sa.Column("source", ID),
        sa.ForeignKeyConstraint(["slate"], ["slates.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("slate", "position"),
    )


def downgrade() -> None:
    """Remove every table."""
    for table in (
        "impressions",
        "feedback",
        "exposures",
        "activations",
        "users",
        "slates",
        "searches",
        "models",
        "meta",
        "keys",
        "items",
        "experiments",
        "events",
        "erasures",
        "conversations",
    ):
        op.drop_table(table)
