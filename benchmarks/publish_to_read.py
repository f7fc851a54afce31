"""From publishing one track to reading the effect over HTTP, on a local stack with the demo catalogue.

The clock starts at the broker's acknowledgement and stops when an HTTP answer shows the effect: a complete list for a
new track, the new first neighbour for a re-embedded one, and for a withdrawn one that none of the lists that named it
does so any more. Also: seconds to ready and to all lists, peak memory of each process, recall of the stored lists.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import asyncpg
import numpy as np
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from benchmarks import machine, processes, report
from mess.audit import AuditReport, audit_store
from mess.demo import catalogue
from mess.demo.catalogue import DemoCatalogue
from store.pool import open_pool
from store.settings import StoreSettings
from streams.contracts import encode_track, track_key
from streams.kafka.topics import TRACK_INGEST

BACKGROUND_RATE = 100
PATIENCE = 60.0
# A series ends then, however many events it has: on a busy machine each takes long.
SERIES_SECONDS = 25.0
POLL_SECONDS = 0.005


class FreshnessProber:
    """Publishes single events and reads until their effect shows.

    Args:
        url: The API's.
        producer: Started.
        http: A client session.
        store: To find the lists that name a track.
        demo: The catalogue that is there.
    """

    def __init__(
        self,
        url: str,
        producer: AIOKafkaProducer,
        http: aiohttp.ClientSession,
        store: asyncpg.Connection,
        demo: DemoCatalogue,
    ) -> None:
        self._url = url
        self._producer = producer
        self._http = http
        self._store = store
        self._demo = demo
        self._random = np.random.default_rng(5)
        self.inserted: list[str] = []

    def vector(self, near: int, distance: float) -> np.ndarray:
        """A new vector close to a work's."""
        work = self._demo.embeddings[near]
        moved = work + distance / len(work) ** 0.5 * self._random.standard_normal(len(work))
        return moved / np.linalg.norm(moved)

    def some_work(self) -> int:
        """The row of a work drawn at random."""
        return int(self._random.integers(len(self._demo)))

    async def _publish(self, track_id: str, vector: np.ndarray | None) -> float:
        key, value = track_id.encode(), None
        if vector is not None:
            key, value = encode_track(track_id, self._demo.layout.split(vector), {"title": track_id})
        await self._producer.send_and_wait(TRACK_INGEST, key=key, value=value)
        return time.perf_counter()

    async def read(self, track_id: str) -> list[str] | None:
        """The ids of a track's list over HTTP; None where there is none yet."""
        path = f"{self._url}/recommend/{quote(track_id, safe='')}?top_k=50"
        async with self._http.get(path) as answer:
            body = await answer.json(content_type=None)
            # 503 says that the track is there and its list is about to be.
            if answer.status == 404 or str(body.get("type", "")).endswith("list-not-ready"):
                return None
            if answer.status != 200:
                raise RuntimeError(f"HTTP {answer.status} for {track_id}: {body}")
            return [each["track_id"] for each in body["recommendations"]]

    async def _until(self, seen: Callable[[], Awaitable[bool]], published: float) -> float:
        while not await seen():
            if time.perf_counter() - published > PATIENCE:
                raise RuntimeError("the effect of an event never showed over HTTP")
            # Without a pause the prober and the API would take both cores of a small machine.
            await asyncio.sleep(POLL_SECONDS)
        return time.perf_counter() - published

    async def insert(self, number: int) -> float:
        """Seconds until a new track's complete list can be read."""
        track_id = f"bench/insert-{number}"
        published = await self._publish(track_id, self.vector(self.some_work(), 0.3))
        self.inserted.append(track_id)

        async def seen() -> bool:
            return len(await self.read(track_id) or []) == 50

        return await self._until(seen, published)

    async def re_embed(self, number: int) -> float:
        """Seconds until a re-embedded track's list starts with the work it was moved to."""
        track_id = self.inserted[number % len(self.inserted)]
        target = self.some_work()
        while self._twins(target):
            target = self.some_work()
        wanted = self._demo.tracks[target].track_id
        published = await self._publish(track_id, self.vector(target, 0.0005))

        async def seen() -> bool:
            return (await self.read(track_id) or [""])[0] == wanted

        return await self._until(seen, published)

    def _twins(self, row: int) -> bool:
        """Whether other works are as good as equal to this one, so that no first neighbour is certain."""
        return int((self._demo.embeddings @ self._demo.embeddings[row] > 0.9999).sum()) > 1

    async def delete(self, _: int) -> float:
        """Seconds until none of the lists that named a track does so any more, and it has none itself."""
        track_id = self.inserted.pop()
        rows = await self._store.fetch(
            "SELECT t.track_id FROM neighbour_lists JOIN tracks AS t USING (key) WHERE $1 = ANY(neighbours)",
            track_key(track_id),
        )
        naming = [row["track_id"] for row in rows]
        published = await self._publish(track_id, None)

        async def seen() -> bool:
            nonlocal naming
            while naming:
                if track_id in (await self.read(naming[-1]) or []):
                    return False
                naming.pop()
            return await self.read(track_id) is None

        return await self._until(seen, published)

    async def background(self, rate: int) -> None:
        """Publish new tracks at a steady rate for ever."""
        start, count = time.perf_counter(), 0
        while True:
            while count < (time.perf_counter() - start) * rate:
                track_id = f"bench/background-{count}"
                parts = self._demo.layout.split(self.vector(self.some_work(), 0.3))
                key, value = encode_track(track_id, parts, {})
                await self._producer.send(TRACK_INGEST, key=key, value=value)
                count += 1
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def prober(stack: processes.BenchmarkStack, demo: DemoCatalogue) -> AsyncIterator[FreshnessProber]:
    """A prober of a stack."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.state.bootstrap_servers, acks="all", linger_ms=0)
    await producer.start()
    store = await asyncpg.connect(stack.state.database_url)
    try:
        async with aiohttp.ClientSession() as http:
            yield FreshnessProber(stack.state.http_url, producer, http, store, demo)
    finally:
        await store.close()
        await producer.stop()


@dataclass(slots=True)
class LatencyMeasurement:
    """One row of the table."""

    what: str
    seconds: list[float]
    load: str


async def _series(
    what: str, count: int, one: Callable[[int], Awaitable[float]], first: int = 0
) -> LatencyMeasurement:
    seconds: list[float] = []
    end = time.perf_counter() + SERIES_SECONDS
    for number in range(first, first + count):
        if time.perf_counter() > end and seconds:
            break
        seconds.append(await one(number))
        # So that batches do not fall into step with the polls.
        await asyncio.sleep(0.05 * np.random.default_rng(number).random())
    p50, p90, p99 = report.percentiles(seconds)
    report.console.print(
        f"{what}: p50 {p50} ms, p90 {p90}, p99 {p99}, n {len(seconds)}, load {machine.load_average()}"
    )
    return LatencyMeasurement(what, seconds, machine.load_average())


async def _probe(
    stack: processes.BenchmarkStack, demo: DemoCatalogue, count: int
) -> list[LatencyMeasurement]:
    async with prober(stack, demo) as probe:
        await _series("warm-up", 5, probe.insert, first=10**6)
        rows = [
            await _series("insert, idle", count, probe.insert),
            await _series("re-embed, idle", count // 2, probe.re_embed),
            await _series("delete, idle", count // 2, probe.delete),
        ]
        background = asyncio.create_task(probe.background(BACKGROUND_RATE), name="background")
        await asyncio.sleep(2)
        busy = f"at {BACKGROUND_RATE} inserts/s"
        rows += [
            await _series(f"insert, {busy}", count, probe.insert, first=count),
            await _series(f"re-embed, {busy}", count // 2, probe.re_embed),
            await _series(f"delete, {busy}", count // 2, probe.delete),
        ]
        if background.done():
            background.result()
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)
    await asyncio.sleep(3)
    return rows


async def _audit(database_url: str) -> AuditReport:
    settings = StoreSettings(database_url=SecretStr(database_url), command_timeout=300)
    async with await open_pool(settings, application_name="benchmark", read_only=True) as pool:
        return await audit_store(pool)


def _show(
    stack: processes.BenchmarkStack, listed: float, rows: list[LatencyMeasurement], peaks: dict[str, int]
) -> None:
    table = report.make_table(
        "From the broker's acknowledgement to the effect over HTTP, milliseconds",
        "what",
        "n",
        "p50",
        "p90",
        "p99",
        "load",
    )
    for row in rows:
        table.add_row(row.what, str(len(row.seconds)), *report.percentiles(row.seconds), row.load)
    report.print_table(
        table,
        "Limited, when idle, by the waits that gather events into batches (the pace of fetches and of flushes),\n"
        "the commit of the track, and the commit of the lists behind it; a delete also by reading some 50 lists.",
    )
    start = report.make_table("Start of the stack", "what", "seconds")
    start.add_row(f"to ready ({stack.state.broker})", f"{stack.ready_seconds:.1f}")
    start.add_row("to all works having their lists", f"{listed:.1f}")
    report.print_table(start)
    memory = report.make_table("Peak memory (proportional set size)", "process", "peak")
    for name, peak in peaks.items():
        memory.add_row(name, report.mebibytes(peak))
    report.print_table(memory)


def main(*, quick: bool = False) -> None:
    """Run it and print the tables."""
    demo = catalogue.load_demo_catalogue()
    with tempfile.TemporaryDirectory(prefix="mess-bench-") as directory:
        with processes.local_stack(Path(directory)) as stack, machine.peak_memory(stack.pids) as peaks:
            listed = stack.wait_for_lists()
            first = asyncio.run(_audit(stack.state.database_url))
            rows = asyncio.run(_probe(stack, demo, 20 if quick else 120))
            last = asyncio.run(_audit(stack.state.database_url))
        _show(stack, listed, rows, peaks)
    recall = report.make_table(
        "Stored lists against brute force", "when", "tracks", "right", "recall@10", "recall@50"
    )
    for when, audited in (("after the start", first), ("after the changes", last)):
        found = audited.findings
        recall.add_row(
            when,
            f"{found.tracks:,}",
            f"{found.right:,}",
            f"{found.recall(10):.6f}",
            f"{found.recall(50):.6f}",
        )
    report.print_table(recall)


if __name__ == "__main__":
    main()
