"""Alembic's entry: the store hands over its open connection; there is no configuration file."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
