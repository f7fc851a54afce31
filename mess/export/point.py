"""The one point that an export is of: waited for, and then held as a snapshot."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from mess.export.names import ExportKind
from store import interactions, progress
from store.pool import require_schema, snapshot
from store.progress import StoreProgress

# How often the store is looked at: lists are seldom all at one point for longer than a flush takes.
_LOOK_SECONDS = 0.02


class PointNotReachedError(Exception):
    """The store has not come to the point that was asked for in the time that was given."""


@dataclass(frozen=True)
class ExportPoint:
    """Where in the log a snapshot stands.

    Attributes:
        offsets: For each partition, the next offset: everything below it is in, nothing from it on.
        absorbed: Of lists that are not settled, for each partition that they belong to, how far they have come with each
            source partition; empty where they have come as far as `offsets`.
    """

    offsets: dict[int, int]
    absorbed: dict[int, dict[int, int]]


@asynccontextmanager
async def export_snapshot(
    pool: asyncpg.Pool,
    kind: ExportKind,
    *,
    at: Mapping[int, int],
    wait: float,
    unsettled: bool = False,
) -> AsyncIterator[tuple[PoolConnectionProxy, ExportPoint]]:
    """A connection inside a snapshot that stands at one point of the log, and that point.

    Args:
        pool: The store.
        kind: What is to be read: lists must have absorbed what is consumed, tracks and popularity are never behind it.
        at: By partition, an offset whose event must be in; `track-interactions` are meant for popularity, else
            `track-ingest`.
        wait: Seconds to wait for such a point.
        unsettled: Take lists as they are, the partitions that they belong to at points of their own.

    Raises:
        PointNotReachedError: There has been none.
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is missing or another version's.
    """
    await require_schema(pool)
    deadline = time.monotonic() + wait
    while True:
        async with snapshot(pool) as connection:
            point = await _point(connection, kind)
            missing = _missing(point, kind, at, unsettled=unsettled)
            if missing is None:
                yield connection, point
                return
        if time.monotonic() >= deadline:
            raise PointNotReachedError(f"{missing} after {wait:g} s")
        await asyncio.sleep(_LOOK_SECONDS)


async def _point(connection: PoolConnectionProxy, kind: ExportKind) -> ExportPoint:
    if kind is ExportKind.POPULARITY:
        return ExportPoint(await interactions.interaction_offsets(connection), {})
    stored: StoreProgress = await progress.fetch_progress(connection)
    settled = kind is ExportKind.TRACKS or not any(map(stored.behind, stored.consumed))
    return ExportPoint(stored.consumed, {} if settled else stored.absorbed)


def _missing(point: ExportPoint, kind: ExportKind, at: Mapping[int, int], *, unsettled: bool) -> str | None:
    """What the snapshot lacks, in words; None where it will do."""
    for partition, offset in at.items():
        if point.offsets.get(partition, 0) <= offset:
            return f"event {partition}:{offset} is not in the store: it has {_told(point.offsets)}"
        late = [o for o, sources in point.absorbed.items() if sources.get(partition, 0) <= offset]
        if late:
            return f"event {partition}:{offset} is not in the lists of partitions {late} yet"
    if point.absorbed and kind is ExportKind.LISTS and not unsettled:
        return "the lists have not come as far as the tracks at any moment looked at: events keep coming in"
    return None


def _told(offsets: Mapping[int, int]) -> str:
    return ", ".join(f"{p}:{offset - 1}" for p, offset in sorted(offsets.items()) if offset) or "none"
