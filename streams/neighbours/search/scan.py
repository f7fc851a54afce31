"""The exact scan: the true best of some rows for each query, by one matrix product and exact comparison of the best.

Products are float32 and select; what they select is computed exactly (`streams.neighbours.similarity`).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from streams.neighbours.search.rows import TrackRows
from streams.neighbours.similarity import GROUPS_PER_ENTRY, group_maxima, product_error
from streams.neighbours.types import Scores, Vectors

Rows = npt.NDArray[np.integer]

# Queries are sliced so that a product holds at most this many float32 values (64 MiB).
PRODUCT_VALUES = 16 * 1024 * 1024
# Rows gathered at a time, so that their copy is small.
GATHERED_ROWS = 4096

LOWEST = np.finfo(np.float32).min


def whole(tracks: TrackRows, queries: Vectors, count: int, without: Rows, first: int = 0) -> Iterator[Rows]:
    """Rows among which are the best of all tracks, for each query.

    Args:
        tracks: The catalogue.
        queries: float32 (q, d), unit length.
        count: How many are wanted.
        without: Rows to leave out.
        first: The first row to look at.
    """
    vectors = tracks.vectors[first:]
    hidden = np.concatenate(
        [np.flatnonzero(~tracks.alive[first : tracks.used]), without[without >= first] - first]
    )
    step = max(1, PRODUCT_VALUES // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        product: Scores = queries[start : start + step] @ vectors.T
        product[:, hidden] = -np.inf
        for near in _near(product, count, tracks.dimension):
            yield near + first


def among(tracks: TrackRows, queries: Vectors, count: int, rows: Rows) -> Iterator[Rows]:
    """Rows among which are the best of `rows`, each the row of a track, for each query."""
    vectors = tracks.vectors
    step = max(1, PRODUCT_VALUES // max(1, len(rows)))
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        product: Scores = np.empty((len(part), len(rows)), dtype=np.float32)
        for at in range(0, len(rows), GATHERED_ROWS):
            gathered = vectors[rows[at : at + GATHERED_ROWS]]
            np.matmul(part, gathered.T, out=product[:, at : at + GATHERED_ROWS])
        for near in _near(product, count, tracks.dimension):
            yield rows[near]


def _near(product: Scores, count: int, dimension: int) -> Iterator[Rows]:
    for row, bound in zip(product, bounds(product, count, product_error(dimension)), strict=True):
        yield np.flatnonzero(row >= bound)


def bounds(product: Scores, count: int, error: np.float32) -> Scores:
    """A value for each row of a product that its best `count` surely reach, exactly computed too, float32 (q,)."""
    if product.shape[1] <= count:
        return np.full(len(product), LOWEST, dtype=np.float32)
    highest = group_maxima(product, GROUPS_PER_ENTRY * count)
    place = highest.shape[1] - count
    kth: Scores = np.partition(highest, place, axis=1)[:, place]
    reached: Scores = np.maximum(kth - 2 * error, LOWEST)
    return reached


def ranked(tracks: TrackRows, rows: Rows, scores: Scores, count: int) -> npt.NDArray[np.intp]:
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
    highest = scores[order[: count + 1]]
    if (highest[1:] == highest[:-1]).any():
        if len(order) > count:
            # Whatever ties with the last place competes for it.
            order = order[: np.searchsorted(-scores[order], -highest[count - 1], side="right")]
        names = tracks.track_ids
        by_id = sorted(order.tolist(), key=lambda i: (-scores[i], names[rows[i]]))
        order = np.array(by_id, dtype=np.intp)
    return order[:count]
