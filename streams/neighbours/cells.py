"""The catalogue in cells of tracks that are alike: where to look first when it is too large to look everywhere.

An inverted file (Jégou, Douze, Schmid: *Product Quantization for Nearest Neighbor Search*, 2011, section IV) that grows and
shrinks with the catalogue: a full cell is divided in two, as in SPFresh (Xu et al., SOSP 2023), so that it is never rebuilt.
"""

import numpy as np
import numpy.typing as npt

from streams.neighbours.types import EMPTY, Scores, Slots, Vectors

# Tracks in a cell at most, and as many as cells made at once are meant to have.
ROOM = 256
TARGET = 128
# Tracks that centres are made from, times their being moved, and cells that a set is divided into at once.
SAMPLE = 4_096
ROUNDS = 4
BRANCHES = 64
ROWS = 16_384


class Cells:
    """Which slots are in which cell.

    Attributes:
        members: int32 (cells, ROOM), slots; past `counts` undefined.
        counts: int32 (cells,).
        centres: float32 (cells, d), unit length.
    """

    def __init__(self, vectors: Vectors, slots: Slots) -> None:
        self.members: Slots = np.empty((0, ROOM), dtype=np.int32)
        self.counts: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self.centres: Vectors = np.empty((0, vectors.shape[1]), dtype=np.float32)
        self._cell_of: Slots = np.full(len(vectors), EMPTY, dtype=np.int32)
        self._place_of: Slots = np.full(len(vectors), EMPTY, dtype=np.int32)
        self._random = np.random.default_rng(len(slots))
        self._divide(vectors, slots)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        arrays = (self.members, self.counts, self.centres, self._cell_of, self._place_of)
        return sum(array.nbytes for array in arrays)

    def nearest(self, vectors: Vectors, count: int) -> Slots:
        """The cells whose centres are most similar to some vectors, int32 (m, count), best first."""
        scores: Scores = vectors @ self.centres.T
        count = min(count, len(self))
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        ranks = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1)
        return np.take_along_axis(found, ranks, axis=1).astype(np.int32)

    def order(self, slots: Slots) -> npt.NDArray[np.intp]:
        """A permutation, intp (m,), that brings slots of a cell together."""
        return np.argsort(self._cell_of[slots], kind="stable")

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
        self.forget(slots)
        best = np.argmax(vectors[slots] @ self.centres.T, axis=1)
        for slot, cell in zip(slots.tolist(), best.tolist(), strict=True):
            self._put(slot, cell)
            if self.counts[cell] == ROOM:
                self._split(vectors, cell)

    def forget(self, slots: Slots) -> None:
        """Take slots out of their cells; those that are in none are passed over."""
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
        of, centres = self._clusters(vectors, slots, 2)
        if len(centres) < 2 or max(np.bincount(of)) == len(slots):
            # All alike: any half will do.
            of = np.arange(len(slots)) % 2
            centres = np.repeat(centres[:1], 2, axis=0)
        self._fill(cell, slots[of == 0], centres[0])
        self._fill(self._append(1), slots[of == 1], centres[1])

    def _append(self, count: int) -> int:
        """Make so many more cells; the number of the first."""
        first = len(self)
        self.members = np.concatenate([self.members, np.empty((count, ROOM), dtype=np.int32)])
        self.counts = np.concatenate([self.counts, np.zeros(count, dtype=np.int32)])
        empty = np.zeros((count, self.centres.shape[1]), dtype=np.float32)
        self.centres = np.concatenate([self.centres, empty])
        return first

    def _fill(self, cell: int, slots: Slots, centre: Vectors) -> None:
        self.members[cell, : len(slots)] = slots
        self.counts[cell] = len(slots)
        self.centres[cell] = centre
        self._cell_of[slots], self._place_of[slots] = cell, np.arange(len(slots))

    def _divide(self, vectors: Vectors, slots: Slots) -> None:
        """Make cells of a set of slots, from the top down."""
        waiting, made = [slots], []
        while waiting:
            whole = waiting.pop()
            if len(whole) <= TARGET:
                made.append(whole)
                continue
            of, centres = self._clusters(vectors, whole, min(BRANCHES, -(-len(whole) // TARGET)))
            ranks = np.argsort(of, kind="stable")
            parts = np.split(whole[ranks], np.cumsum(np.bincount(of, minlength=len(centres)))[:-1])
            if max(len(part) for part in parts) == len(whole):
                parts = np.array_split(whole, -(-len(whole) // TARGET))
            waiting += [part for part in parts if len(part)]
        first = self._append(len(made))
        for i, part in enumerate(made):
            self._fill(first + i, part, _centre(vectors[part]))

    def _clusters(self, vectors: Vectors, slots: Slots, count: int) -> tuple[npt.NDArray[np.intp], Vectors]:
        """Spherical k-means: the cluster of each slot, intp (m,), and their centres, float32 (count, d)."""
        sample = slots
        if len(slots) > SAMPLE:
            sample = self._random.choice(slots, SAMPLE, replace=False)
        points = vectors[np.sort(sample)]
        centres = points[self._random.choice(len(points), count, replace=False)]
        for _ in range(ROUNDS):
            of = np.argmax(points @ centres.T, axis=1)
            sums = np.zeros_like(centres)
            np.add.at(sums, of, points)
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
        parts = [
            np.argmax(vectors[slots[start : start + ROWS]] @ centres.T, axis=1)
            for start in range(0, len(slots), ROWS)
        ]
        return np.concatenate(parts), centres


def _centre(points: Vectors) -> Vectors:
    mean: Vectors = points.mean(axis=0)
    length = np.linalg.norm(mean)
    return mean / length if length > 0 else points[0]
