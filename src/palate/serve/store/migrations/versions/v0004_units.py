"""Units: whose slate feedback is on, and its place in the order of writing: what a person hid is found with one look."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns, and fill them from the slates and the times."""
    op.add_column("feedback", sa.Column("unit", ID))
    op.add_column("feedback", sa.Column("n", sa.BigInteger()))
    whose = 'SELECT coalesce(slates."user", slates.anonymous) FROM slates WHERE slates.id = feedback.slate'
    op.execute(f"UPDATE feedback SET unit = ({whose})")
    order = 'SELECT "key", row_number() OVER (ORDER BY "time", "key") AS n FROM feedback'
    op.execute(f'UPDATE feedback SET n = sorted.n FROM ({order}) AS sorted WHERE sorted."key" = feedback."key"')
    said = sa.text("kind IN ('hide', 'dislike', 'like')")
    columns = ["unit", "time", "n", "item", "kind", "value"]
    op.create_index("feedback_by_unit", "feedback", columns, unique=False, sqlite_where=said, postgresql_where=said)
    op.create_index("feedback_by_number", "feedback", ["n"], unique=True)


def downgrade() -> None:
    """Remove the columns."""
    for name in ("unit", "number"):
        op.drop_index(f"feedback_by_{name}", "feedback")
    with op.batch_alter_table("feedback") as table:
        for name in ("unit", "n"):
            table.drop_column(name)
