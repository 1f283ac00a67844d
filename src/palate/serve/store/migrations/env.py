"""Run migrations on the connection that :mod:`palate.serve.store.schema` gives, inside its transaction."""

from alembic import context

from palate.serve.store.schema import VERSION_TABLE
from palate.serve.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
