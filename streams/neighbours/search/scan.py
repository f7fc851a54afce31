"""The exact scan: the true best of some rows for each query, by one matrix product and exact comparison of the best.

Products are float32 and select; what they select is computed exactly (`streams.neighbours.similarity`).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from streams.neighbours.search.rows import TrackRows
from streams.neighbours.similarity import GROUPS_PER_ENTRY, exact_similarity, group_maxima, product_error
from streams.neighbours.types import Scores, Vectors

Rows = npt.NDArray[np.integer]

# Queries are sliced so that a product holds at most this many float32 values (64 MiB).
PRODUCT_VALUES = 16 * 1024 * 1024
# Rows gathered at a time, so that their copy is small.
GATHERED_ROWS = 4096

LOWEST = np.finfo(np.float32).min


def whole(tracks: TrackRows, queries: Vectors, count: int, without: Rows) -> Iterator[tuple[Rows, Scores]]:
    """The best of all tracks, for each query its rows and their scores, best first.

    Args:
        tracks: The catalogue.
        queries: float32 (q, d), unit length.
        count: How many at most.
        without: Rows to leave out.
    """
    vectors = tracks.vectors
    hidden = np.concatenate([tracks.dead(), without])
    step = max(1, PRODUCT_VALUES // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        product: Scores = part @ vectors.T
        product[:, hidden] = -np.inf
        yield from _best(tracks, part, product, None, count)


def among(tracks: TrackRows, queries: Vectors, count: int, rows: Rows) -> Iterator[tuple[Rows, Scores]]:
    """The best of `rows`, each the row of a track, for each query: as `whole` gives them."""
    vectors = tracks.vectors
    step = max(1, PRODUCT_VALUES // max(1, len(rows)))
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        product: Scores = np.empty((len(part), len(rows)), dtype=np.float32)
        for at in range(0, len(rows), GATHERED_ROWS):
            gathered = vectors[rows[at : at + GATHERED_ROWS]]
            np.matmul(part, gathered.T, out=product[:, at : at + GATHERED_ROWS])
        yield from _best(tracks, part, product, rows, count)


def _best(
    tracks: TrackRows, queries: Vectors, product: Scores, rows: Rows | None, count: int
) -> Iterator[tuple[Rows, Scores]]:
    bounds = _bounds(product, count, product_error(tracks.dimension))
    for query, row, bound in zip(queries, product, bounds, strict=True):
        near: Rows = np.flatnonzero(row >= bound)
        candidates = near if rows is None else rows[near]
        yield ranked(tracks, query, candidates, count)


def _bounds(product: Scores, count: int, error: np.float32) -> Scores:
    """A value for each query that its best `count` surely reach, float32 (q,)."""
    if product.shape[1] <= count:
        return np.full(len(product), LOWEST, dtype=np.float32)
    highest = group_maxima(product, GROUPS_PER_ENTRY * count)
    place = highest.shape[1] - count
    kth: Scores = np.partition(highest, place, axis=1)[:, place]
    bounds: Scores = np.maximum(kth - 2 * error, LOWEST)
    return bounds


def ranked(tracks: TrackRows, query: Vectors, rows: Rows, count: int) -> tuple[Rows, Scores]:
    """The best `count` of some rows, by exact similarity, equal ones by track id.

    Args:
        tracks: The catalogue.
        query: float32 (d,), unit length.
        rows: Candidates (m,), none twice.
        count: How many at most.
    """
    scores = exact_similarity(query, tracks.vectors[rows])
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    first = sorted_scores[: count + 1]
    if (first[1:] == first[:-1]).any():
        # Whatever ties with the last place competes for it.
        if len(order) > count:
            order = order[: np.searchsorted(-sorted_scores, -sorted_scores[count - 1], side="right")]
        names = tracks.track_ids
        by_id = sorted(order.tolist(), key=lambda i: (-scores[i], names[rows[i]]))
        order = np.array(by_id, dtype=np.intp)
    order = order[:count]
    return rows[order], scores[order]
