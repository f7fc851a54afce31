"""The engine's inverted file: cells of similar tracks, which are searched first in a large catalogue.

It is an inverted file (Jégou, Douze, Schmid: *Product Quantization for Nearest Neighbor Search*, 2011, section IV) that grows
and shrinks with the catalogue. A full cell is divided in two, as in SPFresh (Xu et al., SOSP 2023), so it is never rebuilt.
A cell lists slots, which stay where they are; `search.inverted_file` orders whole rows by cell instead, for a search index.
"""

import time
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from streams.engine.catalogue import enlarge_rows
from streams.engine.kmeans import centroid_rounds, mean_direction, members_by_label, two_clusters
from streams.engine.types import EMPTY, Scores, Slots, Vectors

# Maximum number of tracks in a cell, and the target for new cells.
ROOM = 256
TARGET = 128
# Size of the sample for k-means, its rounds, and the maximum number of parts of one division.
SAMPLE = 4_096
ROUNDS = 4
BRANCHES = 128
# A track's cell is looked for in so many branches of the first division.
NEAREST_BRANCHES = 8
# Tracks that are assigned between two checks of the time.
ROWS = 4_096

Clusters = tuple[npt.NDArray[np.intp], Vectors]


class InvertedFile:
    """The slots in each cell.

    It is built in slices of time (`advance`); slots that are placed or forgotten meanwhile are applied at the end.

    Args:
        vectors: float32 (slots, d), of all slots. The array is held until the cells are ready, and may grow in place.
        slots: int32 (n,), those that hold a track.

    Attributes:
        ready: Whether the cells are complete.
        members: int32 (m, ROOM), slots by cell; past `counts` undefined.
        counts: int32 (m,).
        centroids: float32 (m, d), unit length. Of all three, the first `len` rows are cells.
    """

    def __init__(self, vectors: Vectors, slots: Slots) -> None:
        self.ready = False
        self.members: Slots = np.empty((0, ROOM), dtype=np.int32)
        self.counts: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self.centroids: Vectors = np.empty((0, vectors.shape[1]), dtype=np.float32)
        self._length = 0
        self._cell_of: Slots = np.full(len(vectors), EMPTY, dtype=np.int32)
        self._place_of: Slots = np.full(len(vectors), EMPTY, dtype=np.int32)
        self._random = np.random.default_rng(len(slots))
        # Slots that were placed (True) or forgotten (False) while the cells were being built.
        self._meanwhile: dict[int, bool] = {}
        self._making = self._make(vectors, slots)

    def __len__(self) -> int:
        return self._length

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        arrays = (self.members, self.counts, self.centroids, self._cell_of, self._place_of)
        return sum(array.nbytes for array in arrays)

    def advance(self, seconds: float) -> bool:
        """Continue to build the cells for about so long; whether they are ready."""
        until = time.perf_counter() + seconds
        while not self.ready:
            if next(self._making, None) is None and not self.ready:
                raise RuntimeError("the making of the cells has broken off")
            if time.perf_counter() >= until:
                break
        return self.ready

    def nearest(self, vectors: Vectors, count: int) -> Slots:
        """The probes of some vectors: the cells with the most similar centroids, int32 (m, count), best first."""
        scores: Scores = vectors @ self.centroids[: len(self)].T
        count = min(count, len(self))
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        ranks = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1)
        return np.take_along_axis(found, ranks, axis=1).astype(np.int32)

    def around(self, vectors: Vectors, count: int) -> Slots:
        """About so many slots, int32 (n,): the members of the cells whose centroids are most similar to some vectors."""
        scores: Scores = self.centroids[: len(self)] @ vectors.sum(axis=0)
        near = min(len(self), max(1, 2 * count // TARGET))
        found = np.argpartition(-scores, near - 1)[:near]
        found = found[np.argsort(-scores[found])]
        found = found[: np.searchsorted(np.cumsum(self.counts[found]), count) + 1]
        return np.concatenate([self.members[cell, : self.counts[cell]] for cell in found])

    def order(self, slots: Slots) -> npt.NDArray[np.intp]:
        """A permutation, intp (m,), that brings slots of a cell together."""
        return np.argsort(self._cell_of[slots], kind="stable")

    def closeness(self, vectors: Vectors, slots: Slots) -> Scores:
        """How similar tracks are to the centroid of their cell, float32 (m,)."""
        found: Scores = np.einsum("ij,ij->i", vectors[slots], self.centroids[self._cell_of[slots]])
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
            self._cell_of = enlarge_rows(self._cell_of, len(vectors), EMPTY)
            self._place_of = enlarge_rows(self._place_of, len(vectors), EMPTY)
        if not self.ready:
            self._meanwhile.update(dict.fromkeys(slots.tolist(), True))
            return
        self.forget(slots)
        for start in range(0, len(slots), ROWS):
            part = slots[start : start + ROWS]
            best = np.argmax(vectors[part] @ self.centroids[: len(self)].T, axis=1)
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
        # The chosen cell may have been split since: it has room in any case.
        self.members[cell, self.counts[cell]] = slot
        self._cell_of[slot], self._place_of[slot] = cell, self.counts[cell]
        self.counts[cell] += 1

    def _split(self, vectors: Vectors, cell: int) -> None:
        slots = self.members[cell, : self.counts[cell]].copy()
        of, centroids = two_clusters(vectors[slots], ROUNDS, self._random)
        self._fill(cell, slots[of == 0], centroids[0])
        self._fill(self._append(1), slots[of == 1], centroids[1])

    def _append(self, count: int) -> int:
        """Add so many cells; returns the number of the first."""
        first = self._length
        self._length += count
        if self._length > len(self.counts):
            # A quarter at least: growing may copy.
            grown = len(self.counts) + max(count, len(self.counts) // 4)
            self.members = enlarge_rows(self.members, grown, EMPTY)
            self.counts = enlarge_rows(self.counts, grown, 0)
            self.centroids = enlarge_rows(self.centroids, grown, 0)
        return first

    def _fill(self, cell: int, slots: Slots, centroid: Vectors) -> None:
        self.members[cell, : len(slots)] = slots
        self.counts[cell] = len(slots)
        self.centroids[cell] = centroid
        self._cell_of[slots], self._place_of[slots] = cell, np.arange(len(slots))

    def _make(self, vectors: Vectors, slots: Slots) -> Generator[bool]:
        """Build cells for a set of slots; yields where it may be interrupted."""
        parts, branch = yield from self._divide(vectors, slots)
        parts = yield from self._nearest_of(vectors, parts, branch)
        full = [part for part in parts if len(part) >= ROOM]
        parts = [part for part in parts if len(part) < ROOM]
        for part in full:
            more, _ = yield from self._divide(vectors, part)
            parts += more
        # There is at least one cell, if only an empty one.
        self._append(max(1, len(parts)))
        for i, part in enumerate(parts):
            self._fill(i, part, mean_direction(vectors[part]))
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
            of, centroids = yield from self._clusters(vectors, whole, count)
            parts = [whole[places] for places in members_by_label(of, len(centroids))]
            if max(len(part) for part in parts) == len(whole):
                parts = np.array_split(whole, -(-len(whole) // TARGET))
            waiting += [(part, i if branch == EMPTY else branch) for i, part in enumerate(parts) if len(part)]
        return made, branches

    @staticmethod
    def _nearest_of(
        vectors: Vectors, parts: list[Slots], branches: list[int]
    ) -> Generator[bool, None, list[Slots]]:
        """Move each slot to the part with the nearest centroid: a division may have separated it from similar ones.

        Only the branches with the nearest centroids are searched.
        """
        if len(parts) < 2:
            return parts
        centroids = np.array([mean_direction(vectors[part]) for part in parts])
        yield False
        within = [np.flatnonzero(np.array(branches) == branch) for branch in range(max(branches) + 1)]
        within = [leaves for leaves in within if len(leaves)]
        tops = np.array([mean_direction(centroids[leaves]) for leaves in within])
        slots = np.concatenate(parts)
        found = []
        for start in range(0, len(slots), ROWS):
            found.append(_two_steps(vectors[slots[start : start + ROWS]], tops, within, centroids))
            yield False
        nearest = members_by_label(np.concatenate(found), len(centroids))
        return [slots[places] for places in nearest if len(places)]

    def _clusters(self, vectors: Vectors, slots: Slots, count: int) -> Generator[bool, None, Clusters]:
        """Spherical k-means: the cluster of each slot, intp (m,), and their centroids, float32 (count, d)."""
        sample = slots
        if len(slots) > SAMPLE:
            sample = self._random.choice(slots, SAMPLE, replace=False)
        centroids: Vectors = np.empty((0, vectors.shape[1]), dtype=np.float32)
        for centroids in centroid_rounds(vectors[np.sort(sample)], count, ROUNDS, self._random):  # noqa: B007 -- the last ones stay
            yield False
        parts = []
        for start in range(0, len(slots), ROWS):
            parts.append(np.argmax(vectors[slots[start : start + ROWS]] @ centroids.T, axis=1))
            yield False
        return np.concatenate(parts), centroids


def _two_steps(
    points: Vectors, tops: Vectors, within: list[npt.NDArray[np.intp]], centroids: Vectors
) -> npt.NDArray[np.intp]:
    """The centroid nearest to each point, intp (m,), of those within the `NEAREST_BRANCHES` nearest of some branches."""
    count = min(NEAREST_BRANCHES, len(tops))
    nearest = np.argpartition(points @ -tops.T, count - 1, axis=1)[:, :count]
    best, found = np.full(len(points), -np.inf, dtype=np.float32), np.zeros(len(points), dtype=np.intp)
    ranks = np.argsort(nearest, axis=None, kind="stable")
    starts = np.searchsorted(nearest.ravel()[ranks], np.arange(len(tops) + 1))
    for branch, leaves in enumerate(within):
        rows = ranks[starts[branch] : starts[branch + 1]] // count
        if not len(rows):
            continue
        scores: Scores = points[rows] @ centroids[leaves].T
        first = scores.argmax(axis=1)
        highest = scores[np.arange(len(rows)), first]
        better = highest > best[rows]
        best[rows[better]], found[rows[better]] = highest[better], leaves[first[better]]
    return found
