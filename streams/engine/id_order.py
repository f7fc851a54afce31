"""The order of track ids as integers, so that ties are broken by array operations.

Each id has a label; labels compare as the ids do. A new id gets a label between those of its neighbours; where there is
no room left, all labels are spread out again (order maintenance by relabelling: Bender et al., *Two Simplified Algorithms
for Maintaining Order in a List*, ESA 2002, in its simplest form).
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
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

    The ids are kept in order in short runs: an id enters or leaves without a million others being moved, and its label is
    found by bisection, which takes a sixth of the memory of a dictionary.
    """

    def __init__(self) -> None:
        self._runs: list[list[str]] = []
        # Of the ids in each run.
        self._labels: list[array[int]] = []
        # The last id of each run.
        self._lasts: list[str] = []
        self._count = 0
        self._spread = 0

    @property
    def generation(self) -> int:
        """Grows when labels given out earlier have changed."""
        return self._spread

    def add(self, track_ids: Iterable[str]) -> None:
        """Give labels to ids that have none."""
        new = sorted(set(track_ids))
        if len(new) * 4 > self._count:
            # So many that one sort of all is cheaper than finding the place of each.
            new = [track_id for track_id in new if self._place(track_id)[1] < 0]
            self._set_ids(sorted([*chain.from_iterable(self._runs), *new]))
            self._spread_out()
            return
        for track_id in new:
            self._insert(track_id)

    def _set_ids(self, ids: list[str]) -> None:
        self._runs = [ids[start : start + RUN] for start in range(0, len(ids), RUN)]
        self._lasts = [run[-1] for run in self._runs]
        self._count = len(ids)

    def _insert(self, track_id: str) -> None:
        at = min(bisect_left(self._lasts, track_id), len(self._runs) - 1)
        run, labels = self._runs[at], self._labels[at]
        place = bisect_left(run, track_id)
        if place < len(run) and run[place] == track_id:
            return
        below = labels[place - 1] if place else self._labels[at - 1][-1] if at else 0
        # Past the end of a run there is nothing only in the last one.
        above = labels[place] if place < len(run) else min(below + 2 * STEP, LIMIT)
        run.insert(place, track_id)
        labels.insert(place, (below + above) // 2)
        self._lasts[at] = run[-1]
        self._count += 1
        if len(run) > 2 * RUN:
            self._runs[at : at + 1] = [run[:RUN], run[RUN:]]
            self._labels[at : at + 1] = [labels[:RUN], labels[RUN:]]
            self._lasts[at : at + 1] = [run[RUN - 1], run[-1]]
        if above - below < 2:
            self._spread_out()

    def _spread_out(self) -> None:
        gap, first = min(STEP, LIMIT // (self._count + 1)), 1
        self._labels = []
        for run in self._runs:
            self._labels.append(array("q", range(first * gap, (first + len(run)) * gap, gap)))
            first += len(run)
        self._spread += 1

    def remove(self, track_ids: Iterable[str]) -> None:
        """Forget ids."""
        gone = set(track_ids)
        if len(gone) * 4 > self._count:
            ids, labels = chain.from_iterable(self._runs), chain.from_iterable(self._labels)
            stay = [
                (track_id, label) for track_id, label in zip(ids, labels, strict=True) if track_id not in gone
            ]
            self._set_ids([track_id for track_id, _ in stay])
            kept = array("q", [label for _, label in stay])
            self._labels = [kept[start : start + RUN] for start in range(0, len(kept), RUN)]
            return
        for track_id in gone:
            at, place = self._place(track_id)
            if place < 0:
                continue
            run = self._runs[at]
            del run[place], self._labels[at][place]
            self._count -= 1
            if run:
                self._lasts[at] = run[-1]
            else:
                del self._runs[at], self._labels[at], self._lasts[at]

    def _place(self, track_id: str) -> tuple[int, int]:
        """The run and the place in it of an id; -1 where it is not there."""
        at = bisect_left(self._lasts, track_id)
        if at < len(self._runs):
            place = bisect_left(self._runs[at], track_id)
            if self._runs[at][place] == track_id:
                return at, place
        return at, -1

    def labels(self, track_ids: Sequence[str | None]) -> npt.NDArray[np.int64]:
        """The labels of ids that are there, int64 (n,); 0 for None."""
        found = np.zeros(len(track_ids), dtype=np.int64)
        named = [(track_id, i) for i, track_id in enumerate(track_ids) if track_id is not None]
        if len(named) == self._count:
            named.sort()
            found[[i for _, i in named]] = np.concatenate([np.empty(0, dtype=np.int64), *self._labels])
            return found
        for track_id, i in named:
            at, place = self._place(track_id)
            found[i] = self._labels[at][place]
        return found
