"""The order of track ids as integers, so that ties are broken by array operations.

Each id has a label; labels compare as the ids do. A new id gets a label between those of its neighbours; where there is
no room left, all labels are spread out again (order maintenance by relabelling: Bender et al., *Two Simplified Algorithms
for Maintaining Order in a List*, ESA 2002, in its simplest form).
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import chain

import numpy as np
import numpy.typing as npt

# Ids that arrive in ascending order get labels this far apart, which leaves room for 32 halvings.
STEP = 1 << 32
LIMIT = 1 << 62
# Ids in a run that has just been made; a run twice as long is divided.
RUN = 512


class IdOrder:
    """Labels of a set of ids.

    The ids are kept in order in short runs: an id enters or leaves without a million others being moved.
    """

    def __init__(self) -> None:
        self._runs: list[list[str]] = []
        # The last id of each run.
        self._lasts: list[str] = []
        self._labels: dict[str, int] = {}
        self._spread = 0

    @property
    def generation(self) -> int:
        """Grows when labels given out earlier have changed."""
        return self._spread

    def add(self, track_ids: Iterable[str]) -> None:
        """Give labels to ids that have none."""
        new = sorted(track_id for track_id in track_ids if track_id not in self._labels)
        if len(new) * 4 > len(self._labels):
            # So many that one sort of all is cheaper than finding the place of each.
            self._set_ids(sorted([*chain.from_iterable(self._runs), *new]))
            self._spread_out()
            return
        for track_id in new:
            self._insert(track_id)

    def _set_ids(self, ids: list[str]) -> None:
        self._runs = [ids[start : start + RUN] for start in range(0, len(ids), RUN)]
        self._lasts = [run[-1] for run in self._runs]

    def _insert(self, track_id: str) -> None:
        at = min(bisect_left(self._lasts, track_id), len(self._runs) - 1)
        run = self._runs[at]
        place = bisect_left(run, track_id)
        previous = run[place - 1] if place else self._lasts[at - 1] if at else None
        below = 0 if previous is None else self._labels[previous]
        # Past the end of a run there is nothing only in the last one.
        above = self._labels[run[place]] if place < len(run) else min(below + 2 * STEP, LIMIT)
        run.insert(place, track_id)
        self._lasts[at] = run[-1]
        if len(run) > 2 * RUN:
            self._runs[at : at + 1] = [run[:RUN], run[RUN:]]
            self._lasts[at : at + 1] = [run[RUN - 1], run[-1]]
        if above - below < 2:
            self._spread_out()
        else:
            self._labels[track_id] = (below + above) // 2

    def _spread_out(self) -> None:
        count = sum(len(run) for run in self._runs)
        gap = min(STEP, LIMIT // (count + 1))
        ids = chain.from_iterable(self._runs)
        self._labels = {track_id: (at + 1) * gap for at, track_id in enumerate(ids)}
        self._spread += 1

    def remove(self, track_ids: Iterable[str]) -> None:
        """Forget ids."""
        gone = {track_id for track_id in track_ids if self._labels.pop(track_id, None) is not None}
        if len(gone) * 4 > len(self._labels):
            self._set_ids([track_id for track_id in chain.from_iterable(self._runs) if track_id not in gone])
            return
        for track_id in gone:
            at = bisect_left(self._lasts, track_id)
            run = self._runs[at]
            del run[bisect_left(run, track_id)]
            if run:
                self._lasts[at] = run[-1]
            else:
                del self._runs[at], self._lasts[at]

    def labels(self, track_ids: Iterable[str | None]) -> npt.NDArray[np.int64]:
        """The labels of ids, int64 (n,); 0 for None."""
        return np.array(
            [0 if track_id is None else self._labels[track_id] for track_id in track_ids], dtype=np.int64
        )
