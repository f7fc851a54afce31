"""One contestant through one protocol, in a process of its own."""

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
import psutil

from benchmarks import machine
from benchmarks.streaming import scoring
from benchmarks.streaming.contestants import CONTESTANTS, LISTED, Contestant, OurEngine
from benchmarks.streaming.protocols import ProtocolStep, StepKind, StreamingProtocol, micro_batches

BATCH = 512
# Of all searches, those at which lists are looked at, too.
LIST_CHECKS = 4
PATIENCE_SECONDS = 3_600


@dataclass(slots=True)
class ProtocolResult:
    """What came of it.

    Attributes:
        name: Of the contestant.
        failure: Why it did not come to its end; empty if it did.
        recall: Mean recall@10 of the queries at each search.
        right: Share of the lists looked at that have the ten nearest, at each look.
        rows: Inserted and deleted.
        seconds: Spent on these.
        processor_seconds: Of all threads, likewise.
        memory: Bytes resident at most, beyond the data's; of processes beside, their proportional share.
        late: Rows that had arrived and were not in at a search, the most.
        batch_seconds: Of each micro-batch.
        load: The machine's, at the end.
    """

    name: str
    failure: str = ""
    recall: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    rows: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    memory: int = 0
    late: int = 0
    batch_seconds: list[float] = field(default_factory=list)
    load: str = ""


class _StreamingRun:
    def __init__(self, name: str, protocol: StreamingProtocol) -> None:
        self.protocol = protocol
        self.result = ProtocolResult(name)
        self._memory = _resident()
        self.contestant: Contestant = CONTESTANTS[name](protocol)
        self._replay = scoring.CatalogueReplay(
            1 + max(int(step.tags.max(initial=0)) for step in protocol.steps)
        )
        self._waiting: deque[ProtocolStep] = deque()
        # Once what is loaded first is in, of a protocol with a rate: when the first row arrived, and how many have since.
        self._clock: float | None = None
        self._arrived = 0

    def play(self) -> None:
        """Go through all steps."""
        searches = sum(step.kind is StepKind.SEARCH for step in self.protocol.steps)
        checked = set(np.linspace(0, searches - 1, LIST_CHECKS).round().astype(int).tolist())
        for step in self.protocol.steps:
            if step.kind is StepKind.SEARCH:
                self._keep_pace()
                self._look(lists=len(self.result.recall) in checked)
                continue
            self._replay.apply(step)
            self._waiting.extend(micro_batches(step, BATCH))
            if self._clock is not None:
                self._arrived += len(step.tags)
            else:
                self._take_in(float("inf"))
        self._take_in(float("inf"))
        beside = sum(process.memory_full_info().pss for process in self.contestant.beside())
        self.result.memory = max(0, _resident() - self._memory) + beside
        self.result.load = machine.load_average()

    def _keep_pace(self) -> None:
        """Take in what arrives, as far as there is time until the last of it has arrived."""
        rate = self.protocol.rows_a_second
        if rate is None:
            return
        if self._clock is None:
            self._clock = time.perf_counter()
            return
        due = self._clock + self._arrived / rate
        self._take_in(due)
        time.sleep(max(0.0, due - time.perf_counter()))
        self.result.late = max(self.result.late, sum(len(part.tags) for part in self._waiting))

    def _take_in(self, until: float) -> None:
        while self._waiting and time.perf_counter() < until:
            part = self._waiting.popleft()
            self.result.rows += len(part.tags)
            with self._timed():
                if part.kind is StepKind.INSERT:
                    self.contestant.insert(part.tags, self.protocol.vectors[part.rows])
                else:
                    self.contestant.delete(part.tags)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began, spent = time.perf_counter(), self._processor_time()
        yield
        took = time.perf_counter() - began
        self.result.batch_seconds.append(took)
        self.result.seconds += took
        self.result.processor_seconds += self._processor_time() - spent

    def _processor_time(self) -> float:
        times = [process.cpu_times() for process in self.contestant.beside()]
        return time.process_time() + sum(each.user + each.system for each in times)

    def _look(self, *, lists: bool) -> None:
        began = time.perf_counter()
        if isinstance(self.contestant, OurEngine) and self._clock is None:
            with self._timed():
                self.contestant.settle()
        self._score(lists=lists)
        if self._clock is not None:  # nothing arrives meanwhile
            self._clock += time.perf_counter() - began

    def _score(self, *, lists: bool) -> None:
        state, vectors, queries = self._replay.state(), self.protocol.vectors, self.protocol.queries
        found = self.contestant.search(queries, LISTED)
        last = scoring.lowest_listed(queries, state, vectors)
        hits = scoring.hits(found, queries, last, state, vectors)
        self.result.recall.append(float(hits.mean()) / LISTED)
        if not lists:
            return
        chosen = np.random.default_rng(3).permutation(len(state.tags))[: scoring.AUDITED]
        tags, theirs = state.tags[chosen], vectors[state.rows[chosen]]
        last = scoring.lowest_listed(theirs, state, vectors, but=tags)
        kept = self.contestant.lists(tags, theirs, LISTED)
        right = scoring.hits(kept, theirs, last, state, vectors) == LISTED
        self.result.right.append(float((right & ~(kept == tags[:, None]).any(axis=1)).mean()))


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _played(name: str, make: Callable[[], StreamingProtocol], answer: Connection) -> None:
    """In a process of its own: play, and send what came of it."""
    run: _StreamingRun | None = None
    try:
        run = _StreamingRun(name, make())
        run.play()
        result = run.result
    except Exception as error:  # noqa: BLE001 -- a peer's failure is a row of the table
        result = run.result if run is not None else ProtocolResult(name)
        result.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    finally:
        if run is not None:
            run.contestant.close()
    answer.send(result)


def play_protocol(name: str, make: Callable[[], StreamingProtocol]) -> ProtocolResult:
    """Send one contestant through one protocol; whatever becomes of its process is in the result."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_played, args=(name, make, theirs), name=name)
    process.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE_SECONDS):
            process.kill()
            return ProtocolResult(name, failure=f"not done after {PATIENCE_SECONDS} s")
        result: ProtocolResult = ours.recv()
    except EOFError:
        process.join()
        return ProtocolResult(name, failure=f"its process ended with status {process.exitcode}")
    process.join()
    return result
