"""What readers see while another generation is filled, promoted and taken back, and what each generation costs."""

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import numpy as np
import psutil
from pydantic import SecretStr

from benchmarks import machine, processes, report
from benchmarks.processes import BenchmarkStack
from mess.spaces import lifecycle
from mess.spaces.status import generation_status
from store.pool import open_pool
from store.settings import StoreSettings
from streams.contracts import encode_track
from streams.generations import GenerationName
from streams.kafka.clients import start_producer
from streams.settings import KafkaSettings, StreamSettings

READS_PER_SECOND = 100
TOP_K = 20
# Of the vectors by the other model, which is a random projection of the first one's.
DIMENSION = 200
SETTLED_SECONDS = 3.0
# Events that each generation gets for its costs.
EVENTS, QUICK_EVENTS = 2_000, 300
NUMBERS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class _Read:
    """One answer: when it was asked for and came, its status, its generation and its list."""

    asked: float
    came: float
    status: int
    generation: int
    track: str
    names: list[str]


@dataclass
class _Reader:
    """Asks for lists without pause, at a fixed rate, whatever the answers take."""

    url: str
    tracks: Sequence[str]
    reads: list[_Read] = field(default_factory=list)

    async def run(self) -> None:
        rng = np.random.default_rng(1)
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            due = time.perf_counter()
            while True:
                group.create_task(self._ask(client, self.tracks[int(rng.integers(len(self.tracks)))]))
                due += 1 / READS_PER_SECOND
                await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def _ask(self, client: httpx.AsyncClient, track: str) -> None:
        asked = time.perf_counter()
        status, body = 0, {}
        with contextlib.suppress(httpx.HTTPError):
            reply = await client.get(f"/recommend/{quote(track, safe='')}", params={"top_k": TOP_K})
            status, body = reply.status_code, reply.json()
        names = [item["track_id"] for item in body.get("recommendations", ())]
        self.reads.append(_Read(asked, time.perf_counter(), status, body.get("generation", 0), track, names))


@dataclass(frozen=True, slots=True)
class _Beside:
    """The stack, and generations beside its catalogue."""

    stack: BenchmarkStack
    directory: Path
    pool: asyncpg.Pool
    kafka: KafkaSettings
    store: StoreSettings
    ids: list[str]
    vectors: np.ndarray

    async def publish(self, name: GenerationName, count: int, turn: int = 0) -> None:
        """Publish vectors by a generation's model; another turn, slightly other vectors."""
        rng = np.random.default_rng([name.number, turn])
        vectors = self.vectors
        if not name.is_first:
            model = np.random.default_rng(name.number)
            vectors = vectors @ model.standard_normal((vectors.shape[1], DIMENSION)).astype(np.float32)
        if turn:
            vectors = vectors + rng.standard_normal(vectors.shape).astype(np.float32) * 0.01 * vectors.std()
        producer = await start_producer(self.kafka, linger_ms=5)
        try:
            sent = []
            for i in range(count):
                key, value = encode_track(
                    self.ids[i], vectors[i], {"title": self.ids[i]} if name.is_first else None
                )
                sent.append(await producer.send(name.topic, key=key, value=value))
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def until_complete(self, name: GenerationName) -> None:
        """Wait until a generation has everything, and has told it."""
        while not (await generation_status(self.kafka, self.store, self.pool, name)).complete:  # noqa: ASYNC110 -- the store sets no event
            await asyncio.sleep(0.2)

    async def lists(self, name: GenerationName) -> dict[str, list[str]]:
        """By track, the first neighbours of a generation's lists."""
        schema = name.schema or "public"
        rows = await self.pool.fetch(
            f"SELECT t.track_id, ARRAY(SELECT c.track_id FROM unnest(l.neighbours[:{TOP_K}]) WITH ORDINALITY AS n (key, rank)"  # noqa: S608
            f" JOIN {schema}.tracks AS c USING (key) ORDER BY n.rank) AS names"
            f" FROM {schema}.neighbour_lists AS l JOIN {schema}.tracks AS t USING (key)"
        )
        return {row["track_id"]: list(row["names"]) for row in rows}


@contextlib.asynccontextmanager
async def _beside(stack: BenchmarkStack, directory: Path) -> AsyncIterator[_Beside]:
    store = StoreSettings(
        database_url=SecretStr(stack.state.database_url), pool_max_size=4, command_timeout=300
    )
    async with await open_pool(store, application_name="benchmark") as pool:
        rows = await pool.fetch("SELECT track_id, embedding FROM tracks ORDER BY track_id")
        vectors = np.stack([np.frombuffer(row["embedding"], dtype="<f4") for row in rows])
        kafka = KafkaSettings(bootstrap_servers=stack.state.bootstrap_servers)
        yield _Beside(stack, directory, pool, kafka, store, [row["track_id"] for row in rows], vectors)


def _worker(beside: _Beside, name: GenerationName) -> Any:
    """A worker of a generation, as a context manager."""
    return processes.running_worker(
        beside.stack.state.database_url,
        beside.stack.state.bootstrap_servers,
        beside.directory / f"worker-{name.number}.log",
        MESS_GENERATION=str(name.number),
        MESS_WORKER_NAME=f"beside-{name.number}",
        MESS_DATA_DIR=str(beside.directory / f"worker-{name.number}"),
    )


def _phase(
    what: str,
    reads: list[_Read],
    since: float,
    until: float,
    switched: float | None,
    old: int,
    lists: dict[int, dict[str, list[str]]],
) -> list[str]:
    """One row: what readers saw from one moment to another, around a switch from the generation `old`."""
    seen = [read for read in reads if since <= read.asked < until]
    failed = sum(read.status != 200 for read in seen)
    torn = sum(read.status == 200 and read.names != lists[read.generation].get(read.track) for read in seen)
    p50, _, p99 = report.percentiles([read.came - read.asked for read in seen])
    row = [what, f"{len(seen):,}", str(failed), str(torn), p50, p99]
    if switched is None:
        return [*row, "", ""]
    first = min(
        (read.came for read in seen if read.generation != old and read.status == 200), default=float("nan")
    )
    late = [read.asked for read in seen if read.generation == old and read.asked > switched]
    return [
        *row,
        f"{(first - switched) * 1000:.0f}",
        f"{(max(late) - switched) * 1000:.0f}" if late else "0",
    ]


async def _readers(beside: _Beside) -> None:
    made = await lifecycle.create(beside.kafka, StreamSettings(), beside.pool, model="projected")
    reader = _Reader(beside.stack.state.http_url, beside.ids)
    with _worker(beside, made.name):
        reading = asyncio.create_task(reader.run())
        try:
            await asyncio.sleep(SETTLED_SECONDS)
            marks = [time.perf_counter()]
            await beside.publish(made.name, len(beside.ids))
            await beside.until_complete(made.name)
            await asyncio.sleep(SETTLED_SECONDS)
            switches = []
            for target in (made.name, GenerationName()):
                marks.append(time.perf_counter())
                await lifecycle.promote(beside.kafka, beside.store, beside.pool, target)
                switches.append(time.perf_counter())
                await asyncio.sleep(2 * SETTLED_SECONDS)
            marks.append(time.perf_counter())
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        lists = {name.number: await beside.lists(name) for name in (GenerationName(), made.name)}
    table = report.make_table(
        f"{READS_PER_SECOND} reads/s of {len(beside.ids):,} lists, while another generation of {DIMENSION} dimensions ...",
        "",
        "reads",
        "failed",
        "of two generations",
        "p50 ms",
        "p99 ms",
        "first new after, ms",
        "last old after, ms",
    )
    for row in (
        _phase("is filled", reader.reads, marks[0], marks[1], None, 1, lists),
        _phase("is promoted", reader.reads, marks[1], marks[2], switches[0], 1, lists),
        _phase("is taken back", reader.reads, marks[2], marks[3], switches[1], 2, lists),
    ):
        table.add_row(*row)
    answered = Counter(read.generation for read in reader.reads)
    report.print_table(
        table,
        f"load average {machine.load_average()}; answers by generation: {dict(sorted(answered.items()))}",
    )


def _processor_seconds(pids: Sequence[int]) -> float:
    """Of these processes and their descendants, since they began."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                times = process.cpu_times()
                total += times.user + times.system
    return total


async def _costs(beside: _Beside, events: int) -> None:
    table = report.make_table(
        f"The whole stack, {events:,} tracks embedded anew in each generation at once",
        "generations",
        "memory",
        "processor ms an event",
        "of each generation's event",
    )
    names = [GenerationName("default", number) for number in range(1, max(NUMBERS) + 1)]
    with contextlib.ExitStack() as running:
        roots = [beside.stack.pids()["mess up"]]
        for count in NUMBERS:
            for name in names[len(roots) : count]:
                if name.number > 2:
                    await lifecycle.create(beside.kafka, StreamSettings(), beside.pool)
                roots.append(running.enter_context(_worker(beside, name)).pid)
                if name.number > 2:
                    await beside.publish(name, len(beside.ids))
                await beside.until_complete(name)
            await asyncio.sleep(SETTLED_SECONDS)
            before = _processor_seconds(roots)
            await asyncio.gather(*(beside.publish(name, events, turn=count) for name in names[:count]))
            for name in names[:count]:
                await beside.until_complete(name)
            used = (_processor_seconds(roots) - before) / events * 1000
            memory = sum(machine.memory_bytes(pid) for pid in roots)
            table.add_row(str(count), report.mebibytes(memory), f"{used:.1f}", f"{used / count:.1f}")
    report.print_table(table, f"load average {machine.load_average()}")


def main(*, quick: bool) -> None:
    """Run it on the demo catalogue."""
    events = QUICK_EVENTS if quick else EVENTS

    async def run(stack: BenchmarkStack, directory: Path) -> None:
        async with _beside(stack, directory) as beside:
            await _readers(beside)
            await _costs(beside, events)

    with tempfile.TemporaryDirectory(prefix="mess-generations-") as temporary:
        directory = Path(temporary)
        with processes.local_stack(directory) as stack:
            stack.wait_for_lists()
            asyncio.run(run(stack, directory))
