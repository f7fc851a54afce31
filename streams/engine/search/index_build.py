"""A process that builds one index, and then answers queries from it.

It reads the catalogue's vectors in shared memory, and passes back its own, in its order, in memory that both map. Messages are
small, so that neither side blocks in a write; large data is passed by file descriptor.
"""

import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from streams.engine.search.columns import NarrowColumns, choose_columns
from streams.engine.search.graph import LINKS, SearchGraph, neighbour_graph
from streams.engine.search.inverted_file import SearchInvertedFile, divide_into_cells
from streams.engine.search.quality import QualitySample, SearchQuality, tune_cells
from streams.engine.search.shared import SharedRows, shared_copy
from streams.engine.search.types import SearchSettings
from streams.engine.types import Slots, Vectors

if TYPE_CHECKING:
    from streams.engine.search.index import ApproximateIndex

# Seconds between checks of whether a build is still wanted.
LOOK_SECONDS = 0.2
# A query takes milliseconds; a process that has not answered for so long hangs.
STUCK_SECONDS = 5.0
# Queries are sent in parts that fit the buffer of a pipe.
MESSAGE_BYTES = 128 * 1024
BUILD_PRIORITY = 10
COPIED_ROWS = 4096


class IndexGoneError(Exception):
    """The index process has ended or does not answer."""


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """What a build tells.

    Attributes:
        cells: What a search of cells is worth; its seconds are of a row.
        slack: How much less similar than the last found a cell's centroid may be for the cell to be looked into.
        graph: What a search of the graph is worth; its seconds are of a query.
        leaf_budget: Leaves of the tree that such a search starts from.
        memory_bytes: Held by the graph and the index.
        seconds: Taken by phase.
    """

    cells: SearchQuality
    slack: float
    graph: SearchQuality
    leaf_budget: int
    memory_bytes: int
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class HandedRows:
    """An index, as the process that built it hands it over.

    Attributes:
        report: What it tells.
        vectors: float32 (n, d), in the index's order of rows.
        rows: int32 (n,), which row of the catalogue is the index's row i.
        columns: What products with these rows are made with.
        cells: The cells that they are in.
        graph: As `pack_graph` has it.
    """

    report: BuiltIndex
    vectors: SharedRows
    rows: Slots
    columns: NarrowColumns
    cells: SearchInvertedFile
    graph: SharedRows


@dataclass(frozen=True, slots=True)
class _Shapes:
    """What must be known to read shared memory: directions (0 for none), columns and cells."""

    directions: int
    columns: int
    cells: int


@dataclass(frozen=True, slots=True)
class BuildFailed:
    """Why there is no index."""

    reason: str


class IndexProcess:
    """An index in a process of its own.

    Args:
        dimension: d of the vectors.
        settings: How it works.
        vectors: The catalogue's.
        rows: int32 (n,), the rows to build an index of; they must not change before it is built.
        graph: Of the rows that the last index had, as `pack_graph` has it; None if there was none.
    """

    def __init__(
        self,
        dimension: int,
        settings: SearchSettings,
        vectors: SharedRows,
        rows: Slots,
        graph: SharedRows | None,
    ) -> None:
        self._dimension = dimension
        self._count = len(rows)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_run,
            args=(theirs, dimension, len(rows), graph is not None, settings),
            name="index",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        which = SharedRows(1)
        which.reserve(len(rows))
        which.vectors[: len(rows), 0] = rows.view(np.float32)
        for memory in (vectors, which, graph):
            if memory is not None:
                reduction.send_handle(self.connection, memory.descriptor, self._process.pid or 0)
        which.close()

    def built(self) -> HandedRows:
        """What the build gave, once `connection` has something.

        Raises:
            IndexGoneError: There is no index; it says why.
        """
        try:
            report: BuiltIndex | BuildFailed = self.connection.recv()
            if isinstance(report, BuildFailed):
                raise IndexGoneError(report.reason)
            shapes: _Shapes = self.connection.recv()
            vectors, graph = self._received(self._dimension), self._received(2 * LINKS)
            order, centroids, starts = self._received(1), self._received(shapes.columns), self._received(2)
            columns = NarrowColumns(vectors)
            if shapes.directions:
                reduced, directions = self._received(shapes.columns), self._received(2 * self._dimension)
                columns = NarrowColumns(
                    reduced, directions.vectors[: shapes.directions].view(np.float64).copy()
                )
                directions.close()
        except (EOFError, OSError) as error:
            raise IndexGoneError("the process that built the index has ended") from error
        rows = order.vectors[: self._count, 0].view(np.int32).copy()
        cells = SearchInvertedFile(
            centroids.vectors[: shapes.cells].copy(),
            starts.vectors[: shapes.cells + 1].view(np.int64)[:, 0].copy(),
        )
        for memory in (order, centroids, starts):
            memory.close()
        return HandedRows(report, vectors, rows, columns, cells, graph)

    def _received(self, columns: int) -> SharedRows:
        return SharedRows(columns, reduction.recv_handle(self.connection))

    def query(self, queries: Vectors, count: int) -> Slots:
        """See `index.ApproximateIndex.query`.

        Raises:
            IndexGoneError: It has ended or does not answer.
        """
        step = max(1, MESSAGE_BYTES // (4 * self._dimension))
        found = []
        try:
            for start in range(0, len(queries), step):
                self.connection.send((queries[start : start + step], count))
                if not self.connection.poll(STUCK_SECONDS):
                    raise IndexGoneError("the index process does not answer")
                found.append(self.connection.recv())
        except (EOFError, OSError) as error:
            raise IndexGoneError("the index process has ended") from error
        rows: Slots = np.concatenate(found) if found else np.empty((0, count), dtype=np.int32)
        return rows

    def stop(self) -> None:
        """End the process, however it is."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def pack_graph(graph: SearchGraph) -> SharedRows:
    """A graph in memory to share: rows in the first columns, scores in the others."""
    memory = SharedRows(2 * LINKS)
    memory.reserve(len(graph.rows))
    memory.vectors[: len(graph.rows), :LINKS] = graph.rows.view(np.float32)
    memory.vectors[: len(graph.rows), LINKS:] = graph.scores
    return memory


def unpack_graph(memory: SharedRows) -> SearchGraph:
    """The graph that `pack_graph` put there."""
    return SearchGraph(
        np.ascontiguousarray(memory.vectors[:, :LINKS]).view(np.int32),
        np.ascontiguousarray(memory.vectors[:, LINKS:]),
    )


def _run(
    connection: Connection, dimension: int, count: int, has_graph: bool, settings: SearchSettings
) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when the process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if settings.cache_dir is not None:
        settings.cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ["NUMBA_CACHE_DIR"] = str(settings.cache_dir)
    vectors = SharedRows(dimension, reduction.recv_handle(connection))
    which = SharedRows(1, reduction.recv_handle(connection))
    rows = which.vectors[:count, 0].view(np.int32)
    graph = SharedRows(2 * LINKS, reduction.recv_handle(connection)) if has_graph else None
    with ThreadPoolExecutor(1, thread_name_prefix="build") as pool:
        building = pool.submit(_build, dimension, settings, vectors, rows, graph)
        del vectors, which, rows, graph
        while not wait([building], timeout=LOOK_SECONDS).done:
            if connection.poll():
                # Nobody asks before it is built: the other end is gone.
                os._exit(0)
        reason = building.exception()
        if reason is not None:
            connection.send(BuildFailed(f"{type(reason).__name__}: {reason}"))
            return
        index, report, shapes, handed = building.result()
    connection.send(report)
    connection.send(shapes)
    for memory in handed:
        reduction.send_handle(connection, memory.descriptor, os.getppid())
        memory.close()
    del building, handed
    while True:
        try:
            queries, wanted = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(index.query(queries, wanted))


def _build(
    dimension: int, settings: SearchSettings, vectors: SharedRows, rows: Slots, graph: SharedRows | None
) -> tuple["ApproximateIndex", BuiltIndex, _Shapes, list[SharedRows]]:
    _step_back()
    clock = _Clock()
    # Here and in no other process: it imports numba and compiles.
    from streams.engine.search import index as approximate  # noqa: PLC0415

    clock.stop("import")
    random = np.random.default_rng()
    moved, columns, cells, rows = _in_cells(vectors, rows, random)
    clock.stop("cells")
    mine = moved.vectors[: len(rows)]
    known = SearchGraph.empty(0) if graph is None else unpack_graph(graph)
    known = neighbour_graph(mine, cells, known.moved(rows))
    clock.stop("graph")
    index = approximate.ApproximateIndex(mine, known, settings.epsilon)
    clock.stop("index")
    sample = QualitySample.of(mine, random)
    reduced = columns.of(sample.queries)
    slack, of_cells = tune_cells(cells, columns.matrix[: len(rows)], sample, reduced, settings.recall)
    leaf_budget, of_graph = index.tune(sample, settings.leaf_budget, settings.recall)
    clock.stop("tune")
    memory_bytes = index.memory_bytes + known.rows.nbytes + known.scores.nbytes + cells.centroids.nbytes
    report = BuiltIndex(of_cells, slack, of_graph, leaf_budget, memory_bytes, clock.seconds)
    shapes = _Shapes(
        0 if columns.directions is None else len(columns.directions), columns.matrix.shape[1], len(cells)
    )
    handed = [
        moved,
        pack_graph(known),
        shared_copy(rows[:, None]),
        shared_copy(cells.centroids),
        shared_copy(cells.starts[:, None]),
    ]
    if columns.directions is not None:
        handed += [columns.shared, shared_copy(columns.directions)]
    return index, report, shapes, handed


def _in_cells(
    vectors: SharedRows, rows: Slots, random: np.random.Generator
) -> tuple[SharedRows, NarrowColumns, SearchInvertedFile, Slots]:
    """Vectors, columns to make products with, and rows of the catalogue, in the order of cells, and the cells."""
    dense = int(rows[-1]) == len(rows) - 1
    mine = vectors if dense else _gathered(vectors, rows)
    chosen = choose_columns(mine, len(rows))
    cells, order = divide_into_cells(chosen.matrix[: len(rows)], random)
    moved = _gathered(mine, order)
    columns = NarrowColumns(moved)
    if chosen.directions is not None:
        columns = NarrowColumns(_gathered(chosen.shared, order), chosen.directions)
    chosen.close()
    if not dense:
        mine.close()
    return moved, columns, cells, rows[order]


def _gathered(vectors: SharedRows, rows: npt.NDArray[np.integer]) -> SharedRows:
    """A copy of some rows, in their order."""
    moved = SharedRows(vectors.vectors.shape[1])
    moved.reserve(len(rows))
    # A block at a time: what is taken together is copied twice.
    for start in range(0, len(rows), COPIED_ROWS):
        part = slice(start, min(start + COPIED_ROWS, len(rows)))
        moved.vectors[part] = vectors.vectors[rows[part]]
    return moved


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def stop(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self._last = now - self._last, now


if sys.platform == "linux":

    def _step_back() -> None:
        """Have all threads but the main one, which will answer queries, give way to other work."""
        for thread in Path("/proc/self/task").iterdir():
            number = int(thread.name)
            # Raising priority needs a privilege, so a process that already runs at lower priority keeps it.
            if number != os.getpid() and os.getpriority(os.PRIO_PROCESS, number) < BUILD_PRIORITY:
                os.setpriority(os.PRIO_PROCESS, number, BUILD_PRIORITY)

else:

    def _step_back() -> None:
        """Nothing: priorities are of processes here, and this one will answer queries."""
