"""Estimates how long a new request would wait for the workers, from their recent speed."""

import math
import time
from collections.abc import Callable
from typing import Final

# Seconds over which answers are averaged: long enough to smooth bursts, short enough to follow a change of load.
_WINDOW: Final = 1.0
# The initial estimate: the time of a question on two cores (docs/benchmarks.md).
_ASSUMED: Final = 0.035
# The share of a request's timeout that the queue in front of it may take.
_QUEUE_SHARE: Final = 0.5
# The share of the timeout up to which the workers still have time for background requests.
_IDLE_SHARE: Final = 0.125


class QueueDelay:
    """Estimates a request's wait from the number of requests in flight and the measured service time.

    The service time is the mean interval between answers while at least one request waited. By Little's law the mean delay
    is this times the requests in front. It covers all workers, and their other work.

    Args:
        allowed: The timeout of a request, in seconds.
        clock: A monotonic clock, in seconds.
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
        """The estimated seconds until a request that is sent now is answered."""
        waiting = max(0.0, self._clock() - self._since - self.service_seconds) if self._under_way else 0.0
        return waiting + (self._under_way + 1) * self.service_seconds

    @property
    def too_long(self) -> float:
        """The seconds by which a request that is sent now would be late; 0 if it would not."""
        return max(0.0, self.seconds - _QUEUE_SHARE * self._allowed)

    @property
    def busy(self) -> bool:
        """Whether background requests should not be sent."""
        return self.seconds > _IDLE_SHARE * self._allowed

    def sent(self) -> None:
        """Count a sent request."""
        if not self._under_way:
            self._since = self._clock()
        self._under_way += 1

    def answered(self) -> None:
        """Count an answer; `gone` follows."""
        now = self._clock()
        interval, self._since = now - self._since, now
        kept = math.exp(-interval / _WINDOW)
        self._busy_seconds = self._busy_seconds * kept + interval
        self._answers = self._answers * kept + 1.0

    def gone(self) -> None:
        """Count the end of a request, answered or not."""
        self._under_way -= 1
