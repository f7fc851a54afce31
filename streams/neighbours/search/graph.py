"""The neighbour graph that an index is made of: for each row its nearest others, kept from one index to the next.

What is known stays; rows that are new are compared with all, exactly, and enter the lists of the others. So a rebuild
costs a product of what is new with everything, and not a search for everyone's neighbours again.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.neighbours.search import scan
from streams.neighbours.similarity import product_error
from streams.neighbours.types import EMPTY, Scores, Slots, Vectors

# The library's default: with fewer, a search must look further for the same recall.
LINKS = 30
PRODUCT_ROWS = 256
PRODUCT_VALUES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Graph:
    """Neighbours by row, most similar first.

    Attributes:
        rows: int32 (n, LINKS), past the end of a list `EMPTY`.
        scores: float32 (n, LINKS), similarity as the product has it; past the end of a list -inf.
    """

    rows: Slots
    scores: Scores

    @classmethod
    def empty(cls, count: int) -> "Graph":
        """A graph without links."""
        return cls(
            np.full((count, LINKS), EMPTY, dtype=np.int32),
            np.full((count, LINKS), -np.inf, dtype=np.float32),
        )

    def moved(self, order: npt.NDArray[np.integer]) -> "Graph":
        """The graph of other rows: row i is what was row `order[i]`; rows past the end of this graph have no links.

        Links to rows that are not in `order` are dropped, and the lists closed up.
        """
        moved = Graph.empty(len(order))
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


def complete(graph: Graph, vectors: Vectors) -> None:
    """Find the neighbours of rows that have hardly any, and enter these rows into the lists of the others.

    Args:
        graph: Of n rows; changed in place.
        vectors: float32 (n, d), unit length.
    """
    missing = graph.unknown()
    # A newcomer enters a list above the last that is known: a list cut short does not take whatever there is.
    last = np.take_along_axis(graph.scores, np.maximum((graph.rows >= 0).sum(axis=1) - 1, 0)[:, None], 1)[
        :, 0
    ]
    last[missing] = np.inf
    step = max(1, min(PRODUCT_ROWS, PRODUCT_VALUES // max(1, len(vectors))))
    entering: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Scores]] = []
    error = product_error(vectors.shape[1])
    for start in range(0, len(missing), step):
        rows = missing[start : start + step]
        product: Scores = vectors[rows] @ vectors.T
        product[np.arange(len(rows)), rows] = -np.inf
        bounds = scan.bounds(product, LINKS, error)
        for row, similar, bound in zip(rows.tolist(), product, bounds, strict=True):
            near = np.flatnonzero(similar >= bound)
            best = near[np.argsort(-similar[near])[:LINKS]]
            graph.rows[row, : len(best)] = best
            graph.scores[row, : len(best)] = similar[best]
        which, targets = np.nonzero(product > last)
        entering.append((targets, rows[which], product[which, targets]))
    if entering:
        targets, rows, scores = (np.concatenate(parts) for parts in zip(*entering, strict=True))
        _enter(graph, targets, rows, scores)


def _enter(graph: Graph, targets: npt.NDArray[np.intp], rows: npt.NDArray[np.intp], scores: Scores) -> None:
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
