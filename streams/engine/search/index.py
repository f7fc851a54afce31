"""The approximate index: pynndescent's search tree and search graph, over one state of the catalogue.

Only an index process imports this module: compiling takes long and holds the interpreter lock. The index is built from the
library's parts, not by its `NNDescent`, which would search for the graph's neighbours again, and compile that code anew in
every process. The parts are cached on disk.

Vectors have unit length, so the squared Euclidean distance orders them as the cosine does. pynndescent's cosine distance does
not: it treats all tracks of negative similarity as equally far.
"""

import time

import numpy as np
from pynndescent.hub_tree import make_hub_search_tree
from pynndescent.kernels import KERNEL_SQEUCLIDEAN
from pynndescent.pynndescent_ import diversify_squared_euclidean
from pynndescent.search import deheap_sort_serial, make_cached_search_function
from pynndescent.search_graph import build_search_graph
from pynndescent.utils import make_heap

from streams.engine.search.graph import LINKS, SearchGraph
from streams.engine.search.quality import EASY, RECALL_AT, QualitySample, SearchQuality, reliable_similarity
from streams.engine.similarity import exact_similarity
from streams.engine.types import EMPTY, Scores, Slots, Vectors

# A search from many more leaves costs as much as an exhaustive search.
MOST_LEAVES = 256
LEAF_SIZE = 30
TREE_DEPTH = 200
# Vertices of the search graph have at most so many links, the library's default.
DEGREE = round(1.5 * LINKS)
# Number of queries that are timed, one by one.
TIMED = 32


class ApproximateIndex:
    """An index over some vectors, in their order.

    Rows that are alike should be near each other: a search reads them together.

    Args:
        vectors: float32 (n, d), unit length, contiguous.
        graph: Of these rows; not kept.
        epsilon: How much further than the worst of the best found so far a query still looks, as a share.
    """

    def __init__(self, vectors: Vectors, graph: SearchGraph, epsilon: float) -> None:
        self._epsilon = epsilon
        self._vectors = vectors
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
        self._forest = (tree,)
        self._links = (starts, links)
        self._visited = np.zeros(len(vectors) // 8 + 1, dtype=np.uint8)
        self._random = random[1]

    @property
    def memory_bytes(self) -> int:
        """Bytes held beside the vectors."""
        tree = self._forest[0]
        parts = (*self._links, tree.hyperplanes, tree.offsets, tree.children, tree.indices)
        return int(sum(part.nbytes for part in parts))

    def start_from(self, leaf_budget: int) -> None:
        """Have queries start from so many leaves of the tree."""
        self._search = make_cached_search_function(
            self._vectors,
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

    def tune(self, sample: QualitySample, leaf_budget: int, wanted: float) -> tuple[int, SearchQuality]:
        """Double the leaves until queries like a track reach the recall wanted, and measure what the index can do.

        Queries between dissimilar tracks are harder. The hardest are recognised by the low similarity of their best tracks:
        below a threshold the index does not answer.
        """
        while True:
            self.start_from(leaf_budget)
            found = self.query(sample.queries, min(RECALL_AT, len(self._vectors)))
            recalls = sample.recalls(found)
            if recalls[:EASY].mean() >= wanted or leaf_budget >= MOST_LEAVES:
                break
            leaf_budget = min(2 * leaf_budget, MOST_LEAVES)
        last = self._last_scores(sample.queries, found)
        return leaf_budget, reliable_similarity(last, recalls, wanted, self._seconds(sample))

    def _seconds(self, sample: QualitySample) -> float:
        began = time.thread_time()
        for query in sample.queries[:TIMED]:
            self.query(query[None], RECALL_AT)
        return (time.thread_time() - began) / TIMED

    def _last_scores(self, queries: Vectors, found: Slots) -> Scores:
        """The similarity of the last found for each query; -inf where there are too few."""
        last = np.full(len(queries), -np.inf, dtype=np.float32)
        for i in np.flatnonzero(found[:, -1] != EMPTY).tolist():
            last[i] = exact_similarity(queries[i], self._vectors[found[i, -1:]])[0]
        return last
