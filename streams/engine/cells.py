"""The catalogue in cells of tracks that are alike: where to look first when it is too large to look everywhere.

An inverted file (Jégou, Douze, Schmid: *Product Quantization for Nearest Neighbor Search*, 2011, section IV) that grows and
shrinks with the catalogue: a full cell is divided in two, as in SPFresh (Xu et al., SOSP 2023), so that it is never rebuilt.
"""

import time
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from streams.engine.types import EMPTY, Scores, Slots, Vectors

# Tracks in a cell at most, and as many as cells made at once are meant to have.
ROOM = 256
TARGET = 128
# Tracks that centres are made from, times their being moved, and cells that a set is divided into at once.
SAMPLE = 4_096
ROUNDS = 4
BRANCHES = 128
# Branches of the first division that a track's cell is looked for in.
NEAREST_BRANCHES = 8
# Tracks whose cell is looked for between two looks at the clock.
ROWS = 4_096

Clusters = tuple[npt.NDArray[np.intp], Vectors]


class InvertedFile:
    """Which slots are in which cell.

    They are made slice by slice (`advance`); what is placed or forgotten meanwhile is taken account of in the end.

    Args:
        vectors: float32 (slots, d), those of all. The array is kept until the cells are ready, and may grow in place.
        slots: int32 (n,), those that hold a track.

    Attributes:
        ready: Whether they are made.
        members: int32 (m, ROOM), slots by cell; past `counts` undefined.
        counts: int32 (m,).
        centres: float32 (m, d), unit length. Of all three, the first `len` rows are cells.
    """

    def __init__(self, vectors: Vectors, slots: Slots) -> None:
        self.ready = False
        self.members: Slots = np.empty((0, ROOM), dtype=np.int32)
        self.counts: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self.centres: Vectors = np.empty((0, vectors.shape[1]), dtype=np.float32)
        self._length = 0
        self._cell_of: Slots = np.full(len(vectors), EMPTY, dtype=np.int32)
        self._place_of: Slots = np.full(len(vectors), EMPTY, dtype=np.int32)
        self._random = np.random.default_rng(len(slots))
        # Slots that were placed, or forgotten, while the cells were being made: whether there is a track in them.
        self._meanwhile: dict[int, bool] = {}
        self._making = self._make(vectors, slots)

    def __len__(self) -> int:
        return self._length

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        arrays = (self.members, self.counts, self.centres, self._cell_of, self._place_of)
        return sum(array.nbytes for array in arrays)

    def advance(self, seconds: float) -> bool:
        """Go on making them for about so long; whether they are ready."""
        until = time.perf_counter() + seconds
        while not self.ready:
            if next(self._making, None) is None and not self.ready:
                raise RuntimeError("the making of the cells has broken off")
            if time.perf_counter() >= until:
                break
        return self.ready

    def nearest(self, vectors: Vectors, count: int) -> Slots:
        """The cells whose centres are most similar to some vectors, int32 (m, count), best first."""
        scores: Scores = vectors @ self.centres[: len(self)].T
        count = min(count, len(self))
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        ranks = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1)
        return np.take_along_axis(found, ranks, axis=1).astype(np.int32)

    def around(self, vectors: Vectors, count: int) -> Slots:
        """About so many slots, int32 (n,): the members of the cells whose centres are most similar to some vectors."""
        scores: Scores = self.centres[: len(self)] @ vectors.sum(axis=0)
        near = min(len(self), max(1, 2 * count // TARGET))
        found = np.argpartition(-scores, near - 1)[:near]
        found = found[np.argsort(-scores[found])]
        found = found[: np.searchsorted(np.cumsum(self.counts[found]), count) + 1]
        return np.concatenate([self.members[cell, : self.counts[cell]] for cell in found])

    def order(self, slots: Slots) -> npt.NDArray[np.intp]:
        """A permutation, intp (m,), that brings slots of a cell together."""
        return np.argsort(self._cell_of[slots], kind="stable")

    def closeness(self, vectors: Vectors, slots: Slots) -> Scores:
        """How similar tracks are to the centre of their cell, float32 (m,)."""
        found: Scores = np.einsum("ij,ij->i", vectors[slots], self.centres[self._cell_of[slots]])
        return found

    def of(self, slots: Slots) -> Slots:
        """The cells that slots are in, int32 (m,)."""
        found: Slots = self._cell_of[slots]
        return found

    def place(self, vectors: Vectors, slots: Slots) -> None:
        """Put slots, new ones or such whose vector is another, into cells.

        Args:
            vectors: float32 (slots, d), those of all.
            slots: int32 (m,).
        """
        if len(self._cell_of) < len(vectors):
            more = np.full(len(vectors) - len(self._cell_of), EMPTY, dtype=np.int32)
            self._cell_of = np.concatenate([self._cell_of, more])
            self._place_of = np.concatenate([self._place_of, more])
        if not self.ready:
            self._meanwhile.update(dict.fromkeys(slots.tolist(), True))
            return
        self.forget(slots)
        for start in range(0, len(slots), ROWS):
            part = slots[start : start + ROWS]
            best = np.argmax(vectors[part] @ self.centres[: len(self)].T, axis=1)
            for slot, cell in zip(part.tolist(), best.tolist(), strict=True):
                self._put(slot, cell)
                if self.counts[cell] == ROOM:
                    self._split(vectors, cell)

    def forget(self, slots: Slots) -> None:
        """Take slots out of their cells; those that are in none are passed over."""
        if not self.ready:
            self._meanwhile.update(dict.fromkeys(slots.tolist(), False))
            return
        for slot in slots.tolist():
            cell = int(self._cell_of[slot])
            if cell < 0:
                continue
            place, last = self._place_of[slot], self.counts[cell] - 1
            other = self.members[cell, last]
            self.members[cell, place], self._place_of[other] = other, place
            self.counts[cell] = last
            self._cell_of[slot] = EMPTY

    def _put(self, slot: int, cell: int) -> None:
        # A cell that was split a moment ago may have been chosen before: it has room all the same.
        self.members[cell, self.counts[cell]] = slot
        self._cell_of[slot], self._place_of[slot] = cell, self.counts[cell]
        self.counts[cell] += 1

    def _split(self, vectors: Vectors, cell: int) -> None:
        slots = self.members[cell, : self.counts[cell]].copy()
        of, centres = _at_once(self._clusters(vectors, slots, 2))
        if len(centres) < 2 or max(np.bincount(of)) == len(slots):
            # All alike: any half will do.
            of = np.arange(len(slots)) % 2
            centres = np.repeat(centres[:1], 2, axis=0)
        self._fill(cell, slots[of == 0], centres[0])
        self._fill(self._append(1), slots[of == 1], centres[1])

    def _append(self, count: int) -> int:
        """Make so many more cells; the number of the first."""
        first = self._length
        self._length += count
        if self._length > len(self.counts):
            # A quarter more at a time: they are all copied.
            more = max(count, len(self.counts) // 4)
            self.members = np.concatenate([self.members, np.empty((more, ROOM), dtype=np.int32)])
            self.counts = np.concatenate([self.counts, np.zeros(more, dtype=np.int32)])
            empty = np.zeros((more, self.centres.shape[1]), dtype=np.float32)
            self.centres = np.concatenate([self.centres, empty])
        return first

    def _fill(self, cell: int, slots: Slots, centre: Vectors) -> None:
        self.members[cell, : len(slots)] = slots
        self.counts[cell] = len(slots)
        self.centres[cell] = centre
        self._cell_of[slots], self._place_of[slots] = cell, np.arange(len(slots))

    def _make(self, vectors: Vectors, slots: Slots) -> Generator[bool]:
        """Make cells of a set of slots; yields where it may be interrupted."""
        parts, branch = yield from self._divide(vectors, slots)
        parts = yield from self._nearest_of(vectors, parts, branch)
        full = [part for part in parts if len(part) >= ROOM]
        parts = [part for part in parts if len(part) < ROOM]
        for part in full:
            more, _ = yield from self._divide(vectors, part)
            parts += more
        # One that is empty is there for what may come.
        self._append(max(1, len(parts)))
        for i, part in enumerate(parts):
            self._fill(i, part, _centre(vectors[part]))
            yield False
        self.ready = True
        there = self._meanwhile
        self._meanwhile = {}
        self.forget(np.fromiter(there, dtype=np.int32, count=len(there)))
        self.place(vectors, np.array([slot for slot, is_there in there.items() if is_there], dtype=np.int32))
        yield True

    def _divide(self, vectors: Vectors, slots: Slots) -> Generator[bool, None, tuple[list[Slots], list[int]]]:
        """Divide a set of slots from the top down; the parts, and which of the first division's each belongs to."""
        waiting, made, branches = [(slots, EMPTY)], [], []
        while waiting:
            whole, branch = waiting.pop()
            if len(whole) <= (TARGET + ROOM) // 2:
                made.append(whole)
                branches.append(branch)
                continue
            count = max(2, min(BRANCHES, len(whole) // TARGET))
            of, centres = yield from self._clusters(vectors, whole, count)
            parts = _sorted_out(whole, of, len(centres))
            if max(len(part) for part in parts) == len(whole):
                parts = np.array_split(whole, -(-len(whole) // TARGET))
            waiting += [(part, i if branch == EMPTY else branch) for i, part in enumerate(parts) if len(part)]
        return made, branches

    @staticmethod
    def _nearest_of(
        vectors: Vectors, parts: list[Slots], branches: list[int]
    ) -> Generator[bool, None, list[Slots]]:
        """Put each slot with the part whose centre is nearest: a division may have cut it off from those like it.

        It is looked for in the branches whose centres are nearest.
        """
        if len(parts) < 2:
            return parts
        centres = np.array([_centre(vectors[part]) for part in parts])
        yield False
        within = [np.flatnonzero(np.array(branches) == branch) for branch in range(max(branches) + 1)]
        within = [leaves for leaves in within if len(leaves)]
        tops = np.array([_centre(centres[leaves]) for leaves in within])
        slots = np.concatenate(parts)
        found = []
        for start in range(0, len(slots), ROWS):
            found.append(_two_steps(vectors[slots[start : start + ROWS]], tops, within, centres))
            yield False
        nearest = _sorted_out(slots, np.concatenate(found), len(centres))
        return [part for part in nearest if len(part)]

    def _clusters(self, vectors: Vectors, slots: Slots, count: int) -> Generator[bool, None, Clusters]:
        """Spherical k-means: the cluster of each slot, intp (m,), and their centres, float32 (count, d)."""
        sample = slots
        if len(slots) > SAMPLE:
            sample = self._random.choice(slots, SAMPLE, replace=False)
        points = vectors[np.sort(sample)]
        centres = points[self._random.choice(len(points), count, replace=False)]
        for _ in range(ROUNDS):
            of = np.argmax(points @ centres.T, axis=1)
            member = (of == np.arange(count)[:, None]).astype(np.float32)
            sums = member @ points
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
            yield False
        parts = []
        for start in range(0, len(slots), ROWS):
            parts.append(np.argmax(vectors[slots[start : start + ROWS]] @ centres.T, axis=1))
            yield False
        return np.concatenate(parts), centres


def _at_once(clusters: Generator[bool, None, Clusters]) -> Clusters:
    while True:
        try:
            next(clusters)
        except StopIteration as found:
            value: Clusters = found.value
            return value


def _sorted_out(slots: Slots, of: npt.NDArray[np.intp], count: int) -> list[Slots]:
    """Slots by the number, below `count`, that each was given."""
    ranks = np.argsort(of, kind="stable")
    return np.split(slots[ranks], np.cumsum(np.bincount(of, minlength=count))[:-1])


def _two_steps(
    points: Vectors, tops: Vectors, within: list[npt.NDArray[np.intp]], centres: Vectors
) -> npt.NDArray[np.intp]:
    """The centre nearest to each point, intp (m,), of those within the `NEAREST_BRANCHES` nearest of some branches."""
    count = min(NEAREST_BRANCHES, len(tops))
    nearest = np.argpartition(points @ -tops.T, count - 1, axis=1)[:, :count]
    best, found = np.full(len(points), -np.inf, dtype=np.float32), np.zeros(len(points), dtype=np.intp)
    ranks = np.argsort(nearest, axis=None, kind="stable")
    starts = np.searchsorted(nearest.ravel()[ranks], np.arange(len(tops) + 1))
    for branch, leaves in enumerate(within):
        rows = ranks[starts[branch] : starts[branch + 1]] // count
        if not len(rows):
            continue
        scores: Scores = points[rows] @ centres[leaves].T
        first = scores.argmax(axis=1)
        highest = scores[np.arange(len(rows)), first]
        better = highest > best[rows]
        best[rows[better]], found[rows[better]] = highest[better], leaves[first[better]]
    return found


def _centre(points: Vectors) -> Vectors:
    mean: Vectors = points.mean(axis=0)
    length = np.linalg.norm(mean)
    return mean / length if length > 0 else points[0]
