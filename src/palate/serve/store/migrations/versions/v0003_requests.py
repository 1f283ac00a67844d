"""Requests: what was asked for a slate, visitors without an account in slates and searches, users that were deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns; of earlier slates it is not on record what was asked."""
    op.add_column("slates", sa.Column("asked", sa.Text()))
    op.add_column("searches", sa.Column("anonymous", ID))
    op.add_column("users", sa.Column("deleted", sa.Double()))
    for table in ("slates", "searches"):
        op.create_index(f"{table}_by_anonymous", table, ["anonymous"], unique=False)


def downgrade() -> None:
    """Remove the columns."""
    for table, column in (("slates", "asked"), ("searches", "anonymous"), ("users", "deleted")):
        if table != "users":
            op.drop_index(f"{table}_by_anonymous", table)
        with op.batch_alter_table(table) as changed:
            changed.drop_column(column)
