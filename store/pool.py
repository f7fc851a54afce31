"""Connections: one asyncpg pool a process, and the check of the schema's revision."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import orjson

from store.columns import REVISION
from store.errors import PoolerError, SchemaMismatchError, StoreUnavailableError
from store.settings import StoreSettings

# asyncpg's errors for a Postgres that is away, starting, stopping, has dropped the connection, refuses logins, or has run
# out of disk, memory or connections.
UNAVAILABLE = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The messages of a connection that was cut during an operation and is used again before that is noticed.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OutOfMemoryError,
    asyncpg.DiskFullError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)

# A statement that we have prepared is not there, or there already: Postgres itself never says so.
_OF_POOLERS = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)

# Errors of Postgres about a row that it will never accept.
REJECTED = (
    asyncpg.DataError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.IntegrityConstraintViolationError,
)


async def _set_codecs(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        # The leading byte is the version of the binary form. COPY takes no other.
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda value: orjson.loads(value[1:]),
        format="binary",
    )


async def _keep_session(_: asyncpg.Connection) -> None:
    """Return a connection without a round trip, as its session has no state to reset."""


async def open_pool(
    settings: StoreSettings, *, application_name: str, read_only: bool = False, reset: bool = True
) -> asyncpg.Pool:
    """Open a pool.

    Args:
        settings: Where Postgres is, how many connections, how long they may take.
        application_name: Shown by `pg_stat_activity`.
        read_only: Every transaction is read-only, and connections are not reset on return.
        reset: Whether connections are reset on return; needless if they only run transactions.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        return await asyncpg.create_pool(
            **settings.connect_options,
            min_size=settings.pool_min_size,
            max_size=settings.pool_max_size,
            command_timeout=settings.command_timeout,
            timeout=settings.connect_timeout,
            server_settings={
                "application_name": application_name,
                "jit": "off",
                "default_transaction_read_only": "on" if read_only else "off",
            },
            init=_set_codecs,
            reset=_keep_session if read_only or not reset else None,
        )


class translated_errors:  # noqa: N801 -- reads as a clause: `with translated():`
    """Turn asyncpg's connection failures into `StoreUnavailableError`, a pooler's into `PoolerError`; usable as a plain context manager."""

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Translate."""
        if isinstance(error, _OF_POOLERS):
            # Of a session that had been another client's.
            raise PoolerError from error
        if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error):
            raise PoolerError(f"it refuses our settings ({error})") from error
        # A value that asyncpg cannot encode is an InterfaceError, too; a retry would never end.
        if isinstance(error, UNAVAILABLE) and not isinstance(error, ValueError):
            reason = " ".join(str(error).split()) or kind
            what = (
                "has no disk space left" if isinstance(error, asyncpg.DiskFullError) else "is not available"
            )
            raise StoreUnavailableError(f"Postgres {what}: {reason}") from error


@asynccontextmanager
async def transaction(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """A connection inside one transaction, committed at the end.

    Raises:
        StoreUnavailableError: Postgres went away; whether the transaction was committed is unknown, so what
            runs in it must be safe to run again.
    """
    with translated_errors():
        async with pool.acquire() as connection, connection.transaction():
            yield connection


@asynccontextmanager
async def snapshot(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """A connection inside a transaction whose reads share one snapshot.

    Raises:
        StoreUnavailableError: Postgres went away.
    """
    with translated_errors():
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


async def current_revision(pool: asyncpg.Pool) -> str | None:
    """The schema's Alembic revision, or None where there is no schema."""
    with translated_errors():
        if await pool.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        revision: str | None = await pool.fetchval("SELECT version_num FROM alembic_version")
        return revision


async def require_schema(pool: asyncpg.Pool) -> None:
    """Check that the schema is this version's.

    Raises:
        SchemaMismatchError: The schema is missing, older or newer.
        StoreUnavailableError: Postgres cannot be reached.
    """
    found = await current_revision(pool)
    if found != REVISION:
        raise SchemaMismatchError(found, REVISION)
