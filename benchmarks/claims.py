"""What the number of partitions costs a flush, the API's poll and the feed, and how long a claim of many lists takes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import asyncpg
import asyncpg.cursor
import numpy as np

from benchmarks import machine, processes, report
from benchmarks.sizes import CatalogueSize, chosen_sizes
from mess import migrate
from store import lists, partitions, progress, told
from store.settings import StoreSettings

PARTITIONS = (8, 64, 256)
TIMES = 10
SIZES = [CatalogueSize(300_000, 128)]
QUICK = [CatalogueSize(30_000, 64)]
# Tracks and lists that one statement writes.
FILLED_ROWS = 50_000

# A row for each pair of partitions, as it was before.
_PAIRS = """
CREATE TEMP TABLE pairs (owner integer, source integer, at bigint NOT NULL, PRIMARY KEY (owner, source))
"""
_PAIRS_WRITE = """
INSERT INTO pairs AS p SELECT owner, source, at
FROM unnest($1::int[]) AS owner, unnest($2::int[], $3::bigint[]) AS n (source, at)
ON CONFLICT (owner, source) DO UPDATE SET at = excluded.at WHERE p.at < excluded.at
"""
_PAIRS_READ = """
SELECT ARRAY(SELECT owner::bigint FROM pairs ORDER BY owner, source),
    ARRAY(SELECT source::bigint FROM pairs ORDER BY owner, source), ARRAY(SELECT at FROM pairs ORDER BY owner, source)
"""
_TRACKS = """
INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time)
SELECT 'track/' || i, hashint8extended(i, 0), decode(repeat('00', $3), 'hex'), i % $4, i / $4, now()
FROM generate_series($1::bigint, $2) AS i
"""
_LISTS = """
INSERT INTO neighbour_lists
SELECT hashint8extended(i, 0), n.keys, n.scores, 1, i % $3, i / $3, now(), now()
FROM (SELECT array_agg(g) AS keys, array_agg(g::real) AS scores FROM generate_series(1::bigint, 50) AS g) AS n,
    generate_series($1::bigint, $2) AS i
"""


@dataclass
class Longest:
    """The longest statement of those that ran.

    Attributes:
        seconds: Its time.
        text: What it was.
    """

    seconds: float = 0.0
    text: str = ""

    def note(self, seconds: float, text: str) -> None:
        """Take notice of a statement."""
        if seconds > self.seconds:
            self.seconds, self.text = seconds, " ".join(text.split())[:60]


@dataclass
class ClaimMeasurement:
    """A claim of all partitions.

    Attributes:
        lists: How many were read.
        seconds: From the new epochs to the lists in memory.
        longest: The statement that took longest.
    """

    lists: int = 0
    seconds: float = 0.0
    longest: Longest = field(default_factory=Longest)


@contextmanager
def _cursors_timed(longest: Longest) -> Iterator[None]:
    """Fetches of cursors are no statements to asyncpg's loggers, but each has the time of one."""
    fetch = asyncpg.cursor.Cursor.fetch

    async def timed(cursor: asyncpg.cursor.Cursor, n: int) -> object:
        began = time.perf_counter()
        try:
            return await fetch(cursor, n)
        finally:
            longest.note(time.perf_counter() - began, "a page of a cursor")

    asyncpg.cursor.Cursor.fetch = timed
    try:
        yield
    finally:
        asyncpg.cursor.Cursor.fetch = fetch


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    timeout = StoreSettings.model_fields["command_timeout"].default
    connection = await asyncpg.connect(database_url, command_timeout=timeout)
    try:
        yield connection
    finally:
        await connection.close()


async def _interleaved(steps: dict[str, Callable[[int], Awaitable[object]]]) -> dict[str, np.ndarray]:
    """Milliseconds of each, by turns."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(TIMES + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            await step(turn + 1)
            if turn:  # the first writes rows that the others update
                found[name].append((time.perf_counter() - began) * 1000)
    return {name: np.array(times) for name, times in found.items()}


async def _measure_offsets(database_url: str, count: int) -> dict[str, np.ndarray]:
    async with _connected(database_url) as connection:
        await connection.execute(_PAIRS)
        await connection.execute("TRUNCATE ingest_partitions, owner_progress, told_offsets")
        owners = list(range(count))
        await partitions.claim_partitions(connection, owners, "benchmark")

        def at(turn: int) -> dict[int, int]:
            return dict.fromkeys(owners, turn)

        return await _interleaved(
            {
                "record, pairs": lambda turn: connection.execute(
                    _PAIRS_WRITE, owners, owners, [turn] * count
                ),
                "record": lambda turn: partitions.record_absorbed(connection, owners, at(turn)),
                "poll, pairs": lambda _: connection.fetchrow(_PAIRS_READ),
                "poll": lambda _: progress.fetch_progress(connection),
                "told": lambda turn: told.move_told_positions(connection, owners, at(turn)),
            }
        )


async def _fill(database_url: str, size: CatalogueSize, count: int) -> None:
    async with _connected(database_url) as connection:
        for first in range(0, size.tracks, FILLED_ROWS):
            last = min(first + FILLED_ROWS, size.tracks) - 1
            await connection.execute(_TRACKS, first, last, size.dimension * 4, count, timeout=600)
            await connection.execute(_LISTS, first, last, count, timeout=600)
        await connection.execute("ANALYZE tracks, neighbour_lists", timeout=600)


async def _measure_claim(database_url: str, count: int) -> ClaimMeasurement:
    found, owners = ClaimMeasurement(), list(range(count))
    async with _connected(database_url) as connection:
        connection.add_query_logger(lambda record: found.longest.note(record.elapsed, record.query))
        began = time.perf_counter()
        with _cursors_timed(found.longest):
            async with connection.transaction():
                await partitions.claim_partitions(connection, owners, "benchmark")
            async with connection.transaction():
                await lists.drop_orphaned_lists(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                stored = await lists.read_lists_owned(connection, dict.fromkeys(owners, -1))
                await partitions.absorbed_offsets(connection)
        found.seconds, found.lists = time.perf_counter() - began, len(stored.keys)
    return found


def _print_offsets(found: dict[int, dict[str, np.ndarray]], load: str) -> None:
    table = report.make_table(
        "Offsets of all partitions, owned by one worker; least and median of ten, ms",
        "partitions",
        *found[PARTITIONS[0]],
    )
    for count, times in found.items():
        table.add_row(str(count), *(f"{each.min():,.1f}, {np.median(each):,.1f}" for each in times.values()))
    report.print_table(
        table, f"Load {load}. Record: a flush. Poll: the API, twenty times a second. Told: the feed."
    )


def main(*, quick: bool = False) -> None:
    """Run it and print a table of offsets, and one of claims."""
    with processes.services("--broker=none") as facts:
        migrate.upgrade_schema(facts["database_url"])
        offsets = {count: asyncio.run(_measure_offsets(facts["database_url"], count)) for count in PARTITIONS}
        _print_offsets(offsets, machine.load_average())
    table = report.make_table(
        "A claim of all lists", "lists", "partitions", "all of it, s", "longest statement, s", "which", "load"
    )
    for size in chosen_sizes() or (QUICK if quick else SIZES):
        for count in (PARTITIONS[0], PARTITIONS[-1]):
            with contextlib.ExitStack() as stack:
                facts = stack.enter_context(processes.services("--broker=none"))
                migrate.upgrade_schema(facts["database_url"])
                asyncio.run(_fill(facts["database_url"], size, count))
                found = asyncio.run(_measure_claim(facts["database_url"], count))
            table.add_row(
                f"{found.lists:,}",
                str(count),
                f"{found.seconds:,.1f}",
                f"{found.longest.seconds:,.2f}",
                found.longest.text,
                machine.load_average(),
            )
    report.print_table(
        table, "As a worker reads them that takes everything over; the engine's part is not in it."
    )


if __name__ == "__main__":
    main()
