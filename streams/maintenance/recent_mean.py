"""The mean of what was measured within the last while."""

import time
from collections import deque
from collections.abc import Callable


class RecentMean:
    """The mean of the values of the last `seconds`.

    Args:
        seconds: How long a value counts.
        clock: Seconds that only grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._values: deque[tuple[float, float]] = deque()

    def add(self, value: float) -> None:
        """Count a value that was measured now."""
        self._forget()
        self._values.append((self._clock(), value))

    def mean(self) -> float:
        """The mean now; NaN while there is no value."""
        self._forget()
        return sum(value for _, value in self._values) / len(self._values) if self._values else float("nan")

    def _forget(self) -> None:
        oldest = self._clock() - self._seconds
        while self._values and self._values[0][0] < oldest:
            self._values.popleft()
