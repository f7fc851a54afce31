"""Alembic's environment: one online mode, the URL from the caller."""

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from store import schema
from store.settings import StoreSettings

# A migration that waits for a lock makes every reader behind it wait too: better that it gives up and is run again.
LOCK_TIMEOUT = "10s"


def _run(connection: Connection) -> None:
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    context.configure(connection=connection, target_metadata=schema.metadata, compare_type=True)
    with context.begin_transaction():
        # Two deployments at once: the second waits here, then finds nothing to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('mess-migrations'))"))
        context.run_migrations()


async def _run_async(settings: StoreSettings) -> None:
    # asyncpg reads the URL, as everywhere else: SQLAlchemy's own reading knows other parameters.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        async_creator=lambda: asyncpg.connect(**settings.connect_options),
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Offline SQL is not offered: migrations look at the database they change.")
asyncio.run(_run_async(context.config.attributes.get("settings") or StoreSettings()))
