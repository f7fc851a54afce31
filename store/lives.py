"""The lives of workers: when each began, whether it is well, how it ended, and what it was working on.

What a process that was killed can say nothing about, the next start of its worker makes up for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store.pool import transaction, translated_errors

# Deaths that are still looked at: more than a supervisor's longest wait between two starts.
RECENT_SECONDS = 600
# A life of a name that is not seen for so long has ended without notice.
_FORGOTTEN_DAYS = 7
_NO_NOTICE = "ended without notice"

_END = """
UPDATE worker_lives AS l SET ended_at = now(), error = $2, offsets = coalesce(
    (SELECT jsonb_object_agg(p.partition, p.consumed_offset) FROM ingest_partitions AS p WHERE p.owner = l.owner), '{}'
)
WHERE l.worker = $1 AND l.ended_at IS NULL
"""
IS_ALIVE = "ended_at IS NULL AND seen_at > now() - interval '15 seconds'"
_DIED_AT = """
SELECT p.partition, p.consumed_offset, l.died, l.tried
FROM ingest_partitions AS p, LATERAL (
    SELECT count(*) AS died,
        count(*) FILTER (WHERE trial_partition = p.partition AND trial_offset = p.consumed_offset) AS tried
    FROM worker_lives
    WHERE error IS NOT NULL AND ended_at > now() - interval '1 hour' AND (offsets ->> p.partition::text)::bigint = p.consumed_offset
) AS l
WHERE p.partition = ANY($1::int[]) AND l.died > 0
"""
_STATE = f"""
SELECT
    count(*) FILTER (WHERE error IS NOT NULL AND ended_at > now() - $1 * interval '1 second') AS deaths,
    (SELECT worker || ': ' || error FROM worker_lives WHERE error IS NOT NULL ORDER BY ended_at DESC LIMIT 1) AS last_error,
    extract(epoch FROM now() - max(owning_at))::float8 AS owned_ago,
    max(stalled_seconds) FILTER (WHERE {IS_ALIVE}) AS stalled
FROM worker_lives
"""  # noqa: S608 -- a condition of this module's own
_ALIVE = f"""
SELECT l.worker, extract(epoch FROM now() - l.begun_at)::float8 AS seconds, l.figures #>> '{{}}' AS figures,
    ARRAY(SELECT partition FROM ingest_partitions AS p WHERE p.owner = l.owner ORDER BY partition) AS partitions
FROM worker_lives AS l
WHERE {IS_ALIVE}
ORDER BY l.worker
"""  # noqa: S608 -- likewise


@dataclass(frozen=True, slots=True)
class Suspect:
    """An offset at which workers have died within the hour.

    Attributes:
        offset: The next one to read of its partition.
        died: How often.
        tried: How often of these while nothing but the message there was worked on.
    """

    offset: int
    died: int
    tried: int


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that has been seen within the last 15 seconds.

    Attributes:
        name: The same at each start.
        seconds: Since its start.
        partitions: Those of track-ingest that it holds.
        figures: What it last said of its work.
    """

    name: str
    seconds: float
    partitions: tuple[int, ...]
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AnsweringWorker:
    """A worker that is there.

    Attributes:
        owner: As it claims partitions in this life.
        url: Where it answers questions; None as long as it has nothing to answer from.
        token: What it wants to be shown by who asks.
    """

    owner: str
    url: str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class WorkersState:
    """How the workers are.

    Attributes:
        deaths: How many have died within `RECENT_SECONDS`.
        last_error: Worker and error of the latest death; None where none is remembered.
        owned_ago: Seconds since one of them held a partition; None where none ever did.
        stalled: For how many seconds events have waited with none consumed, for the worker that waits longest.
        workers: Those that have been seen within the last 15 seconds, by name.
    """

    deaths: int
    last_error: str | None
    owned_ago: float | None
    stalled: float
    workers: tuple[LiveWorker, ...] = ()


async def begin_life(pool: asyncpg.Pool, worker: str, owner: str) -> None:
    """A worker starts: a life of its name that has not ended ends without notice.

    Args:
        pool: The store.
        worker: Its name, the same at each start.
        owner: As it claims partitions in this life.
    """
    async with transaction(pool) as connection:
        await connection.execute(_END, worker, _NO_NOTICE)
        await connection.execute(
            "DELETE FROM worker_lives WHERE seen_at < now() - make_interval(days => $1)", _FORGOTTEN_DAYS
        )
        await connection.execute("INSERT INTO worker_lives (worker, owner) VALUES ($1, $2)", worker, owner)


async def record_heartbeat(
    pool: asyncpg.Pool,
    owner: str,
    *,
    owning: bool,
    stalled_seconds: float,
    figures: Mapping[str, Any] | None = None,
) -> bool:
    """A worker is there; returns false if its life has been ended, as another process has begun one under its name.

    Args:
        pool: The store.
        owner: As it claims partitions in this life.
        owning: Whether it holds partitions.
        stalled_seconds: For how long events have waited with none consumed.
        figures: What it says of its work, as JSON; None leaves what it said before.
    """
    with translated_errors():
        status: str = await pool.execute(
            "UPDATE worker_lives SET seen_at = now(), stalled_seconds = $2, figures = coalesce($4::text::jsonb, figures), "
            "owning_at = CASE WHEN $3 THEN now() ELSE owning_at END WHERE owner = $1 AND ended_at IS NULL",
            owner,
            stalled_seconds,
            owning,
            None if figures is None else json.dumps(figures),
        )
        if not status.endswith(" 0"):
            return True
        # A row that is not there at all was of a database that has been made anew.
        return not await pool.fetchval(
            "SELECT EXISTS (SELECT FROM worker_lives WHERE owner = $1 AND ended_at IS NOT NULL)", owner
        )


async def answer_at(pool: asyncpg.Pool, owner: str, url: str, token: str) -> None:
    """A worker answers questions at `url`, of who shows `token`."""
    with translated_errors():
        await pool.execute(
            "UPDATE worker_lives SET questions_url = $2, questions_token = $3 WHERE owner = $1 AND ended_at IS NULL",
            owner,
            url,
            token,
        )


async def fetch_answering(pool: asyncpg.Pool) -> list[AnsweringWorker]:
    """The workers that have been seen within the last 15 seconds and have not ended."""
    with translated_errors():
        rows = await pool.fetch(
            f"SELECT owner, questions_url, questions_token FROM worker_lives WHERE {IS_ALIVE}"  # noqa: S608 -- likewise
        )
    return [AnsweringWorker(*row) for row in rows]


async def end_life(pool: asyncpg.Pool, worker: str, error: str | None) -> None:
    """A worker ends; `error` is what ended it, None where it was asked to."""
    with translated_errors():
        await pool.execute(_END, worker, error)


async def record_trial(pool: asyncpg.Pool, owner: str, partition: int, offset: int) -> None:
    """Nothing but the message there is worked on from now on."""
    with translated_errors():
        await pool.execute(
            "UPDATE worker_lives SET trial_partition = $2, trial_offset = $3 WHERE owner = $1 AND ended_at IS NULL",
            owner,
            partition,
            offset,
        )


async def suspect_offsets(
    connection: PoolConnectionProxy, partitions: Sequence[int]
) -> Mapping[int, Suspect]:
    """By partition, the next offset to read where workers have died at it."""
    rows = await connection.fetch(_DIED_AT, list(partitions))
    return {row[0]: Suspect(row[1], row[2], row[3]) for row in rows}


async def fetch_workers(pool: asyncpg.Pool) -> WorkersState:
    """How the workers are, by Postgres's clock."""
    with translated_errors():
        row = await pool.fetchrow(_STATE, float(RECENT_SECONDS))
        alive = await pool.fetch(_ALIVE)
    assert row is not None
    workers = tuple(
        LiveWorker(each["worker"], each["seconds"], tuple(each["partitions"]), json.loads(each["figures"]))
        for each in alive
    )
    return WorkersState(row["deaths"], row["last_error"], row["owned_ago"], row["stalled"] or 0.0, workers)
