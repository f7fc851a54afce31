"""For how long partitions stand still when one of several workers is killed, comes back, or is asked to stop."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaProducer

from benchmarks import end_to_end, machine, processes, report
from benchmarks.engine_rates import SyntheticTracks
from benchmarks.sizes import CatalogueSize, chosen_sizes
from mess import migrate
from mess.stack.ports import pick_free
from streams.contracts import encode_track
from streams.kafka.clients import start_producer
from streams.kafka.topics import TRACK_INGEST
from streams.settings import KafkaSettings

SIZES = [CatalogueSize(10_000, 128)]
QUICK = [CatalogueSize(2_000, 64)]
CREWS = (2, 4)
PARTITIONS = 8
# Each partition gets an event so often, and is looked at so often.
EVENT_SECONDS = 0.2
LOOK_SECONDS = 0.02
# A partition stands still for longer than this if nothing of it is consumed.
MOVING_SECONDS = 1.0
# All is well again when everything has moved for so long.
CALM_SECONDS = 5.0
PATIENCE = 240.0
# Longer than a busy machine takes to start a worker.
SESSION_SECONDS = 30
# A supervisor starts a process that has ended after so long.
SUPERVISOR_SECONDS = 0.5

_LOOK = "SELECT partition, consumed_offset, split_part(owner, '/', 1) FROM ingest_partitions"


@dataclass(frozen=True, slots=True)
class Standstill:
    """What one incident did.

    Attributes:
        what: The incident.
        victims: Seconds for which a partition of the worker in question stood still, the longest.
        others: Likewise of any other partition.
        moved: Partitions that had another owner afterwards.
        load: Load average.
    """

    what: str
    victims: float
    others: float
    moved: int
    load: str


class _Crew:
    """Workers with names and directories of their own."""

    def __init__(self, facts: dict[str, str], directory: Path) -> None:
        self._facts = facts
        self._directory = directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        (port,) = pick_free(1)
        variables = processes.environment(
            MESS_DATABASE_URL=self._facts["database_url"],
            MESS_KAFKA_BOOTSTRAP_SERVERS=self._facts["bootstrap_servers"],
            MESS_WORKER_PORT=str(port),
            MESS_WORKER_NAME=name,
            MESS_MAP_LAYOUT="false",
            MESS_SESSION_TIMEOUT_SECONDS=str(SESSION_SECONDS),
        )
        with (self._directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "mess", "worker"], env=variables, stdout=log, stderr=log
            )

    def end(self, name: str, number: signal.Signals) -> None:
        process = self.running.pop(name)
        process.send_signal(number)
        process.wait()

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


class _Watch:
    """When the consumed offset of each partition moved last, and for how long it has stood still."""

    def __init__(self, store: asyncpg.Pool) -> None:
        self._store = store
        self._offsets: dict[int, int] = {}
        self._moved: dict[int, float] = {}
        self.owners: dict[int, str] = {}
        self.longest: dict[int, float] = {}

    async def run(self) -> None:
        while True:
            now = time.perf_counter()
            for partition, offset, owner in await self._store.fetch(_LOOK):
                if self._offsets.get(partition) != offset:
                    self._offsets[partition], self._moved[partition] = offset, now
                still = now - self._moved[partition]
                self.longest[partition] = max(self.longest.get(partition, 0.0), still)
                self.owners[partition] = owner
            await asyncio.sleep(LOOK_SECONDS)

    async def calm(self, crew: Collection[str]) -> None:
        """Wait until these workers hold everything and all of it has moved for a while."""
        deadline, since = time.perf_counter() + PATIENCE, time.perf_counter()
        while time.perf_counter() < since + CALM_SECONDS:
            now = time.perf_counter()
            moving = all(now - at < MOVING_SECONDS for at in self._moved.values())
            if len(self._moved) < PARTITIONS or set(self.owners.values()) != set(crew) or not moving:
                since = now
            if now > deadline:
                raise RuntimeError(f"partitions stand still: {self.owners}, {self.longest}")
            await asyncio.sleep(LOOK_SECONDS)


async def _publish(producer: AIOKafkaProducer, tracks: SyntheticTracks) -> None:
    """An event for each partition, again and again."""
    number = 0
    while True:
        for partition in range(PARTITIONS):
            at = number % len(tracks.names)
            key, value = encode_track(tracks.names[at], tracks.vectors[at], {})
            await producer.send(TRACK_INGEST, key=key, value=value, partition=partition)
            number += 1
        await asyncio.sleep(EVENT_SECONDS)


@asynccontextmanager
async def _background(*work: object) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]  # type: ignore[arg-type]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _incident(what: str, victim: str, watch: _Watch, crew: _Crew, steps: object) -> Standstill:
    before = dict(watch.owners)
    watch.longest.clear()
    await steps  # type: ignore[misc]
    await watch.calm(crew.running)
    after = dict(watch.owners)
    theirs = {p for owners in (before, after) for p, owner in owners.items() if owner == victim}
    return Standstill(
        what,
        max((watch.longest[p] for p in theirs if before[p] == victim), default=0.0),
        max((watch.longest[p] for p in watch.longest if before[p] != victim), default=0.0),
        sum(before[p] != after[p] for p in before),
        machine.load_average(),
    )


async def _measure(
    size: CatalogueSize, workers: int, facts: dict[str, str], directory: Path
) -> list[Standstill]:
    tracks = SyntheticTracks.make(size.tracks, size.dimension)
    crew, names = _Crew(facts, directory), [f"worker-{number}" for number in range(1, workers + 1)]
    victim = names[-1]

    async def end(number: signal.Signals, back: float | None = None) -> None:
        await asyncio.to_thread(crew.end, victim, number)
        if back is not None:
            await asyncio.sleep(back)
            crew.start(victim)

    async def start() -> None:
        crew.start(victim)

    try:
        async with end_to_end.clients(facts, tracks) as (store, publisher):
            await publisher.send(0, size.tracks)
            for name in names:
                crew.start(name)
            watch = _Watch(store)
            producer = await start_producer(KafkaSettings(bootstrap_servers=facts["bootstrap_servers"]))
            with contextlib.suppress(asyncio.CancelledError):
                async with _background(watch.run(), _publish(producer, tracks)):
                    await watch.calm(names)
                    await asyncio.sleep(10.0)
                    found = [
                        await _incident(what, victim, watch, crew, step)
                        for what, step in (
                            ("killed, started again at once", end(signal.SIGKILL, SUPERVISOR_SECONDS)),
                            ("killed, stays away", end(signal.SIGKILL)),
                            ("comes back", start()),
                            ("asked to stop", end(signal.SIGTERM)),
                            ("comes back after it was asked", start()),
                        )
                    ]
            await producer.stop()
        return found
    finally:
        crew.close()


def main(*, quick: bool = False) -> None:
    """Run it and print a table for each size and number of workers."""
    for size in chosen_sizes() or (QUICK if quick else SIZES):
        for workers in CREWS:
            with tempfile.TemporaryDirectory(prefix="mess-bench-") as name, processes.services() as facts:
                migrate.upgrade_schema(facts["database_url"])
                found = asyncio.run(_measure(size, workers, facts, Path(name)))
            table = report.make_table(
                f"One of {workers} workers, {size}, an event a partition every {EVENT_SECONDS} s, {facts['broker']}",
                "it is",
                "its partitions stood still, s",
                "others, s",
                "moved",
                "load",
            )
            for one in found:
                table.add_row(one.what, f"{one.victims:.1f}", f"{one.others:.1f}", str(one.moved), one.load)
            report.print_table(table)


if __name__ == "__main__":
    main()
