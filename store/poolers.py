"""Connection poolers between us and Postgres: one that shares sessions among its clients is refused at the start."""

from typing import Final

import asyncpg

from store.errors import PoolerError
from store.pool import translated_errors

# A pooler may have handed the session to a third client in between, which proves nothing.
_TRIES: Final = 5


async def require_session(pool: asyncpg.Pool) -> None:
    """Check that a connection keeps one session of Postgres between its transactions.

    Leases are locks of a session, and prepared statements belong to one. Under pgbouncer's `pool_mode=transaction` or
    `statement` each transaction may have another.

    Args:
        pool: Of at least two connections.

    Raises:
        PoolerError: It does not.
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        async with pool.acquire() as one:
            # A pooler names itself when a connection begins; Postgres names the process that then answers.
            if one.get_server_pid() == await _backend(one):
                return
            async with pool.acquire() as other:
                for _ in range(_TRIES):
                    if await _backend(one) == await _backend(other):
                        raise PoolerError


async def _backend(connection: asyncpg.pool.PoolConnectionProxy) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid
