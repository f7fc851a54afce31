"""The neighbour graph of an index: the nearest rows of each row, reused by the next index.

A rebuild keeps known links. New rows are compared with all rows, exactly, and enter the others' lists, which costs a product
of the new rows with all. If there are too many new rows for that, the graph is made from the inverted file: a row's
neighbours are looked for in the cells nearest to its own.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from streams.engine.search.inverted_file import SearchInvertedFile
from streams.engine.similarity import GROUPS_PER_ENTRY, group_maxima
from streams.engine.types import EMPTY, Scores, Slots, Vectors

# pynndescent's default; with fewer links a search visits more rows for the same recall.
LINKS = 30
PRODUCT_ROWS = 256
PRODUCT_VALUES = 16 * 1024 * 1024
# A row's neighbours are looked for among this share of the others, within limits; an exact graph costs the inverse more.
LOOKED_AT = 16
LEAST_LOOKED_AT, MOST_LOOKED_AT = 1_024, 8_192


@dataclass(frozen=True, slots=True)
class SearchGraph:
    """Neighbours by row, most similar first.

    Attributes:
        rows: int32 (n, LINKS), past the end of a list `EMPTY`.
        scores: float32 (n, LINKS), similarity as the product has it; past the end of a list -inf.
    """

    rows: Slots
    scores: Scores

    @classmethod
    def empty(cls, count: int) -> "SearchGraph":
        """A graph without links."""
        return cls(
            np.full((count, LINKS), EMPTY, dtype=np.int32),
            np.full((count, LINKS), -np.inf, dtype=np.float32),
        )

    def moved(self, order: npt.NDArray[np.integer]) -> "SearchGraph":
        """The graph of other rows: row i is what was row `order[i]`; rows past the end of this graph have no links.

        Links to rows that are not in `order` are dropped, and the lists closed up.
        """
        moved = SearchGraph.empty(len(order))
        here = order < len(self.rows)
        place = np.full(len(self.rows) + 1, EMPTY, dtype=np.int32)  # the last is for `EMPTY` itself
        place[order[here]] = np.flatnonzero(here)
        rows, scores = place[self.rows[order[here]]], self.scores[order[here]]
        gone = rows == EMPTY
        closed = np.argsort(gone, axis=1, kind="stable")
        moved.rows[here] = np.take_along_axis(rows, closed, 1)
        scores[gone] = -np.inf
        moved.scores[here] = np.take_along_axis(scores, closed, 1)
        return moved

    def unknown(self) -> npt.NDArray[np.intp]:
        """Rows of which less than half the neighbours are known."""
        return np.flatnonzero((self.rows >= 0).sum(axis=1) < min(LINKS, len(self.rows) - 1) / 2)


def neighbour_graph(vectors: Vectors, cells: SearchInvertedFile, known: SearchGraph) -> SearchGraph:
    """The graph of all rows: missing lists are found exactly, or all by cells if too many are missing.

    Args:
        vectors: float32 (n, d), unit length, in the cells' order.
        cells: Of these rows.
        known: Of these rows; may be changed.
    """
    if len(known.unknown()) > looked_at(len(vectors)):
        return search_graph(vectors, cells)
    complete_graph(known, vectors)
    return known


def complete_graph(graph: SearchGraph, vectors: Vectors) -> None:
    """Find the neighbours of rows that have hardly any, and enter these rows into the lists of the others.

    Args:
        graph: Of n rows; changed in place.
        vectors: float32 (n, d), unit length.
    """
    missing = graph.unknown()
    # A new row enters a list above its last known entry only: a shortened list does not take any row.
    last = np.take_along_axis(graph.scores, np.maximum((graph.rows >= 0).sum(axis=1) - 1, 0)[:, None], 1)[
        :, 0
    ]
    last[missing] = np.inf
    step = max(1, min(PRODUCT_ROWS, PRODUCT_VALUES // max(1, len(vectors))))
    entering: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Scores]] = []
    everyone = np.arange(len(vectors))
    for start in range(0, len(missing), step):
        rows = missing[start : start + step]
        product: Scores = vectors[rows] @ vectors.T
        product[np.arange(len(rows)), rows] = -np.inf
        _fill(graph, rows, everyone, product)
        which, targets = np.nonzero(product > last)
        entering.append((targets, rows[which], product[which, targets]))
    if entering:
        targets, rows, scores = (np.concatenate(parts) for parts in zip(*entering, strict=True))
        _enter(graph, targets, rows, scores)


def search_graph(vectors: Vectors, cells: SearchInvertedFile) -> SearchGraph:
    """The graph of rows, where each row's neighbours are looked for in the cells nearest to its own.

    Args:
        vectors: float32 (n, d), unit length, in the cells' order.
        cells: Of these rows.
    """
    graph = SearchGraph.empty(len(vectors))
    near = np.argsort(-(cells.centroids @ cells.centroids.T), axis=1)
    # A product of two cells is too small for several BLAS threads: each thread takes whole cells.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(_search, graph, vectors, cells, *one) for one in enumerate(near)]:
            done.result()
    return graph


def _search(
    graph: SearchGraph, vectors: Vectors, cells: SearchInvertedFile, cell: int, near: npt.NDArray[np.intp]
) -> None:
    """Make the lists of one cell's rows; `near` are all cells, the nearest first, intp (k,)."""
    starts = cells.starts
    own = slice(int(starts[cell]), int(starts[cell + 1]))
    enough = int(np.searchsorted(np.cumsum(cells.sizes[near]), looked_at(len(vectors)))) + 1
    parts = [slice(*starts[other : other + 2].tolist()) for other in near[:enough].tolist()]
    rows = np.concatenate([np.arange(part.start, part.stop) for part in parts])
    product: Scores = np.concatenate([vectors[own] @ vectors[part].T for part in parts], axis=1)
    everyone = np.arange(own.start, own.stop)
    product[rows == everyone[:, None]] = -np.inf
    _fill(graph, everyone, rows, product)


def looked_at(count: int) -> int:
    """Rows among which the neighbours of a row are sought, of so many."""
    return max(LEAST_LOOKED_AT, min(MOST_LOOKED_AT, count // LOOKED_AT))


def _fill(
    graph: SearchGraph, rows: npt.NDArray[np.intp], others: npt.NDArray[np.intp], product: Scores
) -> None:
    """Make the lists of `rows` from their products with `others`, float32 (m, n), -inf for the row itself."""
    bounds = _bounds(product)
    for row, similar, bound in zip(rows.tolist(), product, bounds, strict=True):
        near = np.flatnonzero(similar >= bound)
        best = near[np.argsort(-similar[near])[:LINKS]]
        graph.rows[row, : len(best)] = others[best]
        graph.scores[row, : len(best)] = similar[best]


def _bounds(product: Scores) -> Scores:
    """A value for each row of a product that its best `LINKS` reach, float32 (m,)."""
    lowest = np.finfo(np.float32).min
    if product.shape[1] <= LINKS:
        return np.full(len(product), lowest, dtype=np.float32)
    highest = group_maxima(product, GROUPS_PER_ENTRY * LINKS)
    place = highest.shape[1] - LINKS
    kth: Scores = np.partition(highest, place, axis=1)[:, place]
    return np.maximum(kth, lowest)


def _enter(
    graph: SearchGraph, targets: npt.NDArray[np.intp], rows: npt.NDArray[np.intp], scores: Scores
) -> None:
    """Put each of `rows` into the list of the target beside it, and keep the best of each list."""
    touched, which = np.unique(targets, return_inverse=True)
    owner = np.concatenate([np.repeat(np.arange(len(touched)), LINKS), which])
    their_rows = np.concatenate([graph.rows[touched].ravel(), rows.astype(np.int32)])
    their_scores = np.concatenate([graph.scores[touched].ravel(), scores])
    order = np.lexsort((-their_scores, owner))
    owner = owner[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = place < LINKS
    graph.rows[touched[owner[kept]], place[kept]] = their_rows[order[kept]]
    graph.scores[touched[owner[kept]], place[kept]] = their_scores[order[kept]]
