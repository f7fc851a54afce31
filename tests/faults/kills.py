"""Many kills in little time: `python -m tests.faults.kills --kills 200 --workers 2,3`. See docs/faults.md.

Several workers share the partitions of a catalogue that changes all the time. They, Postgres and the broker are killed one
after the other, each time as soon as something has moved on since; most lives of a worker end at a named point, where
nobody has killed it before. Some workers are asked to stop, and a further one comes and goes. After some twenty kills
everything comes to rest, and the oracle looks at it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import orjson

from store.errors import StoreError
from store.pool import UNAVAILABLE
from streams.errors import StreamsError
from streams.faults import FaultPoint
from streams.generations import GenerationName
from tests.faults.evidence import evidence
from tests.faults.history import History
from tests.faults.questions import SpaceRequests
from tests.faults.runner import PATIENCE_SECONDS, Runner
from tests.faults.scenario import Fault, FaultKind
from tests.faults.servers import KeptWorker, Servers, guarded
from tests.faults.serving import MELODY, SECOND, SECOND_MELODY, SPACES, ServedSpaces, latest
from tests.support.polling import until

# Kafka forgets a dead worker after so long, and gives its partitions to the others: what a kill costs in time.
SESSION_SECONDS = 4
# Of the rounds, the share in which a server is killed, and of a worker's lives the share that is to end at a point.
SERVER_SHARE = 0.12
# Likewise a worker is asked to stop, and a further one joins, or the one that did is taken away again.
STOP_SHARE = 0.1
JOIN_SHARE = 0.1
# Where there are several generations, another one of a space is let serve.
PROMOTE_SHARE = 0.25
POINT_SHARE = 0.8
# Every other round waits so long for somebody to come to the point where it is to die.
POINT_SECONDS = 10.0
# Nothing has moved on for so long: a further kill may help or not, the oracle will see.
STANDSTILL_SECONDS = 45.0
# A request may have been taken by a worker that died, or be held by one that did not serve.
REPLY_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One history.

    Attributes:
        seed: Of the messages and of who is killed when.
        workers: How many share the partitions.
        kills: How many kills it has at least.
        misplaced: The share of the messages that go to any partition.
        exact_upto: Tracks up to which workers compare a new one with all at once; None leaves it as it is.
        promotions: Whether further generations are filled beside, of which those of each of two spaces serve by turns.
    """

    seed: int
    workers: int
    kills: int
    misplaced: float = 0.0
    exact_upto: int | None = None
    promotions: bool = False


@dataclass
class Outcome:
    """What became of a history.

    Attributes:
        plan: Which.
        kills: By where or what: points, `random`, `stopped`, `added`, `taken away`, `postgres`, `broker`.
        ended: How often a worker ended by itself, by what it said.
        requests: How many were asked on Kafka, each of which must have a reply of its space.
        faults: What is not as it must be, in words.
        report: What happened, for whoever looks for the reason.
        evidence: What the log, the feed and the store say of the tracks that the faults name.
        seconds: How long it took.
    """

    plan: Plan
    kills: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    faults: list[str] = field(default_factory=list)
    report: str = ""
    evidence: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kills.items()))
        ended = f"; ended by themselves: {dict(self.ended)}" if self.ended else ""
        verdict = f"{len(self.faults)} FAULTS" if self.faults else "0 lost, 0 wrong"
        return (
            f"seed {self.plan.seed}, {self.plan.workers} workers: {self.kills.total()} kills in {self.seconds:.0f} s, "
            f"{self.requests} requests, {verdict} ({kinds}{ended})"
        )


class KillingRunner(Runner):
    """Kills, again and again, until it was enough.

    Args:
        directory: Empty; everything is kept in it.
        servers: Of its own.
        guardian: Knows of all processes.
        plan: What to do.
    """

    def __init__(self, directory: Path, servers: Servers, guardian, plan: Plan) -> None:  # type: ignore[no-untyped-def]
        super().__init__(directory, servers, guardian, plan.misplaced)
        self._plan = plan
        if plan.exact_upto is not None:
            self._worker_settings["MESS_EXACT_UPTO"] = str(plan.exact_upto)
        self._rng = np.random.default_rng([plan.seed, plan.workers])
        self._history = History(np.random.default_rng(plan.seed))
        self._crew: list[KeptWorker] = []
        self._further: KeptWorker | None = None
        self._spaces: ServedSpaces | None = None
        self._requests: SpaceRequests | None = None
        self._enough = asyncio.Event()
        # Held while messages are made and delivered: those of a track are in one order in every topic.
        self._publishing = asyncio.Lock()
        self._watcher.promotions = plan.promotions
        self.incidents: Counter[str] = Counter()

    def kills(self) -> Counter[str]:
        """Kills and other incidents so far, by where or what."""
        ends = [end for worker in self._workers for end in worker.ends]
        return self.incidents + Counter(end for end in ends if not end.startswith("status"))

    def ended(self) -> Counter[str]:
        """Why workers ended that nobody had killed, as their logs say."""
        logs = [worker.log for worker in self._workers if worker.log.exists()]
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        said = [orjson.loads(line) for line in lines if line.startswith("{") and '"worker ' in line]
        return Counter(
            _reason(entry) for entry in said if entry["event"] in ("worker stops", "worker crashed")
        )

    @property
    def requests(self) -> int:
        """How many requests have been asked."""
        return 0 if self._requests is None else len(self._requests.asked)

    @property
    def feeds(self) -> list[str]:
        """The topics of the change feeds."""
        return ["recommendations"] if self._spaces is None else list(self._spaces.feeds.values())

    async def play_kills(self) -> list[str]:
        """Do it; returns everything that is not as it must be, in words."""
        self._crew = [self._new_worker(SESSION_SECONDS) for _ in range(self._plan.workers)]
        await self._begin()
        if self._plan.promotions:
            await self._begin_spaces()
        for worker in self._crew:
            worker.next_point = self._draw_point
            worker.run(self._draw_point())
        publishing = asyncio.create_task(self._publish_until_enough(), name="publish")
        try:
            while self.kills().total() < self._plan.kills:
                await self._move_on()
                await self._promote_what_is_due()
                if self._rng.random() < 0.5 and await self._dies_at_a_point():
                    continue
                await asyncio.sleep(float(self._rng.uniform(0, 1.0)))
                await self._kill()
                if publishing.done():
                    publishing.result()
        finally:
            # Not cut short: what has been handed to a producer that waits for its broker may be in the log.
            self._enough.set()
            await asyncio.gather(publishing, return_exceptions=True)
            await self._producer.flush()
            await self._producer.stop()
        for worker in self._crew:
            worker.next_point = lambda: ""
        self.note("killed enough")
        # Who is still to die at a point may do so while the rest is worked off.
        await self._at_rest()
        self.note("at rest")
        if self._spaces is None or self._requests is None:
            return await self._judge(self._history)
        faults = await self._spaces.faults(self._history)
        faults += await self._requests.faults(self._servers.bootstrap_servers, REPLY_SECONDS)
        # The feeds have been looked at.
        return faults + await self._judge(self._history, serves=False)

    async def _begin_spaces(self) -> None:
        """Create a second generation, and the first one of a further space; that one's second comes later."""
        self._spaces = ServedSpaces(self._url, self._servers.bootstrap_servers, self._plan.seed)
        self._requests = SpaceRequests(self._producer, np.random.default_rng([self._plan.seed, 1]))
        for name in (SECOND, MELODY):
            self._crew += await self._workers_of_new(name)

    async def _workers_of_new(self, name: GenerationName) -> list[KeptWorker]:
        """Create a generation; its workers, one fewer than the catalogue's, and not started."""
        assert self._spaces is not None
        made = await self._spaces.create(name)
        return [
            self._new_worker(SESSION_SECONDS, **made.settings) for _ in range(max(1, self._plan.workers - 1))
        ]

    async def _fill_another(self) -> None:
        """Create the second generation of the further space in the course of the history, and send it what there is."""
        assert self._spaces is not None
        while True:
            try:
                crew = await self._workers_of_new(SECOND_MELODY)
                break
            except (StoreError, StreamsError, *UNAVAILABLE) as error:
                self.note(f"{SECOND_MELODY} cannot be created yet: {error!r}")
                await asyncio.sleep(0.5)
        self.note(f"{SECOND_MELODY} is there")
        for worker in crew:
            worker.next_point = self._draw_point
            worker.run(self._draw_point())
        self._crew += crew
        async with self._publishing:
            made = self._spaces.filled[-1]
            await self._deliver(made.messages(latest(self._history), self._history.meanings), made.name.topic)

    async def _at_rest(self) -> None:
        if self._spaces is None:
            await super()._at_rest()
        else:
            await self._spaces.at_rest(PATIENCE_SECONDS)

    def _draw_point(self) -> str:
        if self._rng.random() > POINT_SHARE:
            return ""
        points = list(FaultPoint)
        return f"{points[int(self._rng.integers(len(points)))]}:{int(self._rng.geometric(0.5))}"

    async def _publish_until_enough(self) -> None:
        while not self._enough.is_set():
            async with self._publishing:
                await self._publish_some(int(self._rng.integers(2, 12)))
            await asyncio.sleep(0.25)

    async def _publish_some(self, count: int) -> None:
        events = self._history.events(count)
        await self._deliver(events)
        if self._spaces is None or self._requests is None:
            return
        for each in self._spaces.filled:
            await self._deliver(each.messages(events, self._history.meanings), each.name.topic)
        for space in SPACES:
            await self._requests.ask(events[0][0].decode(), space)

    async def _dies_at_a_point(self) -> bool:
        before = self.kills().total()
        try:
            async with asyncio.timeout(POINT_SECONDS):
                await until(lambda: self.kills().total() > before)
        except TimeoutError:
            return False
        return True

    async def _kill(self) -> None:
        draw = float(self._rng.random())
        if draw < SERVER_SHARE:
            survives = self._servers.broker_kind == "kafka"
            kind = FaultKind.KILL_BROKER if survives and draw < SERVER_SHARE / 3 else FaultKind.KILL_POSTGRES
            self.incidents["broker" if kind is FaultKind.KILL_BROKER else "postgres"] += 1
            away, number = float(self._rng.uniform(0, 1)), int(self._rng.integers(2))
            fault = Fault(kind, after=0, away=away, number=number)
            self.note(f"{fault}")
            await self._kill_server(fault)
            return
        if draw < SERVER_SHARE + STOP_SHARE:
            asked = self._crew[int(self._rng.integers(len(self._crew)))]
            self.note(f"{asked.name}: asked to stop")
            asked.ask_to_stop()
            return
        if draw < SERVER_SHARE + STOP_SHARE + JOIN_SHARE:
            await self._join_or_leave()
            return
        if self._spaces is not None and draw < SERVER_SHARE + STOP_SHARE + JOIN_SHARE + PROMOTE_SHARE:
            await self._promote(SPACES[int(self._rng.integers(len(SPACES)))])
            return
        count = 1 + int(self._rng.integers(len(self._crew)))
        for victim in self._rng.choice(len(self._crew), size=count, replace=False).tolist():
            self.note(f"{self._crew[victim].name}: kill -9")
            self._crew[victim].kill_now()

    async def _promote_what_is_due(self) -> None:
        """Fill the last generation once a third of a history is over, and promote in each space once half of it is."""
        if self._spaces is None:
            return
        done = self.kills().total()
        if done >= self._plan.kills // 3 and SECOND_MELODY not in [each.name for each in self._spaces.filled]:
            await self._fill_another()
        for space in SPACES:
            if done >= self._plan.kills // 2 and not self.incidents[f"promoted in {space}"]:
                await self._promote(space)

    async def _promote(self, space: str) -> None:
        assert self._spaces is not None
        self.incidents[f"promoted in {space}"] += 1
        self.note(f"{await self._spaces.switch(space)} serves")
        if self._requests is not None:
            self._requests.switched.append(time.monotonic())

    async def _join_or_leave(self) -> None:
        """Let a further worker join; the next time, take it away for good, asked or killed."""
        if self._further is None:
            self._further = self._new_worker(SESSION_SECONDS)
            self._further.run(self._draw_point())
            self.incidents["added"] += 1
            self.note(f"{self._further.name} joins")
            return
        leaving, self._further = self._further, None
        number = signal.SIGTERM if self._rng.random() < 0.5 else signal.SIGKILL
        self.note(f"{leaving.name} is taken away by {number.name}")
        self.incidents["taken away"] += 1
        await leaving.end(number)

    async def _move_on(self) -> None:
        """Wait until more has been consumed, or somebody has died anyway."""
        before, deaths = await self._consumed(), self.kills().total()
        deadline = time.monotonic() + STANDSTILL_SECONDS
        while self.kills().total() == deaths and time.monotonic() < deadline:
            now = await self._consumed()
            if before is not None and now is not None and now > before:
                return
            before = now if before is None else before
            await asyncio.sleep(0.1)
        if time.monotonic() >= deadline:
            self.note(f"nothing has moved on for {STANDSTILL_SECONDS:.0f} s")

    async def _consumed(self) -> int | None:
        try:
            connection = await asyncpg.connect(self._url, timeout=5, command_timeout=5)
        except UNAVAILABLE:
            return None
        try:
            return int(
                await connection.fetchval("SELECT coalesce(sum(consumed_offset), 0) FROM ingest_partitions")
            )
        except UNAVAILABLE:
            return None
        finally:
            connection.terminate()


def _reason(entry: dict[str, Any]) -> str:
    """Why a worker ended, as its last line says."""
    error = entry.get("exception", [{}])[-1]
    return str(entry.get("error") or f"{error.get('exc_type')}: {error.get('exc_value')}")[:200]


async def play(plan: Plan, directory: Path) -> Outcome:
    """Play one history in an empty directory."""
    outcome, began = Outcome(plan), time.monotonic()
    with guarded() as guardian:
        runner = KillingRunner(directory, Servers(directory, guardian), guardian, plan)
        try:
            outcome.faults = ["it did not come to its end"]
            outcome.faults = await runner.play_kills()
            outcome.evidence = await evidence(outcome.faults, *runner.addresses, runner.feeds)
        except (AssertionError, OSError) as error:
            outcome.faults = [f"it did not come to its end: {error}"]
        finally:
            outcome.kills, outcome.ended, outcome.requests = runner.kills(), runner.ended(), runner.requests
            outcome.report = runner.report()
            await runner.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def plans(
    kills: int,
    workers: list[int],
    per_history: int,
    seed: int,
    misplaced: float = 0.0,
    exact_upto: int | None = None,
    *,
    promotions: bool = False,
) -> list[Plan]:
    """Histories that have so many kills together, by turns over each number of workers."""
    count = -(-kills // per_history)
    return [
        Plan(
            seed + i,
            workers[i % len(workers)],
            min(per_history, kills - i * per_history),
            misplaced,
            exact_upto,
            promotions,
        )
        for i in range(count)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Play histories one after the other; the exit status says whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many at least, of all together (200)")
    parser.add_argument("--workers", default="2,3", help="how many workers, by turns (2,3)")
    parser.add_argument(
        "--per-history", type=int, default=25, help="kills between two looks of the oracle (25)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first history (1)")
    parser.add_argument(
        "--keep", type=Path, help="where reports of faults are written; else they are printed"
    )
    parser.add_argument(
        "--misplaced", type=float, default=0.3, help="share of the messages that go to any partition (0.3)"
    )
    parser.add_argument(
        "--exact-upto",
        type=int,
        help="tracks up to which workers compare a new one with all at once (200,000)",
    )
    parser.add_argument(
        "--promotions",
        action="store_true",
        help="fill further generations beside, and have those of each of two spaces serve by turns",
    )
    options = parser.parse_args(arguments)
    # It tells of each attempt to reach a broker that is away, as one often is here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    numbers = [int(number) for number in options.workers.split(",")]
    total: Counter[str] = Counter()
    faults, began = 0, time.monotonic()
    for plan in plans(
        options.kills,
        numbers,
        options.per_history,
        options.seed,
        options.misplaced,
        options.exact_upto,
        promotions=options.promotions,
    ):
        with tempfile.TemporaryDirectory(prefix="mess-kills-") as directory:
            outcome = asyncio.run(play(plan, Path(directory)))
            if outcome.faults and options.keep is not None:
                _keep_logs(Path(directory), options.keep / f"{_name(plan)}-logs")
        _say(str(outcome))
        total += outcome.kills
        faults += len(outcome.faults)
        if outcome.faults:
            _tell_faults(outcome, options.keep)
    kinds = ", ".join(f"{kind} {count}" for kind, count in total.most_common())
    _say(f"{total.total()} kills in {time.monotonic() - began:.0f} s: {faults} faults; {kinds}")
    return 1 if faults else 0


def _name(plan: Plan) -> str:
    return f"seed-{plan.seed}-workers-{plan.workers}"


def _keep_logs(directory: Path, kept: Path) -> None:
    """Keep the whole logs of workers and servers, of which the report has the ends."""
    kept.mkdir(parents=True, exist_ok=True)
    for log in directory.rglob("*.log"):
        if log.is_file() and "kafka" not in log.parts[len(directory.parts) :][:-1]:
            shutil.copy(log, kept / log.name)


def _tell_faults(outcome: Outcome, keep: Path | None) -> None:
    lines = "\n".join([*outcome.faults[:50], outcome.evidence, outcome.report])
    if keep is None:
        _say(lines)
        return
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{_name(outcome.plan)}.txt"
    path.write_text(lines)
    _say(f"  {outcome.faults[0]}; all of it in {path}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
