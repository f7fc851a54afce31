"""The approximate index: pynndescent's search tree and search graph, over one state of the catalogue.

Only an index process imports this module: compiling takes long, and holds the interpreter while it does. The index is
put together from the library's parts and not by its `NNDescent`, which would look for the neighbours again that the
graph has, and compile that anew in every process; the parts are kept compiled on disk.

Vectors are of unit length, so that the squared Euclidean distance orders them as the cosine does. pynndescent's cosine
would not: it takes all tracks of no positive similarity for equally far.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pynndescent import NNDescent
from pynndescent.hub_tree import make_hub_search_tree
from pynndescent.kernels import KERNEL_SQEUCLIDEAN
from pynndescent.pynndescent_ import diversify_squared_euclidean, resort_tree_indices
from pynndescent.search import deheap_sort_serial, make_cached_search_function
from pynndescent.search_graph import build_search_graph, permute_graph
from pynndescent.utils import make_heap

from streams.neighbours.search.graph import LINKS, Graph, complete
from streams.neighbours.search.index_process import RECALL_AT
from streams.neighbours.similarity import exact_similarity
from streams.neighbours.types import EMPTY, Scores, Slots, Vectors

SAMPLE = 200
# So many queries next to each other in hardness must have the recall wanted, for the index to answer such queries.
WINDOW = 20
# A search that starts from many more leaves costs as much as the scan that it is to save.
MOST_LEAVES = 256
LEAF_SIZE = 30
TREE_DEPTH = 200
# Vertices of the search graph have at most so many links, the library's default.
DEGREE = round(1.5 * LINKS)
# Operations of the exact graph, above which descent finds it sooner, its compilation included.
EXACT_OPERATIONS = 1e13
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Quality:
    """What an index was measured to do.

    Attributes:
        recall: Recall@50 of the queries of the sample that the index answers.
        share: Their share of the sample.
        threshold: Similarity of the 50th of what was found, from which on the index answers.
        leaf_budget: Leaves that a query starts from.
    """

    recall: float
    share: float
    threshold: float
    leaf_budget: int


def neighbour_graph(vectors: Vectors, known: Graph) -> Graph:
    """The graph of all rows: what is missing in `known` found exactly, or by descent where that is too much.

    Args:
        vectors: float32 (n, d), unit length.
        known: Of n rows; may be changed.
    """
    count, dimension = vectors.shape
    if 2.0 * len(known.unknown()) * count * dimension <= EXACT_OPERATIONS:
        complete(known, vectors)
        return known
    rows, distances = NNDescent(vectors, metric="euclidean", n_neighbors=LINKS + 1).neighbor_graph
    rows = rows[:, 1:].astype(np.int32)  # the first is the row itself
    scores = np.where(rows == EMPTY, -np.inf, 1 - distances[:, 1:] ** 2 / 2).astype(np.float32)
    return Graph(rows, scores)


class ApproximateIndex:
    """An index over some vectors, in rows of its own order.

    Args:
        vectors: float32 (n, d), unit length; not kept: `bind` says what to search in.
        graph: Of these rows; not kept.
        epsilon: How much further than the worst of the best found so far a query still looks, as a share.

    Attributes:
        order: int32 (n,), which row of `vectors` is the index's row i.
    """

    def __init__(self, vectors: Vectors, graph: Graph, epsilon: float) -> None:
        self._epsilon = epsilon
        random = np.random.default_rng().integers(-(2**31), 2**31 - 1, (2, 3))
        tree = make_hub_search_tree(
            vectors, graph.rows, leaf_size=LEAF_SIZE, max_depth=TREE_DEPTH, seed=int(random[0, 0])
        )
        distances = np.where(graph.rows == EMPTY, np.inf, np.maximum(2 - 2 * graph.scores, 0))
        links, distances = diversify_squared_euclidean(
            graph.rows.copy(), distances.astype(np.float32), vectors, random[0], 1.0
        )
        # The sparse graph takes a distance of zero for no link.
        distances[distances == 0] = np.finfo(np.float32).eps
        starts, links, self._nearest = build_search_graph(links, distances, DEGREE)
        starts, links = permute_graph(starts, links, tree.indices)
        self.order: Slots = tree.indices.astype(np.int32)
        self._forest = (resort_tree_indices(tree, np.argsort(self.order)),)
        self._links = (starts, links)
        self._visited = np.zeros(len(self.order) // 8 + 1, dtype=np.uint8)
        self._random = random[1]

    @property
    def memory_bytes(self) -> int:
        """Bytes held beside the vectors."""
        tree = self._forest[0]
        parts = (*self._links, tree.hyperplanes, tree.offsets, tree.children, tree.indices)
        return int(sum(part.nbytes for part in parts))

    def bind(self, vectors: Vectors, leaf_budget: int) -> None:
        """Search in the same vectors in the index's order, float32 (n, d), from so many leaves."""
        self._vectors = vectors
        self._search = make_cached_search_function(
            vectors,
            *self._links,
            self._forest,
            leaf_budget,
            LINKS,
            self._nearest,
            False,  # queries are of unit length
            False,
            KERNEL_SQEUCLIDEAN,
            False,  # one thread: what else runs here needs the others
        )

    def query(self, queries: Vectors, count: int) -> Slots:
        """Rows of the approximately nearest to each query, int32 (q, count), nearest first; `EMPTY` where none was found.

        Args:
            queries: float32 (q, d), contiguous, unit length.
            count: How many for each.
        """
        rows, distances, _ = self._search(
            queries,
            queries,
            np.ones(len(queries), dtype=np.float32),
            make_heap(len(queries), count),
            count,
            self._epsilon,
            self._visited,
            True,
            self._random,
        )
        found: Slots
        found, _ = deheap_sort_serial(rows, distances)
        return found

    def tune(self, vectors: Vectors, leaf_budget: int, wanted: float) -> Quality:
        """Bind these vectors; double the leaves until queries like a track reach the recall wanted, and measure what the index can do.

        Queries between tracks that are not alike are harder, and the hardest are told by how little similar their
        best are: there is a threshold of that, below which the index does not answer.
        """
        self.bind(vectors, leaf_budget)
        queries = self._sample()
        true = [set(rows) for rows in self._nearest_rows(queries).tolist()]
        while True:
            found = self.query(queries, len(true[0]))
            recalls = np.array(
                [len(t.intersection(f)) / len(t) for t, f in zip(true, found.tolist(), strict=True)]
            )
            if recalls[: SAMPLE // 2].mean() >= wanted or leaf_budget >= MOST_LEAVES:
                break
            leaf_budget = min(2 * leaf_budget, MOST_LEAVES)
            self.bind(vectors, leaf_budget)
        return self._quality(self._last_scores(queries, found), recalls, wanted, leaf_budget)

    @staticmethod
    def _quality(last: Scores, recalls: npt.NDArray[np.float64], wanted: float, leaf_budget: int) -> Quality:
        order = np.argsort(-last)
        windows = np.convolve(recalls[order], np.full(WINDOW, 1 / WINDOW), mode="valid")
        short = np.flatnonzero(windows < wanted - 1e-9)
        fine = int(short[0]) + WINDOW - 1 if len(short) else len(order)
        if fine < WINDOW:
            fine = 0
        threshold = float(last[order[fine - 1]]) if fine else np.inf
        if fine == len(order):
            threshold = min(threshold, 0.0)
        recall = float(recalls[order[:fine]].mean()) if fine else 0.0
        return Quality(recall, fine / len(order), threshold, leaf_budget)

    def _last_scores(self, queries: Vectors, found: Slots) -> Scores:
        """The similarity of the last found for each query; -inf where there are too few."""
        last = np.full(len(queries), -np.inf, dtype=np.float32)
        for i in np.flatnonzero(found[:, -1] != EMPTY).tolist():
            last[i] = exact_similarity(queries[i], self._vectors[found[i, -1:]])[0]
        return last

    def _sample(self) -> Vectors:
        """Queries: the first half like a track, the others at all places between two tracks that need not be alike."""
        random = np.random.default_rng()
        first, second = random.integers(0, len(self._vectors), (2, SAMPLE))
        weights = np.linspace(-0.5, 0.5, SAMPLE, dtype=np.float32)
        weights[: SAMPLE // 2] = 0.15
        queries = self._vectors[first] + weights[:, None] * (self._vectors[second] - self._vectors[first])
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        scaled: Vectors = np.where(lengths > 1e-3, queries / np.maximum(lengths, 1e-3), self._vectors[first])
        return scaled.astype(np.float32)

    def _nearest_rows(self, queries: Vectors) -> npt.NDArray[np.intp]:
        """The rows truly nearest to each query, intp (q, 50): by product, in blocks."""
        size = min(RECALL_AT, len(self._vectors))
        best, where = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.intp)
        for start in range(0, len(self._vectors), BLOCK):
            product = queries @ self._vectors[start : start + BLOCK].T
            rows = np.broadcast_to(np.arange(start, start + product.shape[1]), product.shape)
            best, where = np.hstack([best, product]), np.hstack([where, rows])
            if best.shape[1] > size:
                keep = np.argpartition(-best, size - 1, axis=1)[:, :size]
                best, where = np.take_along_axis(best, keep, 1), np.take_along_axis(where, keep, 1)
        return where
