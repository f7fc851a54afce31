"""Determines a message's age by the broker's clock alone, as other machines' clocks may be wrong."""

import time
from collections.abc import Callable
from typing import Final

# Observations older than twice this are dropped: clocks drift, and a broker's may be set.
_PERIOD_SECONDS: Final = 10.0


class BrokerClock:
    """Estimates the broker's clock from the append times of arriving messages.

    A message was appended before it arrived. The recent message with the shortest delay gives the best estimate; its error makes
    ages too small, never too large.

    Args:
        now: This process's clock in seconds, from any beginning.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        # The broker's clock less this one, at least: of this period and of the one before.
        self._ahead: float | None = None
        self._ahead_before: float | None = None

    def age(self, appended: float) -> float:
        """Seconds since the broker appended a message that has just arrived, by its append time in seconds."""
        now = self._now()
        if now - self._began > _PERIOD_SECONDS:
            self._began = now
            self._ahead_before, self._ahead = self._ahead, None
        ahead = appended - now
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)
        best = self._ahead if self._ahead_before is None else max(self._ahead, self._ahead_before)
        return best - ahead
