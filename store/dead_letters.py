"""Which dead letters have been handled: written and read by `mess dead-letters` alone."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

import asyncpg

from store.errors import StoreError
from store.pool import transaction, translated_errors

Action = Literal["replayed", "dropped"]

# Twice the default retention of dead letters: a record outlives its dead letter.
_KEPT_DAYS = 60


class DeadLettersBusyError(StoreError):
    """Another `mess dead-letters` is replaying or dropping."""

    def __init__(self) -> None:
        super().__init__(
            "another `mess dead-letters` is at work on this database: try again when it has ended"
        )


class DeadLetterId(NamedTuple):
    """Identifies a dead letter.

    Attributes:
        partition: Its partition of dead-letters.
        offset: Its offset there.
        written_at: The message's timestamp, milliseconds since 1970: a topic that is created anew repeats offsets.
    """

    partition: int
    offset: int
    written_at: int


@dataclass(frozen=True, slots=True)
class HandledDeadLetter:
    """What was done about a dead letter, and when."""

    action: Action
    handled_at: datetime


async def fetch_handled(pool: asyncpg.Pool) -> dict[DeadLetterId, HandledDeadLetter]:
    """All handled dead letters.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        rows = await pool.fetch(
            'SELECT partition, "offset", written_at, action, handled_at FROM handled_letters'
        )
    return {
        DeadLetterId(row["partition"], row["offset"], row["written_at"]): HandledDeadLetter(
            row["action"], row["handled_at"]
        )
        for row in rows
    }


async def mark_handled(pool: asyncpg.Pool, letters: Collection[DeadLetterId], action: Action) -> None:
    """Record that `action` was done about `letters`; it replaces an earlier action. Very old records are deleted.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    async with transaction(pool) as connection:
        await connection.executemany(
            """
            INSERT INTO handled_letters (partition, "offset", written_at, action) VALUES ($1, $2, $3, $4)
            ON CONFLICT (partition, "offset", written_at)
            DO UPDATE SET action = excluded.action, handled_at = now()
            """,
            [(*letter, action) for letter in letters],
        )
        await connection.execute(
            "DELETE FROM handled_letters WHERE handled_at < now() - make_interval(days => $1)", _KEPT_DAYS
        )


async def tracks_written_since(
    pool: asyncpg.Pool, events: Sequence[tuple[str, int, int]], schema: str | None = None
) -> set[tuple[str, int, int]]:
    """Which `events` of a generation are older than the stored version of their track.

    Args:
        pool: The store.
        events: Track id, source partition and source offset of each.
        schema: The generation's; None: the catalogue's own.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    # Postgres holds no text with a NUL, so there is no such track.
    sought = [event for event in events if "\0" not in event[0]]
    with translated_errors():
        tracks = "tracks" if schema is None else f"{schema}.tracks"
        if await pool.fetchval("SELECT to_regclass($1)", tracks) is None:  # retired
            return set()
        rows = await pool.fetch(
            f"""
            SELECT asked.track_id, asked.partition, asked.position
            FROM unnest($1::text[], $2::int[], $3::bigint[]) AS asked (track_id, partition, position)
            JOIN {tracks} AS t USING (track_id)
            WHERE t.source_partition = asked.partition AND t.source_offset > asked.position
            """,  # noqa: S608 -- a name of our own
            [event[0] for event in sought],
            [event[1] for event in sought],
            [event[2] for event in sought],
        )
    return {(row["track_id"], row["partition"], row["position"]) for row in rows}


@asynccontextmanager
async def only_operator(pool: asyncpg.Pool) -> AsyncIterator[None]:
    """Hold the lock on dead letters: no other operator replays or drops any meanwhile.

    Raises:
        DeadLettersBusyError: Another operator holds it.
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        async with pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext('mess-dead-letters'))"):
                raise DeadLettersBusyError
            try:
                yield
            finally:
                await connection.execute("SELECT pg_advisory_unlock(hashtext('mess-dead-letters'))")
