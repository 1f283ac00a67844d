"""Ties: whom a person names as tied to them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "ties",
        sa.Column("user", ID, primary_key=True),
        sa.Column("other", ID, primary_key=True),
        sa.Column("time", sa.Double(), nullable=False),
    )
    op.create_index("ties_by_other", "ties", ["other", "time"], unique=False)


def downgrade() -> None:
    """Remove it."""
    op.drop_table("ties")
