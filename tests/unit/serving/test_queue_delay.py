"""Requests that would be answered too late are refused, by how fast the workers answer."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from serving.workers.queue_delay import QueueDelay

pytestmark = pytest.mark.unit

ALLOWED = 5.0


@dataclass
class _Outcome:
    answered: int = 0
    late: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)


def _arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments at which requests come, at random."""
    chance = random.Random(seed)
    now = 0.0
    while (now := now + chance.expovariate(rate)) < seconds:
        yield now


class _Simulation:
    """One worker that answers requests in their order, `batch` at a time, and drops what is too late.

    Args:
        service: Seconds that a request takes which is begun at some moment.
        batch: Requests that are answered together.
        limit: Requests under way, at most: how it was before there was an estimate; None for the estimate.
    """

    def __init__(self, service: Callable[[float], float], batch: int = 1, limit: int | None = None) -> None:
        self.now = 0.0
        self.outcome = _Outcome()
        self._service = service
        self._batch = batch
        self._limit = limit
        self._delay = QueueDelay(ALLOWED, lambda: self.now)
        self._queue: deque[float] = deque()
        self._pending = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._working = False

    def run(self, arrivals: Iterator[float]) -> _Outcome:
        for at in arrivals:
            self._at(at, self._arrive)
        while self._events:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        return self.outcome

    def _at(self, moment: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (moment, self._count, happen))

    def _arrive(self) -> None:
        full = self._delay.too_long > 0 if self._limit is None else self._pending >= self._limit
        if self._pending and full:
            self.outcome.refused += 1
            return
        self._pending += 1
        self._delay.sent()
        self._queue.append(self.now)
        if not self._working:
            self._work()

    def _work(self) -> None:
        taken = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
        self._working = bool(taken)
        if taken:
            in_time = [at for at in taken if self.now - at < ALLOWED]
            self._at(self.now + self._service(self.now) * len(in_time), lambda: self._finish(taken))

    def _finish(self, taken: list[float]) -> None:
        for at in taken:
            self._pending -= 1
            if self.now - at <= ALLOWED:
                self._delay.answered()
                self.outcome.answered += 1
                self.outcome.waits.append(self.now - at)
            else:
                self.outcome.late += 1
            self._delay.gone()
        self._work()


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("service", "rate"), [(0.5, 10.0), (0.2, 10.0), (0.02, 100.0)])
def test_workers_that_are_too_slow_are_kept_busy_and_nobody_waits_in_vain(
    service: float, rate: float, batch: int
) -> None:
    """At twice to five times what workers can do, nearly nothing is late, and they have nearly always something to do."""
    outcome = _Simulation(lambda _: service, batch).run(_arrivals(rate, 600, seed=3))
    could = 600 / service
    assert outcome.late <= 0.02 * outcome.answered
    assert outcome.answered >= 0.9 * min(could, 600 * rate)
    assert outcome.refused >= 0.9 * (600 * rate - could)


def test_a_limit_by_count_lets_nearly_all_be_late() -> None:
    """What the estimate replaces: with 64 under way, each waits behind all others until it is too late."""
    outcome = _Simulation(lambda _: 0.5, limit=64).run(_arrivals(10.0, 600, seed=3))
    assert outcome.late > outcome.answered


def test_a_machine_that_becomes_busy_is_noticed_and_that_it_is_free_again() -> None:
    """Fifty times slower for a minute: few are late; afterwards nothing is refused."""

    def service(now: float) -> float:
        return 1.0 if 60 <= now < 120 else 0.02

    simulation = _Simulation(service)
    outcome = simulation.run(_arrivals(10.0, 120, seed=5))
    assert outcome.late <= 30
    before = outcome.refused
    rest = (at + simulation.now for at in _arrivals(10.0, 60, seed=7))
    assert simulation.run(rest).refused - before <= 60


def test_workers_that_are_fast_enough_refuse_nothing() -> None:
    """Below what they can do, however requests happen to come, all are answered."""
    outcome = _Simulation(lambda _: 0.02).run(_arrivals(40.0, 300, seed=11))
    assert (outcome.refused, outcome.late) == (0, 0)


def test_workers_that_stand_still_are_asked_nothing_more() -> None:
    """Without any answer the wait grows by the clock, so that requests are refused before they would all be late."""
    now = 0.0
    delay = QueueDelay(ALLOWED, lambda: now)
    for _ in range(5):
        assert delay.too_long == 0
        delay.sent()
    now = 3.0
    assert delay.too_long > 0
    assert delay.busy
    for _ in range(5):
        delay.gone()
    assert delay.too_long == 0
