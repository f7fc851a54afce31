"""How long a new request would wait for the workers, by how fast they have answered lately."""

import math
import time
from collections.abc import Callable
from typing import Final

# Seconds over which answers are averaged: long enough to even out answers that come some at a time, short enough to follow
# a machine that has become busy.
_WINDOW: Final = 1.0
# Taken until there is a measurement: what a question takes on two cores (docs/benchmarks.md).
_ASSUMED: Final = 0.035
# Of the time that a request has, the queue in front of it may take so much: the rest is for what cannot be foreseen.
_QUEUE_SHARE: Final = 0.5
# Of the same time, the queue may take so much and the workers still have time for what nobody waits for.
_IDLE_SHARE: Final = 0.125


class QueueDelay:
    """Estimates how long a request would wait, from the requests under way and the measured service time.

    The service time is the mean interval between answers while at least one request waited: by Little's law the mean
    delay is this times the requests in front. It measures all workers together, and all that they do beside.

    Args:
        allowed: Seconds a request may take altogether.
        clock: Seconds, never going back.
    """

    def __init__(self, allowed: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed = allowed
        self._clock = clock
        self._busy_seconds = _ASSUMED
        self._answers = 1.0
        self._under_way = 0
        # When the workers last had reason to begin with another request.
        self._since = clock()

    @property
    def service_seconds(self) -> float:
        """Seconds between two answers while requests wait."""
        return self._busy_seconds / self._answers

    @property
    def seconds(self) -> float:
        """What a request would take that is sent now, seconds."""
        waiting = max(0.0, self._clock() - self._since - self.service_seconds) if self._under_way else 0.0
        return waiting + (self._under_way + 1) * self.service_seconds

    @property
    def too_long(self) -> float:
        """By how many seconds a request that is sent now would be too late; 0 if it would not."""
        return max(0.0, self.seconds - _QUEUE_SHARE * self._allowed)

    @property
    def busy(self) -> bool:
        """Whether requests that nobody waits for should not be sent."""
        return self.seconds > _IDLE_SHARE * self._allowed

    def sent(self) -> None:
        """Count a request that is sent now."""
        if not self._under_way:
            self._since = self._clock()
        self._under_way += 1

    def answered(self) -> None:
        """Count an answer to a request that was counted; `gone` follows."""
        now = self._clock()
        interval, self._since = now - self._since, now
        kept = math.exp(-interval / _WINDOW)
        self._busy_seconds = self._busy_seconds * kept + interval
        self._answers = self._answers * kept + 1.0

    def gone(self) -> None:
        """Count a request that is no longer waited for, answered or not."""
        self._under_way -= 1
