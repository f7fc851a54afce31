"""What it costs to keep the lists that are replaced: flushes, WAL, and the whole way, with and without in turn."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import numpy as np

from benchmarks import end_to_end, machine, processes, report
from benchmarks.end_to_end import BenchmarkPublisher
from benchmarks.engine_rates import SyntheticTracks
from benchmarks.sizes import CatalogueSize
from mess import migrate
from store import lists
from store.pool import transaction
from store.rows import ListRows

SIZE, QUICK = CatalogueSize(10_000, 128), CatalogueSize(3_000, 128, events=512)
# Lists of one flush: what an insert changes, and what a burst does.
FEW, MANY = 60, 8_000
FEW_TIMES = 40
ROUNDS, QUICK_ROUNDS = 5, 2
WAYS = {False: {}, True: {"MESS_LIST_HISTORY": "1h"}}
_WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8"

# By whether lists are kept, one figure for each round.
Figures = dict[bool, list[float]]


async def _flushed(store: asyncpg.Pool, rows: ListRows, *, keep: bool) -> float:
    """Seconds of a flush."""
    began = time.perf_counter()
    async with transaction(store) as connection:
        await lists.flush_lists(connection, rows, np.empty(0, dtype=np.int64), keep=keep)
    return time.perf_counter() - began


def _drawn(rows: ListRows, count: int, rng: np.random.Generator) -> ListRows:
    """Some of the lists, each with a new neighbour somewhere: those behind it move on."""
    mask = np.zeros(len(rows.keys), dtype=np.bool_)
    mask[rng.choice(len(mask), count, replace=False)] = True
    drawn = rows.where(mask)
    for row, place in enumerate(rng.integers(drawn.neighbours.shape[1], size=count).tolist()):
        for values in (drawn.neighbours[row], drawn.scores[row]):
            values[place + 1 :] = values[place:-1].copy()
        drawn.neighbours[row, place] = rng.integers(2**62)
    return drawn


async def _flushes(store: asyncpg.Pool, rounds: int) -> dict[str, Figures]:
    """Microseconds and bytes of WAL that a list takes, in a flush of many and of few."""
    async with transaction(store) as connection:
        rows = await lists.read_lists(connection)
    rng = np.random.default_rng(2)
    found: dict[str, Figures] = {}
    # The first round is not counted.
    for number in range(rounds + 1):
        for keep in (False, True):
            for count, times in ((min(MANY, len(rows.keys)), 1), (FEW, FEW_TIMES)):
                parts = [_drawn(rows, count, rng) for _ in range(times)]
                before = await store.fetchval(_WAL)
                seconds = [await _flushed(store, part, keep=keep) for part in parts]
                wal = await store.fetchval(_WAL) - before
                if number:
                    what = f"flush of {'thousands' if times == 1 else count}"
                    each = float(np.median(seconds)) * 1e6 / count
                    found.setdefault(f"{what}, us a list", {False: [], True: []})[keep].append(each)
                    found.setdefault(f"{what}, WAL bytes a list", {False: [], True: []})[keep].append(
                        wal / times / count
                    )
    return found


async def _events(
    size: CatalogueSize, facts: dict[str, str], log: Path, rounds: int
) -> tuple[dict[str, Figures], dict[str, Figures], float]:
    """Events a second from the topic to lists committed, by a worker that keeps lists and one that does not."""
    bursts = 2 * rounds + 1
    tracks = SyntheticTracks.make(size.tracks + bursts * size.events, size.dimension)
    rates: Figures = {False: [], True: []}
    processor: Figures = {False: [], True: []}
    async with end_to_end.clients(facts, tracks) as (store, publisher):
        at = size.tracks
        with processes.running_worker(facts["database_url"], facts["bootstrap_servers"], log) as worker:
            await publisher.send(0, at)
            await end_to_end.committed(store, worker, publisher.ends)
        for number in range(rounds):
            # Each begins every other round: what comes later finds a larger catalogue.
            for keep in (bool(number % 2), not number % 2):
                report.progress(f"round {number + 1}, {'keeping' if keep else 'as it is'}")
                rate, seconds = await _burst(
                    facts, log, (store, publisher), (at, at + size.events), keep=keep
                )
                rates[keep].append(rate)
                processor[keep].append(seconds * 1e6)
                at += size.events
        whole = {"events/s, topic to lists": rates, "processor us an event, Postgres": processor}
        flushes = await _flushes(store, rounds)
        size_of = await store.fetchval("SELECT pg_total_relation_size('list_history')::float8")
        return whole, flushes, size_of / await store.fetchval("SELECT count(*) FROM list_history")


async def _burst(
    facts: dict[str, str],
    log: Path,
    connected: tuple[asyncpg.Pool, BenchmarkPublisher],
    span: tuple[int, int],
    *,
    keep: bool,
) -> tuple[float, float]:
    """Events a second, and seconds of Postgres's processor time an event, of inserts into the catalogue."""
    store, publisher = connected
    start, stop = span
    with processes.running_worker(
        facts["database_url"], facts["bootstrap_servers"], log, **WAYS[keep]
    ) as worker:
        publisher.prepare(start, stop)
        before, began = end_to_end.processor_seconds(worker), time.perf_counter()
        await publisher.send(start, stop)
        await end_to_end.committed(store, worker, publisher.ends)
        took = time.perf_counter() - began
        spent = end_to_end.processor_seconds(worker)["Postgres"] - before.get("Postgres", 0.0)
    # A worker that keeps none would have to delete them.
    await store.execute("TRUNCATE list_history")
    return (stop - start) / took, spent / (stop - start)


def _ratios(figures: Figures) -> Sequence[float]:
    """The ratio of each round, which others on the machine disturb alike."""
    return [with_it / without for without, with_it in zip(figures[False], figures[True], strict=True)]


def main(*, quick: bool = False) -> None:
    """Run it and print the table."""
    size, rounds = (QUICK, QUICK_ROUNDS) if quick else (SIZE, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="mess-bench-") as directory, processes.services() as facts:
        migrate.upgrade_schema(facts["database_url"])
        whole, flushes, stored = asyncio.run(_events(size, facts, Path(directory) / "worker.log", rounds))
    table = report.make_table(
        f"Keeping lists that are replaced, {size}, {rounds} rounds in turn",
        "what",
        "without: median",
        "with: median",
        "ratio: median",
        "ratio: least, most",
    )
    for what, figures in (whole | flushes).items():
        ratios = _ratios(figures)
        table.add_row(
            what,
            *(f"{np.median(figures[keep]):,.0f}" for keep in (False, True)),
            f"{np.median(ratios):.2f}",
            f"{min(ratios):.2f}, {max(ratios):.2f}",
        )
    report.print_table(
        table,
        f"A kept list takes {stored:,.0f} bytes with its indexes. Load average {machine.load_average()}.",
    )


if __name__ == "__main__":
    main()
