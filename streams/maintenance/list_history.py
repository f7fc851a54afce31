"""Deletes kept lists whose time is over."""

import asyncio
from datetime import timedelta
from typing import Final

import asyncpg
import structlog

from store import list_history
from store.errors import StoreUnavailableError

log = structlog.get_logger(__name__)

# Lists that one statement deletes, and the rest between two of them: some thousand a second are deleted, more than are written
# for long, and what else Postgres does hardly waits.
_TOGETHER: Final = 500
_REST_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 30.0


async def prune_for_ever(pool: asyncpg.Pool, kept: timedelta) -> None:
    """Delete lists of the worker's generation that were replaced longer ago than `kept`; with zero, all of them.

    Several workers may do so at once.
    """
    while True:
        try:
            full = await list_history.prune_history(pool, kept, _TOGETHER) == _TOGETHER
        except StoreUnavailableError as error:
            log.info("old lists are not deleted for a moment", error=str(error))
            full = False
        await asyncio.sleep(_REST_SECONDS if full else _LOOK_SECONDS)
