"""The whole way, from the topic to lists committed: a real broker, Postgres and worker."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata
from pydantic import SecretStr

from benchmarks import machine, processes, report
from benchmarks.engine_rates import SyntheticTracks
from benchmarks.sizes import CatalogueSize
from mess.audit import AuditReport, audit_store
from store import lists
from store.pool import open_pool, transaction
from store.rows import ListRows
from store.settings import StoreSettings
from streams.contracts import encode_track
from streams.kafka.clients import deliver_in_batches, start_producer
from streams.kafka.topics import TRACK_INGEST, ensure_topics
from streams.settings import KafkaSettings, StreamSettings

PATIENCE = 280.0
# So many seconds more for each track, and how often a long wait says how far it is.
PATIENCE_A_TRACK = 1 / 400
PROGRESS_SECONDS = 15.0
# Messages that are sent before their delivery is awaited: steadily, and as fast as the broker takes them.
AWAITED = 10_000
BURST = 2_048
# Times the events that the engine alone is timed with: the first and the last flush of a burst weigh less.
BURSTS = 2
FRESHNESS_SECONDS = 8.0
# The least time between messages that are sent steadily, unless they are sent together.
TICK_SECONDS = 0.01
# Events a second that are aimed at: freshness is wanted at half of these, or of what there is.
AIMS = {(10_000, 768): 3_000, (50_000, 768): 1_200, (100_000, 768): 600}
# How often the lists are looked at for `freshness`, and what share of the time that may take: it reads all of the table.
LOOK_SECONDS = 0.2
LOOK_SHARE = 0.05
FLUSHED_LISTS = 10_000

_ABSORBED = "SELECT source_partition, min(absorbed_offset) FROM absorbed_offsets GROUP BY 1"
_SHORT = """
SELECT count(*) FROM tracks AS t LEFT JOIN neighbour_lists AS l USING (key)
WHERE coalesce(cardinality(l.neighbours), 0) < least(50, (SELECT count(*) FROM tracks) - 1)
"""
_FRESHNESS = """
SELECT extract(epoch FROM generated_at - event_time)::float8, version FROM neighbour_lists WHERE version > $1
"""


@dataclass(slots=True)
class EndToEndMeasurement:
    """What was measured at one size.

    Attributes:
        bootstrap_seconds: From the first of the catalogue's events being sent to all lists committed.
        rate: Events a second with the catalogue in place.
        phases: Share of that time by phase of the worker and of its engine; they overlap.
        processor: Seconds of processor time an event took then, by process.
        half_rate: What was sent steadily for `freshness`.
        freshness: Seconds from the newest event that a list takes account of to the list being committed, float64 (m,):
            of every version of a list that was seen in the steady part, from its first event to its last list. It is
            looked at several times a second, so a version that another soon replaced may be missed; looking costs
            Postgres up to a twentieth of a core.
        flush_rate: Lists a second of `store.lists.flush_lists` alone on this Postgres.
        audited: All stored lists against brute force.
        peaks: Peak memory by process.
        load: Load average at the end.
    """

    bootstrap_seconds: float = 0.0
    rate: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)
    half_rate: float = 0.0
    freshness: np.ndarray = field(default_factory=lambda: np.zeros(1))
    flush_rate: float = 0.0
    audited: AuditReport | None = None
    peaks: dict[str, int] = field(default_factory=dict)
    load: str = ""


class BenchmarkPublisher:
    """Sends inserts and knows where they are in the log."""

    def __init__(self, producer: AIOKafkaProducer, tracks: SyntheticTracks) -> None:
        self._producer = producer
        self._tracks = tracks
        self._prepared: dict[int, tuple[bytes, bytes]] = {}
        self.ends: dict[int, int] = {}

    def prepare(self, start: int, stop: int) -> None:
        """Make the messages of some of the tracks now: what is timed is not the making of a load."""
        self._prepared = {number: self._message(number) for number in range(start, stop)}

    def _message(self, number: int) -> tuple[bytes, bytes]:
        if number in self._prepared:
            return self._prepared[number]
        name = self._tracks.names[number]
        return encode_track(name, self._tracks.vectors[number], {"title": name})

    async def send(self, start: int, stop: int, rate: float | None = None) -> None:
        """Send some of the tracks, as fast as the broker takes them or at a steady rate, and await all."""
        if rate is None:
            for begin in range(start, stop, BURST):
                messages = [self._message(number) for number in range(begin, min(begin + BURST, stop))]
                places = await deliver_in_batches(self._producer, TRACK_INGEST, messages)
                self.ends |= {partition: offset + 1 for partition, offset in sorted(places)}
            return
        began, waiting = time.perf_counter(), []
        for number in range(start, stop):
            # As many as are due together: a load of its own would be waking up for each.
            if began + (number - start) / rate > time.perf_counter():
                await asyncio.sleep(max(TICK_SECONDS, 1 / rate))
            key, value = self._message(number)
            waiting.append(await self._producer.send(TRACK_INGEST, key=key, value=value))
            if len(waiting) == AWAITED:
                await self._sent(waiting)
        await self._sent(waiting)

    async def _sent(self, waiting: list[asyncio.Future[RecordMetadata]]) -> None:
        for record in await asyncio.gather(*waiting):
            self.ends[record.partition] = max(self.ends.get(record.partition, 0), record.offset + 1)
        waiting.clear()


async def committed(
    store: asyncpg.Pool, worker: processes.BenchmarkWorker, ends: dict[int, int], patience: float = PATIENCE
) -> None:
    """Wait until the stored lists have absorbed everything up to `ends` and none is short."""
    began = said = time.monotonic()
    while time.monotonic() < began + patience:
        worker.require()
        absorbed = dict(await store.fetch(_ABSORBED))
        behind = any(absorbed.get(p, 0) < end for p, end in ends.items())
        if not behind and not await store.fetchval(_SHORT):
            return
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            report.progress(_how_far(worker))
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the lists were not committed within {patience:.0f} s")


def _how_far(worker: processes.BenchmarkWorker) -> str:
    now = worker.metrics()
    tracks, lists_written = now.get("mess_engine_tracks", 0), now.get("mess_lists_written_total", 0)
    waiting = now.get("mess_engine_waiting_refills", 0)
    return (
        f"the engine holds {tracks:,.0f} tracks, {waiting:,.0f} lists to be made, {lists_written:,.0f} written;"
        f" load {machine.load_average()}"
    )


def _spent(worker: processes.BenchmarkWorker) -> dict[str, float]:
    found = {}
    for name, value in worker.metrics().items():
        for prefix in ("mess_ingest_phase_seconds_sum", "mess_engine_seconds"):
            if name.startswith(f"{prefix}["):
                kind = "engine " if "engine" in prefix else ""
                found[kind + name.removeprefix(f"{prefix}[").removesuffix("]")] = value
    return found


def processor_seconds(worker: processes.BenchmarkWorker) -> dict[str, float]:
    """Processor time so far of everything that takes part, by what it is."""
    found = {"publisher": sum(psutil.Process().cpu_times()[:2])}
    parts = {pid: name for name, pid in _named(worker).items()}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            kind = {"postgres": "Postgres", "java": "broker"}.get(process.name(), "search and others")
            name = parts.get(process.pid, kind)
            found[name] = found.get(name, 0.0) + sum(process.cpu_times()[:2])
    return found


async def _flush_rate(store: asyncpg.Pool) -> float:
    """Lists a second that Postgres takes when nothing else happens: COPY and UPDATE, the best of three."""
    async with transaction(store) as connection:
        keys = np.array([key for (key,) in await connection.fetch("SELECT key FROM neighbour_lists")])
        rows: ListRows = await lists.read_lists_of(connection, keys[:FLUSHED_LISTS])
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        async with transaction(store) as connection:
            await lists.flush_lists(connection, rows, np.empty(0, dtype=np.int64))
        best = min(best, time.perf_counter() - began)
    return len(rows.keys) / best


@asynccontextmanager
async def clients(
    facts: dict[str, str], tracks: SyntheticTracks
) -> AsyncIterator[tuple[asyncpg.Pool, BenchmarkPublisher]]:
    """Make the topics; yields the store and who publishes these tracks."""
    kafka = KafkaSettings(bootstrap_servers=facts["bootstrap_servers"])
    await ensure_topics(kafka, StreamSettings(), wait=30)
    settings = StoreSettings(database_url=SecretStr(facts["database_url"]), command_timeout=PATIENCE)
    store = await open_pool(settings, application_name="benchmark")
    producer = await start_producer(kafka, linger_ms=5, max_batch_size=512 * 1024)
    try:
        yield store, BenchmarkPublisher(producer, tracks)
    finally:
        await producer.stop()
        await store.close()


@asynccontextmanager
async def _with_catalogue(
    size: CatalogueSize,
    facts: dict[str, str],
    log: Path,
    connected: tuple[asyncpg.Pool, BenchmarkPublisher],
    found: EndToEndMeasurement,
) -> AsyncIterator[processes.BenchmarkWorker]:
    """A worker that has made the catalogue's lists from nothing; notes in `found` how long, and its memory to the end."""
    store, publisher = connected
    with (
        processes.running_worker(facts["database_url"], facts["bootstrap_servers"], log) as worker,
        machine.peak_memory(lambda: _named(worker)) as found.peaks,
    ):
        began = time.perf_counter()
        await publisher.send(0, size.tracks)
        await committed(store, worker, publisher.ends, PATIENCE + size.tracks * PATIENCE_A_TRACK)
        found.bootstrap_seconds = time.perf_counter() - began
        yield worker


async def _freshness(store: asyncpg.Pool, steady: Coroutine[Any, Any, None]) -> np.ndarray:
    """See `EndToEndMeasurement.freshness`: of the versions of lists that appear while `steady` runs."""
    version = await store.fetchval("SELECT coalesce(max(version), 0) FROM neighbour_lists")
    seen: list[float] = []
    async with asyncio.TaskGroup() as group:
        task, ended = group.create_task(steady), False
        while not ended:
            ended, began = task.done(), time.perf_counter()
            for seconds, newer in await store.fetch(_FRESHNESS, version):
                seen.append(seconds)
                version = max(version, newer)
            took = time.perf_counter() - began
            await asyncio.wait([task], timeout=max(LOOK_SECONDS, took / LOOK_SHARE))
    return np.array(seen)


async def _measure(size: CatalogueSize, facts: dict[str, str], log: Path) -> EndToEndMeasurement:
    steady = int(size.events * FRESHNESS_SECONDS)
    tracks = SyntheticTracks.make(size.tracks + BURSTS * size.events + steady, size.dimension)
    found = EndToEndMeasurement()
    async with clients(facts, tracks) as (store, publisher):
        async with _with_catalogue(size, facts, log, (store, publisher), found) as worker:
            events = BURSTS * size.events
            end = size.tracks + events
            publisher.prepare(size.tracks, end)
            before, processor, began = _spent(worker), processor_seconds(worker), time.perf_counter()
            await publisher.send(size.tracks, end)
            await committed(store, worker, publisher.ends)
            took = time.perf_counter() - began
            found.rate = events / took
            now = processor_seconds(worker)
            found.processor = {name: (now[name] - processor.get(name, 0.0)) / events for name in now}
            await asyncio.sleep(1)
            found.phases = {k: (v - before.get(k, 0.0)) / took for k, v in _spent(worker).items()}

            found.half_rate = min(found.rate, AIMS.get((size.tracks, size.dimension), found.rate)) / 2
            stop = min(end + steady, end + int(found.half_rate * FRESHNESS_SECONDS))
            publisher.prepare(end, stop)

            async def publish() -> None:
                await publisher.send(end, stop, found.half_rate)
                await committed(store, worker, publisher.ends)

            found.freshness = await _freshness(store, publish())
        found.flush_rate = await _flush_rate(store)
        sample = None if size.tracks <= size.audited else size.audited // 4
        found.audited = await audit_store(store, sample=sample)
    found.load = machine.load_average()
    return found


async def _measure_start(size: CatalogueSize, facts: dict[str, str], log: Path) -> EndToEndMeasurement:
    tracks = SyntheticTracks.make(size.tracks, size.dimension)
    found = EndToEndMeasurement()
    async with clients(facts, tracks) as (store, publisher):
        async with _with_catalogue(size, facts, log, (store, publisher), found) as worker:
            found.phases = {k: v / found.bootstrap_seconds for k, v in _spent(worker).items()}
        found.audited = await audit_store(store, sample=min(size.tracks, size.audited))
    found.load = machine.load_average()
    return found


def measure_start(size: CatalogueSize, facts: dict[str, str], log: Path) -> None:
    """Measure only how long a catalogue takes from the topic to all its lists committed, and print it."""
    found = asyncio.run(_measure_start(size, facts, log))
    assert found.audited is not None
    table = report.make_table(
        f"From topic to all lists committed, {size}, {facts['broker']}", "what", "figure"
    )
    table.add_row("seconds", f"{found.bootstrap_seconds:.1f}")
    table.add_row("events/s", f"{size.tracks / found.bootstrap_seconds:,.0f}")
    table.add_row("recall@50 of the stored lists", f"{found.audited.findings.recall(50):.6f}")
    table.add_row("  lists audited, not right", f"{_wrong(found.audited)}")
    for name, peak in found.peaks.items():
        table.add_row(f"peak memory, {name}", report.mebibytes(peak))
    table.add_row("load average", found.load)
    spent = ", ".join(f"{name} {share:.0%}" for name, share in sorted(found.phases.items(), key=_by_share))
    report.print_table(table, f"Shares of the time by phase (they overlap): {spent}.")


def _named(worker: processes.BenchmarkWorker) -> dict[str, int]:
    engine = machine.engine_pid(worker.pid)
    return {"worker": worker.pid} | ({"engine": engine} if engine else {})


def measure_end_to_end(
    size: CatalogueSize, facts: dict[str, str], log: Path, engine_rate: float | None
) -> float:
    """Measure one size on an empty database and broker, print its table, and return events a second."""
    found = asyncio.run(_measure(size, facts, log))
    assert found.audited is not None
    p50, p90, p99 = report.percentiles(found.freshness)
    table = report.make_table(f"From topic to lists committed, {size}, {facts['broker']}", "what", "figure")
    table.add_row("catalogue from nothing, seconds", f"{found.bootstrap_seconds:.1f}")
    table.add_row("catalogue from nothing, events/s", f"{size.tracks / found.bootstrap_seconds:,.0f}")
    table.add_row(f"events/s, {BURSTS * size.events:,} inserts into it", f"{found.rate:,.0f}")
    if engine_rate is not None:
        table.add_row("  of the engine alone in this run", f"{found.rate / engine_rate:.0%}")
    for name, seconds in sorted(found.processor.items(), key=_by_share):
        table.add_row(f"  of a processor's time, {name}", f"{seconds * 1e6:,.0f} us an event")
    table.add_row(f"freshness at {found.half_rate:,.0f}/s: p50, p90, p99 ms", f"{p50}, {p90}, {p99}")
    table.add_row("recall@50 of the stored lists", f"{found.audited.findings.recall(50):.6f}")
    table.add_row("  lists audited, not right", f"{_wrong(found.audited)}")
    table.add_row("lists/s of Postgres alone (COPY, UPDATE)", f"{found.flush_rate:,.0f}")
    for name, peak in found.peaks.items():
        table.add_row(f"peak memory, {name}", report.mebibytes(peak))
    table.add_row("load average", found.load)
    spent = ", ".join(f"{name} {share:.0%}" for name, share in sorted(found.phases.items(), key=_by_share))
    report.print_table(table, f"Shares of the time by phase (they overlap): {spent}.")
    return found.rate


def _by_share(item: tuple[str, float]) -> float:
    return -item[1]


def _wrong(audited: AuditReport) -> str:
    return f"{audited.findings.tracks:,}, {audited.findings.tracks - audited.findings.right:,}"
