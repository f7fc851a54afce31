"""An index that is exact and built at once: the twin of `IndexProcess`, with its seam and its order of events.

Its cells are real ones, and a query looks into as many as it must to be exact.
"""

import multiprocessing

import numpy as np

from streams.engine.search.columns import NarrowColumns
from streams.engine.search.graph import SearchGraph, complete_graph
from streams.engine.search.index_process import (
    BuiltIndex,
    HandedRows,
    IndexGoneError,
    pack_graph,
    unpack_graph,
)
from streams.engine.search.inverted_file import divide_into_cells
from streams.engine.search.quality import SearchQuality
from streams.engine.search.shared import SharedRows, shared_copy
from streams.engine.search.types import SearchSettings
from streams.engine.types import EMPTY, Slots, Vectors

# So much less similar than anything may be to anything else: every cell is looked into.
EVERYWHERE = 3.0


def report(*, by_graph: bool, cells: float = -1.0, graph: float = -1.0) -> BuiltIndex:
    """What an exact index tells: which of graph and cells is the shorter way, and from which similarity on each is trusted."""
    row, query = (1.0, 0.0) if by_graph else (0.0, 1.0)
    return BuiltIndex(
        SearchQuality(1.0, 1.0, cells, row), EVERYWHERE, SearchQuality(1.0, 1.0, graph, query), 1, 0, {}
    )


class ExactIndex:
    """Ready, or failed, when `finish` is called; then answers exactly. `latest` is the one started last.

    `by_graph` says whether its graph or its cells are to answer; `directions`, how many of its columns products are made with.
    """

    latest: "ExactIndex"
    by_graph = False
    directions = 0

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

    def built(self) -> HandedRows:
        self.connection.recv()
        if self._fails:
            raise IndexGoneError("made to fail")
        vectors, rows, packed = self._given
        mine = vectors[rows]
        directions = np.eye(vectors.shape[1])[: self.directions] if self.directions else None
        reduced = NarrowColumns(shared_copy(mine), directions).of(mine)
        cells, order = divide_into_cells(reduced, np.random.default_rng(len(rows)))
        known = SearchGraph.empty(0) if packed is None else unpack_graph(packed)
        known = known.moved(rows[order])
        complete_graph(known, mine[order])
        target = shared_copy(mine[order])
        self.vectors = target.vectors[: len(rows)]
        columns = NarrowColumns(target if directions is None else shared_copy(reduced[order]), directions)
        return HandedRows(
            report(by_graph=self.by_graph), target, rows[order], columns, cells, pack_graph(known)
        )

    def query(self, queries: Vectors, count: int) -> Slots:
        if not self._alive:
            raise IndexGoneError("made to die")
        similar = queries.astype(np.float64) @ self.vectors.T.astype(np.float64)
        found = np.argsort(-similar.astype(np.float32), axis=1, kind="stable")[:, :count].astype(np.int32)
        return np.pad(found, ((0, 0), (0, count - found.shape[1])), constant_values=EMPTY)

    def stop(self) -> None:
        self.connection.close()
        self._theirs.close()
