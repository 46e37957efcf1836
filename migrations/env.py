"""Alembic environment: one transaction, DDL included, on SQLite and PostgreSQL.

`Store.migrate` hands its own connection over; the command line takes `-x url=...` or SPILLOVER_STORE_URL.
"""

from __future__ import annotations

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, inspect

from aggregator.store.database import one_writer, open_engine, parse_url, write_ahead
from aggregator.store.facts import METADATA, create_views, drop_views


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=METADATA, transactional_ddl=True, render_as_batch=True, compare_type=True
    )
    with context.begin_transaction():
        drop_views(connection)
        context.run_migrations()
        if inspect(connection).has_table("deployment"):
            create_views(connection)


def _online() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _run(given)
        return
    if context.is_offline_mode():
        raise CommandError("--sql is not supported: the migration needs the database to look at")
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("SPILLOVER_STORE_URL")
    engine = open_engine(parse_url(url or "sqlite:///spillover.db"))
    try:
        with one_writer(engine):
            write_ahead(engine)
            with engine.execution_options(spillover_write=True).begin() as connection:
                _run(connection)
    finally:
        engine.dispose()


_online()
