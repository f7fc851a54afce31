"""Exhaustive search: the best of some rows for each query, by one matrix product and exact similarities of the best.

Products are float32 and select; what they select is computed exactly (`streams.engine.similarity`).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from streams.engine.search.rows import TrackRows
from streams.engine.search.upper import Rows, UpperBounds
from streams.engine.similarity import GROUPS_PER_ENTRY, exact_similarity, group_maxima
from streams.engine.types import Scores, Vectors

# Queries are sliced so that a product holds at most this many float32 values (64 MiB).
PRODUCT_VALUES = 16 * 1024 * 1024
# Rows gathered at a time, so that their copy is small.
GATHERED_ROWS = 4096

LOWEST = np.finfo(np.float32).min


def bounds_of_all(tracks: TrackRows, reduced: Vectors, hidden: Rows, first: int = 0) -> Iterator[UpperBounds]:
    """Upper bounds for all tracks, for each query.

    Args:
        tracks: The catalogue.
        reduced: The queries in the catalogue's columns, float32 (q, c).
        hidden: Rows to leave out.
        first: The first row to look at.
    """
    matrix = tracks.columns.matrix[first : tracks.used]
    hidden = hidden[hidden >= first] - first
    step = max(1, PRODUCT_VALUES // max(1, len(matrix)))
    for start in range(0, len(reduced), step):
        product: Scores = reduced[start : start + step] @ matrix.T
        if len(hidden):
            product[:, hidden] = -np.inf
        for i, row in enumerate(product, start):
            yield UpperBounds(row, lambda places: places + first, tracks.columns.excess(reduced[i]))


def bounds_of_rows(tracks: TrackRows, reduced: Vectors, rows: Rows) -> Iterator[UpperBounds]:
    """Bounds for `rows`, each the row of a track, for each query, float32 (q, c)."""
    matrix = tracks.columns.matrix
    step = max(1, PRODUCT_VALUES // max(1, len(rows)))
    for start in range(0, len(reduced), step):
        part = reduced[start : start + step]
        product: Scores = np.empty((len(part), len(rows)), dtype=np.float32)
        for at in range(0, len(rows), GATHERED_ROWS):
            gathered = matrix[rows[at : at + GATHERED_ROWS]]
            product[:, at : at + GATHERED_ROWS] = part @ gathered.T
        for i, row in enumerate(product, start):
            yield UpperBounds(row, rows.__getitem__, tracks.columns.excess(reduced[i]))


def best_by_bounds(tracks: TrackRows, query: Vectors, upper: UpperBounds, count: int) -> tuple[Rows, Scores]:
    """The best `count` of what a query's bounds are of: by exact similarity, equal ones by track id.

    Args:
        tracks: The catalogue.
        query: float32 (d,), unit length.
        upper: Its bounds, in the catalogue's columns.
        count: How many are wanted.

    Returns:
        Rows, best first, and their similarity, float32: fewer only if there are no more.
    """
    products = upper.products
    error = tracks.columns.error
    # Low enough that a second selection is seldom needed.
    bound = np.maximum(_kth(products, count) - np.float32(upper.excess) - 2 * error, LOWEST)
    rows = upper.rows_of(np.flatnonzero(products >= bound))
    scores = exact_similarity(query, tracks.vectors[rows])
    if len(rows) >= count:
        # The last one that is surely among the best: a track of at least its similarity has at least this bound.
        last = np.partition(scores, len(scores) - count)[len(scores) - count]
        reached = np.nextafter(last - error, np.float32(-2))
        if reached < bound:
            more = upper.rows_of(np.flatnonzero((products >= reached) & (products < bound)))
            rows = np.concatenate([rows, more])
            scores = np.concatenate([scores, exact_similarity(query, tracks.vectors[more])])
    order = best_of_rows(tracks, rows, scores, count)
    return rows[order], scores[order]


def _kth(products: Scores, count: int) -> np.float32:
    """A value that the best `count` products surely reach; -inf if there are no more."""
    if len(products) <= count:
        return np.float32(-np.inf)
    if len(products) >= 2 * GROUPS_PER_ENTRY * count:
        products = group_maxima(products[None], GROUPS_PER_ENTRY * count)[0]
    place = len(products) - count
    kth: np.float32 = np.partition(products, place)[place]
    return kth


def best_of_rows(tracks: TrackRows, rows: Rows, scores: Scores, count: int) -> npt.NDArray[np.intp]:
    """The best `count` of some rows: by exact similarity, equal ones by track id.

    Args:
        tracks: The catalogue.
        rows: Candidates (m,), none twice.
        scores: float32 (m,), their similarity.
        count: How many at most.

    Returns:
        Indices into `rows`, best first.
    """
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    tied = np.flatnonzero(falling[1:] == falling[:-1])
    # Tracks that tie with the last place compete for it.
    tied = tied[tied < count]
    names = tracks.track_ids
    for first in tied[np.diff(tied, prepend=-2) > 1].tolist():
        places = slice(first, np.searchsorted(falling, falling[first], side="right"))
        order[places] = sorted(order[places].tolist(), key=lambda i: names[rows[i]])
    return order[:count]
