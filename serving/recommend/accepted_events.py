"""When events were accepted: how old the oldest one is that some lists have not absorbed."""

from bisect import bisect_right
from collections.abc import Mapping

# With so many times of a partition, pairs of neighbours in the older half become one; a multiple of 4.
_MARKS = 128


class AcceptedEvents:
    """By partition, when its consumed offset was seen to pass which offset.

    Times are seconds of any clock. One read of the store a poll tells them all; asking it for the time of an event would take
    a look-up for each partition.
    """

    def __init__(self) -> None:
        # By partition, consumed offsets, ascending, and when each was seen first.
        self._offsets: dict[int, list[int]] = {}
        self._times: dict[int, list[float]] = {}

    def note(self, consumed: Mapping[int, int], now: float) -> None:
        """Record the consumed offsets seen at a time."""
        for partition, offset in consumed.items():
            offsets, times = self._offsets.setdefault(partition, []), self._times.setdefault(partition, [])
            if offsets and offsets[-1] > offset:
                # Another log has replaced the one that was consumed.
                offsets.clear()
                times.clear()
            if not offsets or offsets[-1] < offset:
                offsets.append(offset)
                times.append(now)
            if len(offsets) == _MARKS:
                # An event between two marks may be said to be older than it is, never younger. Those that came last keep
                # their times: one after a long pause is not as old as the one before it.
                half = _MARKS // 2
                self._offsets[partition] = offsets[1:half:2] + offsets[half:]
                self._times[partition] = times[:half:2] + times[half:]

    def oldest(self, absorbed: Mapping[int, int]) -> float:
        """When the oldest event was accepted that lists have not absorbed; infinity if there is none.

        Args:
            absorbed: By partition, the offset below which the lists have absorbed everything.
        """
        found = float("inf")
        for partition, offsets in self._offsets.items():
            at = bisect_right(offsets, absorbed.get(partition, 0))
            if at < len(offsets):
                found = min(found, self._times[partition][at])
        return found
