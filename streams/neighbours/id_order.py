"""The order of track ids as integers, so that ties are broken by array operations.

Each id has a label; labels compare as the ids do. A new id gets a label between those of its neighbours; where there is
no room left, all labels are spread out again (order maintenance by relabelling: Bender et al., *Two Simplified Algorithms
for Maintaining Order in a List*, ESA 2002, in its simplest form).
"""

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# Ids that arrive in ascending order get labels this far apart, which leaves room for 32 halvings.
STEP = 1 << 32
LIMIT = 1 << 62


class IdOrder:
    """Labels of a set of ids."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._labels: dict[str, int] = {}
        self._spread = 0

    @property
    def generation(self) -> int:
        """Grows when labels given out earlier have changed."""
        return self._spread

    def add(self, track_ids: Iterable[str]) -> None:
        """Give labels to ids that have none."""
        new = sorted(track_id for track_id in track_ids if track_id not in self._labels)
        if len(new) * 4 > len(self._ids):
            # So many that one sort of all is cheaper than finding the place of each.
            self._ids += new
            self._ids.sort()
            self._spread_out()
            return
        for track_id in new:
            self._insert(track_id)

    def _insert(self, track_id: str) -> None:
        at = bisect_left(self._ids, track_id)
        below = self._labels[self._ids[at - 1]] if at else 0
        above = self._labels[self._ids[at]] if at < len(self._ids) else min(below + 2 * STEP, LIMIT)
        self._ids.insert(at, track_id)
        if above - below < 2:
            self._spread_out()
        else:
            self._labels[track_id] = (below + above) // 2

    def _spread_out(self) -> None:
        gap = min(STEP, LIMIT // (len(self._ids) + 1))
        self._labels = {track_id: (at + 1) * gap for at, track_id in enumerate(self._ids)}
        self._spread += 1

    def remove(self, track_ids: Iterable[str]) -> None:
        """Forget ids."""
        gone = {track_id for track_id in track_ids if self._labels.pop(track_id, None) is not None}
        if len(gone) * 4 > len(self._ids):
            self._ids = [track_id for track_id in self._ids if track_id not in gone]
            return
        for track_id in gone:
            del self._ids[bisect_left(self._ids, track_id)]

    def labels(self, track_ids: Iterable[str | None]) -> npt.NDArray[np.int64]:
        """The labels of ids, int64 (n,); 0 for None."""
        return np.array(
            [0 if track_id is None else self._labels[track_id] for track_id in track_ids], dtype=np.int64
        )
