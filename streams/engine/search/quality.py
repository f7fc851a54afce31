"""What an approximate search is worth, measured on a sample when an index is built: recall, and for which queries."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.engine.search.inverted_file import SearchInvertedFile
from streams.engine.types import Scores, Vectors

SAMPLE = 400
# Queries of the sample that are like a track; the others lie between two.
EASY = SAMPLE // 2
# So many queries next to each other in hardness must have the recall wanted for such queries to be answered.
WINDOW = 20
# The recall is measured of so many; and how far to look, of so many more too.
RECALL_AT = 50
LONG = 200
BLOCK = 4096
# A sampled query is at least so long before it is scaled.
SHORTEST = 1e-3
TIMED = 16


@dataclass(frozen=True, slots=True)
class SearchQuality:
    """What was measured.

    Attributes:
        recall: Recall@50 of the queries of the sample that are answered.
        share: Their share of the sample.
        threshold: Similarity of the 50th of what was found, from which on queries are answered.
        seconds: Processor time: of a query, or of a row looked at.
    """

    recall: float
    share: float
    threshold: float
    seconds: float


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

    def recalls(self, found: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Recall@50 of each query, float64 (SAMPLE,), that has found these rows, (SAMPLE, m)."""
        true = self.rows[:, :RECALL_AT].tolist()
        pairs = zip(true, found.tolist(), strict=True)
        return np.array([len(set(t).intersection(f)) / len(t) for t, f in pairs])


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


def judge(last: Scores, recalls: npt.NDArray[np.float64], wanted: float, seconds: float) -> SearchQuality:
    """From which similarity on queries have the recall wanted.

    Args:
        last: float32 (q,), similarity of the 50th that each query of a sample has found.
        recalls: float64 (q,), their recall.
        wanted: The recall.
        seconds: See `SearchQuality`.
    """
    order = np.argsort(-last)
    windows = np.convolve(recalls[order], np.full(WINDOW, 1 / WINDOW), mode="valid")
    short = np.flatnonzero(windows < wanted - 1e-9)
    fine = int(short[0]) + WINDOW - 1 if len(short) else len(order)
    if fine < WINDOW:
        return SearchQuality(0.0, 0.0, np.inf, seconds)
    threshold = float(last[order[fine - 1]])
    if fine == len(order):
        threshold = min(threshold, 0.0)
    return SearchQuality(float(recalls[order[:fine]].mean()), fine / len(order), threshold, seconds)


def tune_cells(
    cells: SearchInvertedFile, matrix: Vectors, sample: QualitySample, reduced: Vectors, wanted: float
) -> tuple[float, SearchQuality]:
    """How much less similar than the last found a cell's centroid may be, for the cell to be looked into.

    A neighbour is found if the centroid of its cell is within that of the last of the true ones. It is enough for easy
    and for hard queries, and for long lists.

    Args:
        cells: The cells.
        matrix: float32 (n, c), the rows in the cells' order, in the columns that products are made with.
        sample: Of these rows.
        reduced: float32 (SAMPLE, c), its queries in these columns.
        wanted: The recall.
    """
    near = reduced @ cells.centroids.T
    centroid = np.take_along_axis(near, cells.of_rows()[sample.rows], 1)
    slack = max(_needed(sample, centroid, count, wanted) for count in (RECALL_AT, LONG))
    last = sample.scores[:, :RECALL_AT][:, -1]
    recalls = ((last[:, None] - centroid[:, :RECALL_AT]) <= slack).mean(axis=1)
    return slack, judge(last, recalls, wanted, _row_seconds(cells, matrix, reduced))


def _needed(sample: QualitySample, centroid: Scores, count: int, wanted: float) -> float:
    """What must be looked into for the recall wanted of lists of `count`, of whatever hardness the query is."""
    last = sample.scores[:, :count][:, -1:]
    below = (last - centroid[:, :count])[np.argsort(-last[:, 0])]
    windows = np.lib.stride_tricks.sliding_window_view(below, WINDOW, axis=0).reshape(
        -1, below.shape[1] * WINDOW
    )
    # Above what is wanted of all, as the hardest are to have what is wanted.
    return float(max(np.quantile(below, (1 + wanted) / 2), np.quantile(windows, wanted, axis=1).max()))


def _row_seconds(cells: SearchInvertedFile, matrix: Vectors, reduced: Vectors) -> float:
    """What a look at a row of a cell takes, for one query alone."""
    product = np.empty(cells.width, dtype=np.float32)
    began = time.thread_time()
    rounds = max(1, min(TIMED, 500_000 // len(matrix)))
    for query in reduced[:rounds]:
        for start, end in zip(cells.starts[:-1].tolist(), cells.starts[1:].tolist(), strict=True):
            np.dot(matrix[start:end], query, out=product[: end - start])
    return (time.thread_time() - began) / (rounds * len(matrix))
