"""Measures the recall of an approximate search on a sample, when an index is built, and for which queries it holds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.engine.search.inverted_file import SearchInvertedFile
from streams.engine.types import Scores, Vectors

SAMPLE = 400
# Number of sample queries that resemble a track; the others lie between two tracks.
EASY = SAMPLE // 2
# A group of so many queries of similar hardness must reach the target recall for such queries to be answered.
WINDOW = 20
# Recall is measured at this length; the slack is also chosen for the second one.
RECALL_AT = 50
LONG = 200
BLOCK = 4096
# A sampled query is at least so long before it is scaled.
SHORTEST = 1e-3


@dataclass(frozen=True, slots=True)
class SearchQuality:
    """What was measured.

    Attributes:
        recall: Recall@50 of the queries of the sample that are answered.
        share: Their share of the sample.
        threshold: Similarity of the 50th of what was found, from which on queries are answered.
    """

    recall: float
    share: float
    threshold: float


@dataclass(frozen=True, slots=True)
class QualitySample:
    """Queries and what they should find.

    Attributes:
        queries: float32 (SAMPLE, d), unit length: the first `EASY` like a track, the others at all places between two
            tracks that need not be alike, which is harder.
        rows: int64 (SAMPLE, at most LONG), the nearest, best first.
        scores: float32, their similarity.
    """

    queries: Vectors
    rows: npt.NDArray[np.int64]
    scores: Scores

    @classmethod
    def of(cls, vectors: Vectors, random: np.random.Generator) -> "QualitySample":
        """Queries made of some vectors, float32 (n, d), and their nearest among these: by product, in blocks."""
        first, second = random.integers(0, len(vectors), (2, SAMPLE))
        weights = np.linspace(-0.5, 0.5, SAMPLE, dtype=np.float32)
        weights[:EASY] = 0.15
        mixed = vectors[first] + weights[:, None] * (vectors[second] - vectors[first])
        lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
        queries = np.where(lengths > SHORTEST, mixed / np.maximum(lengths, SHORTEST), vectors[first])
        return cls(queries, *_nearest(vectors, queries))


def _nearest(vectors: Vectors, queries: Vectors) -> tuple[npt.NDArray[np.int64], Scores]:
    size = min(LONG, len(vectors))
    best, where = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), BLOCK):
        product = queries @ vectors[start : start + BLOCK].T
        rows = np.broadcast_to(np.arange(start, start + product.shape[1]), product.shape)
        best, where = np.hstack([best, product]), np.hstack([where, rows])
        keep = np.argpartition(-best, min(size, best.shape[1]) - 1, axis=1)[:, :size]
        best, where = np.take_along_axis(best, keep, 1), np.take_along_axis(where, keep, 1)
    order = np.argsort(-best, axis=1)
    return np.take_along_axis(where, order, 1), np.take_along_axis(best, order, 1)


def reliable_similarity(last: Scores, recalls: npt.NDArray[np.float64], wanted: float) -> SearchQuality:
    """The similarity from which on queries reach the target recall.

    Args:
        last: float32 (q,), similarity of the 50th that each query of a sample has found.
        recalls: float64 (q,), their recall.
        wanted: The recall.
    """
    order = np.argsort(-last)
    windows = np.convolve(recalls[order], np.full(WINDOW, 1 / WINDOW), mode="valid")
    short = np.flatnonzero(windows < wanted - 1e-9)
    fine = int(short[0]) + WINDOW - 1 if len(short) else len(order)
    if fine < WINDOW:
        return SearchQuality(0.0, 0.0, np.inf)
    threshold = float(last[order[fine - 1]])
    if fine == len(order):
        threshold = min(threshold, 0.0)
    return SearchQuality(float(recalls[order[:fine]].mean()), fine / len(order), threshold)


def tune_cells(
    cells: SearchInvertedFile, sample: QualitySample, reduced: Vectors, wanted: float
) -> tuple[float, SearchQuality]:
    """The slack: how much less similar than the last track found a centroid may be for its cell to be probed.

    A neighbour is found if the centroid of its cell is within that of the last of the true ones. It is enough for easy
    and for hard queries, and for long lists.

    Args:
        cells: The cells.
        sample: Of the rows in the cells' order.
        reduced: float32 (SAMPLE, c), its queries in the columns that products are made with.
        wanted: The recall.
    """
    near = reduced @ cells.centroids.T
    centroid = np.take_along_axis(near, cells.of_rows()[sample.rows], 1)
    slack = max(_needed(sample, centroid, count, wanted) for count in (RECALL_AT, LONG))
    last = sample.scores[:, :RECALL_AT][:, -1]
    recalls = ((last[:, None] - centroid[:, :RECALL_AT]) <= slack).mean(axis=1)
    return slack, reliable_similarity(last, recalls, wanted)


def _needed(sample: QualitySample, centroid: Scores, count: int, wanted: float) -> float:
    """The slack that lists of `count` need for the target recall, for queries of any hardness."""
    last = sample.scores[:, :count][:, -1:]
    below = (last - centroid[:, :count])[np.argsort(-last[:, 0])]
    windows = np.lib.stride_tricks.sliding_window_view(below, WINDOW, axis=0).reshape(
        -1, below.shape[1] * WINDOW
    )
    # Above the target for all queries, so that the hardest reach the target.
    return float(max(np.quantile(below, (1 + wanted) / 2), np.quantile(windows, wanted, axis=1).max()))
