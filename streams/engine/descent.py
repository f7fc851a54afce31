"""The first lists of a catalogue from pynndescent's neighbour graph, which a process of its own computes.

`NNDescent` compiles for half a minute in every process and holds its interpreter lock, so it runs apart, once, and ends. Its
graph is approximate (nearest-neighbour descent: Dong, Moses, Li, WWW 2011): lists made from it are unverified, as those from
cells are, and compared with the whole catalogue in idle time.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from streams.engine.approximate import MANY, ApproximateEngine
from streams.engine.endings import end_with_parent, last_line
from streams.engine.nearest import EngineMatches
from streams.engine.types import EMPTY, EngineStats, Slots, Vectors

# The niceness of the process: everything else goes first.
NICENESS = 10
# Rows of the catalogue that are written at a time.
ROWS = 4_096
# Seconds between two looks whether the graph is there, where nothing else is to be done.
LOOK_SECONDS = 0.01
# Lists that are made from the graph at a time.
LEAST_MADE = 256
VECTORS, GRAPH = "vectors.npy", "graph.npy"


class DescentFailedError(Exception):
    """The process that computes the graph did not do it."""


class NeighbourGraph:
    """A graph that is being computed.

    Args:
        vectors: float32 (slots, d), unit length.
        slots: int32 (n,), those that the graph is of, more than `links`.
        links: How many neighbours of each.

    Attributes:
        neighbours: int32 (n, links), slots, in no order, some twice, others the track itself; None until it is there.
        failure: Why it will not come; empty as long as it may.
    """

    def __init__(self, vectors: Vectors, slots: Slots, links: int) -> None:
        self.slots = slots
        self.neighbours: Slots | None = None
        self.failure = ""
        self._links = links
        # The catalogue is copied in a thread: newcomers do not wait for that.
        threading.Thread(target=self._run, args=(vectors,), name="descent", daemon=True).start()

    def _run(self, vectors: Vectors) -> None:
        try:
            self.neighbours = self._computed(vectors)
        except Exception as error:  # noqa: BLE001 -- the thread has nobody to tell but by `failure`
            self.failure = " ".join(str(error).split()) or type(error).__name__

    def _computed(self, vectors: Vectors) -> Slots:
        with tempfile.TemporaryDirectory(prefix="mess-descent-") as name, tempfile.TemporaryFile() as errors:
            directory = Path(name)
            shape = len(self.slots), vectors.shape[1]
            copy = np.lib.format.open_memmap(directory / VECTORS, mode="w+", dtype=np.float32, shape=shape)
            for start in range(0, len(self.slots), ROWS):
                part = slice(start, start + ROWS)
                copy[part] = vectors[self.slots[part]]
            del copy
            command = [sys.executable, "-m", "streams.engine.descent", name, str(self._links)]
            with subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
            ) as process:
                status = process.wait()
            if status != 0:
                raise DescentFailedError(f"pynndescent ended with status {status}{last_line(errors)}")
            neighbours: Slots = self.slots[np.load(directory / GRAPH)]
        return neighbours


def compute_graph(directory: Path, links: int) -> None:
    """Write the graph of the vectors in a directory: int32 (n, links + 1), rows, each with itself."""
    from pynndescent import NNDescent  # noqa: PLC0415 - the engine, which imports this module, has no use for it

    vectors = np.load(directory / VECTORS, mmap_mode="r")
    # Unit vectors: `dot` is the cosine.
    index = NNDescent(vectors, metric="dot", n_neighbors=links + 1)
    np.save(directory / GRAPH, index.neighbor_graph[0].astype(np.int32))


class DescentEngine(ApproximateEngine):
    """An `ApproximateEngine` that has pynndescent find the first lists where thousands are missing.

    Where it fails, the lists are made as without it. The lists are the same in the end.
    """

    _graph: NeighbourGraph | None = None
    _failure = ""
    # How many of the graph's lists have been made.
    _done = 0

    def refill(self, limit: int) -> int:
        """See `NeighbourEngine.refill`."""
        if self._is_being_filled:
            return 0
        if self._graph is None and not self._failure:
            self._begin_descent()
        if self._graph is not None:
            return self._descend(limit)
        return super().refill(limit)

    def _begin_descent(self) -> None:
        missing = self._missing()
        alive = np.flatnonzero(self.catalogue.alive[: self.catalogue.used]).astype(np.int32)
        # Of the whole catalogue, as lists of some need all as candidates; not for a few of them.
        if len(missing) >= max(MANY, len(alive) // 2):
            self._graph, self._done = NeighbourGraph(self.catalogue.vectors, alive, self.lists.published), 0

    def _descend(self, limit: int) -> int:
        graph = self._graph
        assert graph is not None
        if graph.failure:
            self._graph, self._failure = None, graph.failure
            return super().refill(limit)
        if graph.neighbours is None:
            time.sleep(LOOK_SECONDS)
            return max(1, len(self._missing()))
        end = self._done + max(limit, LEAST_MADE)
        part = slice(self._done, end)
        self._make_from(graph.slots[part], graph.neighbours[part])
        self._done = end
        left = len(graph.slots) - end
        if left <= 0:
            self._graph = None
        return max(1, left)

    def stats(self) -> EngineStats:
        """See `NeighbourEngine.stats`."""
        return replace(super().stats(), descent_failure=self._failure)

    def _make_from(self, rows: Slots, candidates: Slots) -> None:
        """Make lists that are missing from candidates, int32 (m, w); tracks may have gone meanwhile, or others come."""
        missing = np.isin(rows, self._missing())
        rows, candidates = rows[missing], np.sort(candidates[missing], axis=1)
        fit = self.catalogue.alive[candidates] & (candidates != rows[:, None])
        fit[:, 1:] &= candidates[:, 1:] != candidates[:, :-1]
        found = fit.any(axis=1)
        if found.any():
            with self._timed("descent"):
                best, scores = self.nearest.rank(rows[found], np.where(fit, candidates, EMPTY)[found])
            nothing = np.empty(0, dtype=np.int32)
            self._put(
                rows[found], EngineMatches(best, scores, nothing, nothing, np.empty(0, dtype=np.float32))
            )


if __name__ == "__main__":
    end_with_parent()
    os.nice(NICENESS)
    compute_graph(Path(sys.argv[1]), int(sys.argv[2]))
