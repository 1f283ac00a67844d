"""Teams: which ranking of an interleaved list supplied each item."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column; earlier impressions have no team."""
    op.add_column("impressions", sa.Column("team", ID))


def downgrade() -> None:
    """Remove the column."""
    with op.batch_alter_table("impressions") as table:
        table.drop_column("team")
