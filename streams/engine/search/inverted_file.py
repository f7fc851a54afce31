"""The search index's inverted file: its rows are ordered by cell, cells of similar tracks.

An inverted file (Jégou, Douze, Schmid: *Product Quantization for Nearest Neighbor Search*, 2011, section IV). The number of
probes is not fixed. A query begins with the nearest cells, and goes on with those whose centroid is at most a slack less
similar than the last track found: few cells where neighbours are close together, many where they are scattered, more for a
longer list. The slack is measured when an index is built.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.engine.kmeans import (
    centroid_rounds,
    mean_direction,
    members_by_label,
    nearest_centroids,
    two_clusters,
)
from streams.engine.search.upper import Rows, UpperBounds
from streams.engine.types import Scores, Vectors

# Number of cells, as a multiple of the square root of the tracks: centroids and members cost about the same.
DENSITY = 2.0
# Maximum size of a cell, as a multiple of the mean.
ROOM = 2.0
# Tracks in the sample for k-means, per centroid, and its rounds.
SAMPLE = 40
ROUNDS = 6
# Probes at first, in addition to as many cells as may hold the wanted tracks.
FIRST = 3
_NOTHING = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class SearchInvertedFile:
    """Cells, each a range of rows.

    Attributes:
        centroids: float32 (k, c), unit length, in the columns that products are made with.
        starts: int64 (k + 1,), the first row of each cell, and the end of the last.
    """

    centroids: Vectors
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        return self.centroids.nbytes + self.starts.nbytes

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Members of each cell, int64 (k,)."""
        return np.diff(self.starts)

    @property
    def width(self) -> int:
        """Members of the largest cell."""
        return int(self.sizes.max(initial=0))

    def of_rows(self) -> npt.NDArray[np.int64]:
        """The cell of each row, int64 (n,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def first(self, count: int) -> int:
        """The number of first probes of a query for `count` tracks."""
        rows = int(self.starts[-1])
        return min(len(self), -(-count * len(self) // max(1, rows)) + FIRST)


def divide_into_cells(
    matrix: Vectors, random: np.random.Generator
) -> tuple[SearchInvertedFile, npt.NDArray[np.int64]]:
    """Divide rows into cells by spherical k-means.

    Args:
        matrix: float32 (n, c), n at least 1.
        random: Source of randomness.

    Returns:
        The cells, and the order of rows that they are in, int64 (n,): which row of `matrix` is the cells' row i.
    """
    count = min(len(matrix), max(1, round(DENSITY * len(matrix) ** 0.5)))
    sample = random.choice(len(matrix), min(len(matrix), SAMPLE * count), replace=False)
    *_, centroids = centroid_rounds(matrix[np.sort(sample)], count, ROUNDS, random)
    parts = [part for part in members_by_label(nearest_centroids(matrix, centroids), count) if len(part)]
    room = max(2, int(ROOM * len(matrix) / count))
    fitting: list[npt.NDArray[np.int64]] = []
    while parts:
        part = parts.pop()
        if len(part) <= room:
            fitting.append(part)
        else:
            labels, _ = two_clusters(matrix[part], ROUNDS, random)
            parts += [part[labels == 0], part[labels == 1]]
    centroids = np.stack([mean_direction(matrix[part]) for part in fitting])
    starts = np.concatenate([[0], np.cumsum([len(part) for part in fitting])])
    return SearchInvertedFile(centroids, starts.astype(np.int64)), np.concatenate(fitting)


@dataclass(frozen=True, slots=True)
class _Places:
    """From places in products of cells, each padded to the same width, to rows."""

    starts: npt.NDArray[np.int64]
    width: int

    def __call__(self, places: npt.NDArray[np.intp]) -> Rows:
        cells, within = np.divmod(places, self.width)
        rows: Rows = self.starts[cells] + within
        return rows


class Probe:
    """The probes of some queries.

    Args:
        cells: The cells.
        matrix: float32 (n, c) at least, whose first n rows are in the cells' order.
        queries: float32 (q, c), q at least 1, in the same columns.
        count: How many are wanted.
        hidden: intp (m,), ascending: rows to leave out.
        slack: How much less similar than the last found a centroid may be.

    Attributes:
        last: float32 (q,), the product of the last of the best `count` found in the first cells; -inf if there are
            fewer in all.
        left: int64 (q,), rows in the cells still to be looked into.
    """

    def __init__(
        self,
        cells: SearchInvertedFile,
        matrix: Vectors,
        queries: Vectors,
        count: int,
        hidden: Rows,
        slack: float,
    ) -> None:
        self._cells, self._matrix, self._queries = cells, matrix, queries
        self._hidden = hidden
        self._width = cells.width
        near: Scores = queries @ cells.centroids.T
        self._first: list[Rows] = [_NOTHING] * len(queries)
        self._found: list[Scores] = [near[0]] * len(queries)
        self.last: Scores = np.full(len(queries), -np.inf, dtype=np.float32)
        short, first = np.arange(len(queries)), cells.first(count)
        while len(short):
            self._begin(near, short, count, first)
            # Where the nearest cells are small or much is hidden, more of them.
            short = short[self.last[short] == -np.inf] if first < len(cells) else _NOTHING
            first *= 2
        self._wanted = near >= (self.last - np.float32(slack))[:, None]
        for i, cell in enumerate(self._first):
            self._wanted[i, cell] = False
        self.left = self._wanted @ cells.sizes

    def _begin(self, near: Scores, which: npt.NDArray[np.intp], count: int, first: int) -> None:
        """Search the nearest cells of some queries, so many for each."""
        first = min(first, len(self._cells))
        cells = np.argpartition(-near[which], first - 1, axis=1)[:, :first]
        found = self._products(np.repeat(which, first), cells.ravel()).reshape(len(which), -1)
        for n, i in enumerate(which.tolist()):
            self._first[i], self._found[i] = cells[n], found[n]
        if found.shape[1] > count:
            place = found.shape[1] - count
            self.last[which] = np.partition(found, place, axis=1)[:, place]

    def finish(
        self, which: npt.NDArray[np.intp], excess: Callable[[Vectors], float] = lambda _: 0.0
    ) -> Iterator[UpperBounds]:
        """What some of the queries, intp (m,), find in all the cells that they look into, one after the other.

        `excess` says of a query how far its products lie above its similarities, about.
        """
        query, cell = np.nonzero(self._wanted[which])
        more = self._products(which[query], cell)
        ends = np.searchsorted(query, np.arange(len(which)), side="right").tolist()
        start, starts = 0, self._cells.starts
        for i, end in zip(which.tolist(), ends, strict=True):
            products, cells = self._found[i], self._first[i]
            if start < end:
                products = np.concatenate([products, more[start:end].ravel()])
                cells = np.concatenate([cells, cell[start:end]])
            yield UpperBounds(products, _Places(starts[cells], self._width), excess(self._queries[i]))
            start = end

    def _products(self, query: npt.NDArray[np.intp], cell: npt.NDArray[np.intp]) -> Scores:
        """Products of pairs of a query and a cell, float32 (pairs, width): a cell is multiplied once with all that look into it."""
        products: Scores = np.empty((len(cell), self._width), dtype=np.float32)
        order = np.argsort(cell, kind="stable")
        cells, first = np.unique(cell[order], return_index=True)
        ends = [*first.tolist(), len(order)][1:]
        gathered = self._queries[query[order]]
        starts = self._cells.starts
        begins, stops = starts[cells], starts[cells + 1]
        hidden = np.searchsorted(self._hidden, [begins, stops])
        bounds = zip(begins.tolist(), stops.tolist(), first.tolist(), ends, *hidden.tolist(), strict=True)
        for begin, stop, a, b, i, j in bounds:
            size = stop - begin
            if b - a == 1:
                product = products[order[a]]
                np.dot(self._matrix[begin:stop], gathered[a], out=product[:size])
                product[size:] = -np.inf
                if i < j:
                    product[self._hidden[i:j] - begin] = -np.inf
            else:
                pairs = order[a:b]
                block = gathered[a:b] @ self._matrix[begin:stop].T
                if i < j:
                    block[:, self._hidden[i:j] - begin] = -np.inf
                products[pairs, :size] = block
                products[pairs, size:] = -np.inf
        return products
