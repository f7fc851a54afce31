"""An index that is exact and built at once: the twin of `IndexProcess`, with its seam and its order of events."""

import multiprocessing

import numpy as np

from streams.neighbours.search.graph import Graph, complete
from streams.neighbours.search.index_process import Built, IndexGoneError, pack, unpack
from streams.neighbours.search.shared import SharedRows
from streams.neighbours.search.types import SearchSettings
from streams.neighbours.types import EMPTY, Slots, Vectors


class ExactIndex:
    """Ready, or failed, when `finish` is called; then answers exactly. `latest` is the one started last."""

    latest: "ExactIndex"

    def __init__(
        self,
        dimension: int,
        settings: SearchSettings,
        vectors: SharedRows,
        rows: Slots,
        graph: SharedRows | None,
    ) -> None:
        ExactIndex.latest = self
        self.connection, self._theirs = multiprocessing.Pipe()
        self._given = (vectors.vectors, rows, graph)
        self._dimension = dimension
        self._alive = True
        self._fails = False

    def finish(self, *, fails: bool) -> None:
        """Have the build end."""
        self._fails = fails
        self._theirs.send("something to read")

    def die(self) -> None:
        """Close the other end, as when its process is killed."""
        self._alive = False
        self._theirs.close()

    def built(self) -> tuple[Built, SharedRows, Slots, SharedRows]:
        self.connection.recv()
        if self._fails:
            raise IndexGoneError("made to fail")
        vectors, rows, packed = self._given
        order = np.random.default_rng(len(rows)).permutation(len(rows))
        graph = Graph.empty(0) if packed is None else unpack(packed)
        graph = graph.moved(rows)
        mine = vectors[rows]
        complete(graph, mine)
        target = SharedRows(self._dimension)
        target.reserve(len(rows))
        target.vectors[: len(rows)] = mine[order]
        self.vectors = target.vectors[: len(rows)]
        return Built(1.0, 1.0, -1.0, 1, 0, {}), target, rows[order], pack(graph.moved(order))

    def query(self, queries: Vectors, count: int) -> Slots:
        if not self._alive:
            raise IndexGoneError("made to die")
        similar = queries.astype(np.float64) @ self.vectors.T.astype(np.float64)
        found = np.argsort(-similar.astype(np.float32), axis=1, kind="stable")[:, :count].astype(np.int32)
        return np.pad(found, ((0, 0), (0, count - found.shape[1])), constant_values=EMPTY)

    def stop(self) -> None:
        self.connection.close()
        self._theirs.close()
