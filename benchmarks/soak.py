"""A soak: hours of ordinary traffic in minutes, on a local stack with the demo catalogue; what grows, fails or is late.

Events, reads and questions come at their own rates, whether or not answers keep up. Events keep the catalogue's size: works
are embedded anew, further tracks come and go. In the end everything comes to rest, and every list is compared with brute
force. `python -m benchmarks.soak --minutes 10 --events 50 --reads 50 --questions 10`; exit status 1 where a list is wrong.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp
import asyncpg
import numpy as np
import psutil
import uvloop
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from benchmarks import machine, on_demand, processes, report
from mess.audit import audit_store
from mess.demo import catalogue
from mess.demo.catalogue import DemoCatalogue
from store.pool import open_pool
from store.settings import StoreSettings
from streams.contracts import encode_track
from streams.engine.audit import AuditFindings
from streams.kafka.topics import TRACK_INGEST

# From the end of the start's own work, before memory is measured first.
WARM_SECONDS = 20.0
# Answers that took longer are late: what a page can wait for, and what the API waits for a worker.
READ_SECONDS, QUESTION_SECONDS = 1.0, 5.0
# Tracks beside the demo's that are in the catalogue at a time, about.
GUESTS = 2_000
# Until the last list is there.
REST_SECONDS = 300.0


@dataclass
class SoakTraffic:
    """What came of one kind of traffic.

    Attributes:
        late_after: Seconds after which an answer is late.
        seconds: From when each was due to its answer.
        failed: By status and kind of problem, or by exception.
    """

    late_after: float
    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def late(self) -> int:
        """Answers that came late."""
        return sum(taken > self.late_after for taken in self.seconds)


async def at_rate(
    rate: float, seconds: float, rng: np.random.Generator, one: Callable[[float], Awaitable[None]]
) -> None:
    """Begin `one` at random moments, so many a second; it is given the moment at which it was due."""
    if not rate:
        return
    async with asyncio.TaskGroup() as group:
        start = due = time.perf_counter()
        while due - start < seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
            due += rng.exponential(1 / rate)


class Traffic:
    """Events, reads and questions for one stack.

    Args:
        url: The API's.
        http: A session.
        producer: Started.
        demo: What is in the catalogue.
    """

    def __init__(
        self, url: str, http: aiohttp.ClientSession, producer: AIOKafkaProducer, demo: DemoCatalogue
    ) -> None:
        self._url = url
        self._http = http
        self._producer = producer
        self._demo = demo
        self._names = [track.track_id for track in demo.tracks]
        self._rng = np.random.default_rng(1)
        self._questions = on_demand.QuestionLoad(url, self._names, seed=2)
        self._guests: list[str] = []
        self._made = 0
        self.events = Counter[str]()
        self.reads = SoakTraffic(READ_SECONDS)
        self.questions = SoakTraffic(QUESTION_SECONDS)

    async def event(self, _: float) -> None:
        """Publish an event: a work embedded anew, a guest that comes or one that goes."""
        row, draw = int(self._rng.integers(len(self._names))), self._rng.random()
        noise = self._rng.standard_normal(self._demo.embeddings.shape[1]) * 0.2
        vector = self._demo.embeddings[row] + noise / np.linalg.norm(noise) * 0.2
        if draw < 0.4:
            kind, track_id = "embedded anew", self._names[row]
        elif self._guests and self._rng.random() < len(self._guests) / (2 * GUESTS):
            kind = "gone"
            track_id = self._guests.pop(int(self._rng.integers(len(self._guests))))
        else:
            kind, track_id = "come", f"soak/{self._made}"
            self._made += 1
            self._guests.append(track_id)
        value = None
        if kind != "gone":
            parts = self._demo.layout.split(vector)
            value = encode_track(track_id, parts, self._demo.tracks[row].metadata)[1]
        try:
            await self._producer.send_and_wait(TRACK_INGEST, key=track_id.encode(), value=value)
            self.events[kind] += 1
        except Exception as error:  # noqa: BLE001 -- counted
            self.events[f"not delivered: {type(error).__name__}"] += 1

    async def read(self, due: float) -> None:
        """Read a list, of a few works more often than of others."""
        row = int(len(self._names) * self._rng.random() ** 3)
        strategy = "" if self._rng.random() < 0.8 else "&strategy=diverse"
        url = f"{self._url}/recommend/{quote(self._names[row], safe='')}?top_k=10{strategy}"
        await self._answer(self.reads, due, lambda: self._http.get(url))

    async def question(self, due: float) -> None:
        """Ask what no list holds."""
        asked = self._questions.question()
        await self._answer(self.questions, due, lambda: self._http.post(f"{self._url}/recommend", json=asked))

    async def _answer(
        self, stream: SoakTraffic, due: float, ask: Callable[[], "aiohttp.client._RequestContextManager"]
    ) -> None:
        try:
            async with ask() as answer:
                body = await answer.json(content_type=None)
            if answer.status != 200:
                stream.failed[f"{answer.status} {str(body.get('type')).rpartition(':')[2]}"] += 1
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            stream.failed[type(error).__name__] += 1
        stream.seconds.append(time.perf_counter() - due)


def memory(stack: processes.BenchmarkStack) -> dict[str, int]:
    """Bytes of each process of a stack, proportional set size: the parts of a worker by name, all others with what they run."""
    pids = stack.pids()
    worker = stack.state.pids.workers[0]
    # It starts its parts in this order.
    children = sorted(psutil.Process(worker).children(), key=lambda child: child.create_time())
    parts = [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]
    pids.pop("engine", None)
    pids |= dict(zip(("engine", "search"), parts, strict=False))
    return {name: machine.memory_bytes(pid, apart=set(pids.values())) for name, pid in pids.items()}


async def _at_rest(database_url: str) -> None:
    """Wait until everything that has been consumed is in the lists, and nothing more is consumed."""
    connection = await asyncpg.connect(database_url)
    query = (
        "SELECT (SELECT sum(consumed_offset) FROM ingest_partitions) AS consumed, NOT EXISTS (SELECT FROM absorbed_offsets AS a "
        "JOIN ingest_partitions AS p ON p.partition = a.source_partition WHERE a.absorbed_offset < p.consumed_offset) AS done"
    )
    try:
        before, same, deadline = None, 0, time.monotonic() + REST_SECONDS
        while same < 5 and time.monotonic() < deadline:
            found = await connection.fetchrow(query)
            same = same + 1 if found["done"] and found["consumed"] == before else 0
            before = found["consumed"]
            await asyncio.sleep(1)
    finally:
        await connection.close()


async def soak(
    stack: processes.BenchmarkStack, demo: DemoCatalogue, options: argparse.Namespace
) -> AuditFindings:
    """Play the traffic, measure, and print what came of it; returns what brute force says of the lists."""
    seconds = options.minutes * 60
    async with AsyncExitStack() as stacked:
        producer = AIOKafkaProducer(bootstrap_servers=stack.state.bootstrap_servers, acks="all", linger_ms=0)
        await producer.start()
        stacked.push_async_callback(producer.stop)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(30)
        )
        traffic = Traffic(stack.state.http_url, await stacked.enter_async_context(session), producer, demo)
        await asyncio.sleep(WARM_SECONDS)
        measured = {"start": memory(stack)}
        loads = [
            (options.events, traffic.event),
            (options.reads, traffic.read),
            (options.questions, traffic.question),
        ]
        async with asyncio.TaskGroup() as group:
            for number, (rate, one) in enumerate(loads):
                group.create_task(at_rate(rate, seconds, np.random.default_rng(number), one))
            await asyncio.sleep(seconds / 2)
            measured["middle"] = memory(stack)
            report.progress(f"half of it; load {machine.load_average()}")
        await _at_rest(stack.state.database_url)
        measured["end"] = memory(stack)
    _show(options, traffic, measured)
    settings = StoreSettings(database_url=SecretStr(stack.state.database_url), command_timeout=300)
    async with await open_pool(settings, application_name="soak", read_only=True) as pool:
        return (await audit_store(pool)).findings


def _show(options: argparse.Namespace, traffic: Traffic, measured: dict[str, dict[str, int]]) -> None:
    sizes = report.make_table("Memory, proportional set size", "process", *measured, "grown")
    for name, first in measured["start"].items():
        row = [at.get(name, 0) for at in measured.values()]
        sizes.add_row(name, *map(report.mebibytes, row), f"{(row[-1] / max(first, 1) - 1):+.0%}")
    totals = [sum(at.values()) for at in measured.values()]
    sizes.add_row("all", *map(report.mebibytes, totals), f"{(totals[-1] / totals[0] - 1):+.0%}")
    report.print_table(
        sizes,
        f"{options.minutes:g} minutes; measured {WARM_SECONDS:.0f} s after all lists were there, halfway, and at rest",
    )
    answers = report.make_table(
        "Answers, milliseconds from when they were due", "", "n", "p50", "p90", "p99", "late", "errors"
    )
    for name, stream in (("reads", traffic.reads), ("questions", traffic.questions)):
        if stream.seconds:
            figures = report.percentiles(stream.seconds)
            errors = ", ".join(f"{count} x {kind}" for kind, count in stream.failed.most_common()) or "none"
            answers.add_row(name, f"{len(stream.seconds):,}", *figures, str(stream.late), errors)
    late = f"Late: reads after {READ_SECONDS:g} s, questions after {QUESTION_SECONDS:g} s. Load {machine.load_average()}."
    report.print_table(answers, late)
    told = ", ".join(f"{count:,} {kind}" for kind, count in traffic.events.most_common())
    report.console.print(f"Events: {told}", markup=False)


def main(arguments: list[str] | None = None) -> int:
    """Soak a stack of its own; the exit status says whether its lists are right in the end."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--events", type=float, default=50, help="events a second (50)")
    parser.add_argument("--reads", type=float, default=50, help="reads of lists a second (50)")
    parser.add_argument(
        "--questions", type=float, default=10, help="questions a second that have to be computed (10)"
    )
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="mess-soak-") as directory,
        processes.local_stack(Path(directory)) as stack,
    ):
        report.progress(f"all lists {stack.wait_for_lists():.0f} s after the start")
        findings = uvloop.run(soak(stack, catalogue.load_demo_catalogue(), options))
    wrong = findings.missing + findings.short + findings.wrong + findings.strangers
    report.console.print(f"Lists in the end: {findings.tracks:,} compared with brute force, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
