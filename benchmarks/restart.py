"""How soon a worker keeps the lists again after its start: from a snapshot and the tail of the log, and from Postgres."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks import end_to_end, machine, processes, report
from benchmarks.engine_rates import SyntheticTracks
from benchmarks.sizes import CatalogueSize, chosen_sizes
from mess import migrate
from mess.audit import audit_store
from streams.maintenance.snapshots import NOTES, SNAPSHOT

SIZES = [CatalogueSize(50_000, 768, audited=1_000)]
QUICK = [CatalogueSize(4_000, 128, audited=1_000)]
# Events that come while the worker is down: the tail of the log that it starts with.
TAIL = 500
SNAPSHOT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RestartMeasurement:
    """One start of the worker.

    Attributes:
        name: What it starts from.
        active: Seconds from its process's start until it holds its partitions and keeps their lists.
        caught_up: Seconds until the lists have absorbed what came while it was down.
        load: Load average at the end.
    """

    name: str
    active: float
    caught_up: float
    load: str


class _Bench:
    """A worker that is started again and again, on services that stay."""

    def __init__(
        self,
        facts: dict[str, str],
        store: asyncpg.Pool,
        publisher: end_to_end.BenchmarkPublisher,
        directory: Path,
        size: CatalogueSize,
    ) -> None:
        self._facts = facts
        self._store = store
        self._publisher = publisher
        self._data = directory / "data"
        self._log = directory / "worker.log"
        self._sent = size.tracks

    def worker(self) -> AbstractContextManager[processes.BenchmarkWorker]:
        """The worker, with a directory that keeps snapshots."""
        return processes.running_worker(
            self._facts["database_url"],
            self._facts["bootstrap_servers"],
            self._log,
            MESS_DATA_DIR=str(self._data),
            MESS_SNAPSHOT_SECONDS=str(SNAPSHOT_SECONDS),
        )

    async def load(self) -> None:
        """Publish the catalogue, and stop when all lists are stored and a snapshot has them."""
        with self.worker() as worker:
            await self._publisher.send(0, self._sent)
            await end_to_end.committed(self._store, worker, self._publisher.ends)
            stored, notes = time.time(), self._data / NOTES
            while not notes.exists() or notes.stat().st_mtime < stored:
                worker.require()
                await asyncio.sleep(0.1)
            await asyncio.sleep(2 * SNAPSHOT_SECONDS)  # one that had begun before may have ended first

    async def start(self, name: str, before: Callable[[Path], object] = lambda _: None) -> RestartMeasurement:
        """Publish the tail while no worker runs, and start one."""
        await self._publisher.send(self._sent, self._sent + TAIL)
        self._sent += TAIL
        before(self._data)
        began = time.perf_counter()
        with self.worker() as worker:
            active = time.perf_counter() - began
            await end_to_end.committed(self._store, worker, self._publisher.ends)
            caught_up = time.perf_counter() - began
        return RestartMeasurement(name, active, caught_up, machine.load_average())


async def _measure(
    size: CatalogueSize, facts: dict[str, str], directory: Path
) -> tuple[list[RestartMeasurement], str]:
    tracks = SyntheticTracks.make(size.tracks + 4 * TAIL, size.dimension)
    async with end_to_end.clients(facts, tracks) as (store, publisher):
        bench = _Bench(facts, store, publisher, directory, size)
        await bench.load()
        restarts = [
            await bench.start("a snapshot"),
            await bench.start("the same, twice as old"),
            await bench.start("Postgres, as the snapshot is damaged", _damage),
            await bench.start("Postgres alone, without a snapshot", shutil.rmtree),
        ]
        audited = await audit_store(store, sample=size.audited)
        wrong = audited.findings.tracks - audited.findings.right
        return restarts, f"Lists audited after all of it: {audited.findings.tracks:,}, not right: {wrong:,}."


def _damage(data: Path) -> None:
    path = data / SNAPSHOT
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * 4_096)


def main(*, quick: bool = False) -> None:
    """Run it and print a table for each size."""
    for size in chosen_sizes() or (QUICK if quick else SIZES):
        with tempfile.TemporaryDirectory(prefix="mess-bench-") as directory, processes.services() as facts:
            migrate.upgrade_schema(facts["database_url"])
            restarts, note = asyncio.run(_measure(size, facts, Path(directory)))
        table = report.make_table(
            f"A worker's start, {size}, {TAIL} events waiting, {facts['broker']}",
            "from",
            "keeps lists after s",
            "has caught up after s",
            "load",
        )
        for one in restarts:
            table.add_row(one.name, f"{one.active:.1f}", f"{one.caught_up:.1f}", one.load)
        report.print_table(table, note)


if __name__ == "__main__":
    main()
