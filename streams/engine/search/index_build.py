"""Builds an index in a process of its own, which ends when the index is handed over.

A thread would do if it were not for busy machines: one that gives way to others may be stopped while it holds the interpreter,
and every query waits. Vectors lie in memory that both processes map; all else is small and goes through a pipe.
"""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from streams.engine.projection import ComponentSearch, project_vectors
from streams.engine.search.columns import WANTED, NarrowColumns
from streams.engine.search.growing import GrowingRows, new_memory
from streams.engine.search.inverted_file import SearchInvertedFile, divide_into_cells
from streams.engine.search.quality import QualitySample, SearchQuality, tune_cells
from streams.engine.types import Slots, Vectors

BUILD_PRIORITY = 10
COPIED_ROWS = 4_096


class BuildFailedError(Exception):
    """There is no index; it says why."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build tells of an index.

    Attributes:
        cells: The cells that its rows are in.
        slack: How much less similar than the last found a cell's centroid may be for the cell to be looked into.
        quality: What a search of the cells is worth.
        directions: float64 (p, d), of the columns that products are made with; None for the vectors themselves.
        seconds: Taken by phase.
    """

    cells: SearchInvertedFile
    slack: float
    quality: SearchQuality
    directions: npt.NDArray[np.float64] | None
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """An index.

    Attributes:
        report: What the build tells of it.
        rows: int32 (n,), which row of the catalogue is the index's row i.
        vectors: float32 (n, d), in the index's order of rows.
        columns: What products with these rows are made with.
    """

    report: BuildReport
    rows: Slots
    vectors: GrowingRows
    columns: NarrowColumns


class IndexBuild:
    """A build under way.

    Args:
        catalogue: float32 (slots, d), unit length.
        rows: int32 (n,), ascending, the rows to build an index of; they must not change before it is built.
        recall: Target recall@50.
    """

    def __init__(self, catalogue: GrowingRows, rows: Slots, recall: float) -> None:
        self._dimension = catalogue.vectors.shape[1]
        self._count = len(rows)
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(theirs, self._dimension, len(rows), recall), name="index", daemon=True
        )
        self._process.start()
        theirs.close()
        self._order = GrowingRows(1)
        self._order.reserve(len(rows))
        self._order.vectors[: len(rows), 0] = rows.view(np.float32)
        self._moved, self._reduced = new_memory(), new_memory()
        for descriptor in (catalogue.descriptor, self._order.descriptor, self._moved, self._reduced):
            reduction.send_handle(self._connection, descriptor, self._process.pid or 0)

    @property
    def ended(self) -> bool:
        """Whether it has come to an end, good or bad."""
        return self._connection.poll()

    def built(self) -> BuiltIndex:
        """The index, once the build has ended.

        Raises:
            BuildFailedError: There is none.
        """
        try:
            report: BuildReport | str = self._connection.recv()
        except (EOFError, OSError):
            report = "the process that built it has ended"
        rows = self._order.vectors[: self._count, 0].view(np.int32).copy()
        self._order.close()
        self.stop()
        if isinstance(report, str):
            os.close(self._moved)
            os.close(self._reduced)
            raise BuildFailedError(report)
        vectors = GrowingRows(self._dimension, self._moved)
        if report.directions is None:
            os.close(self._reduced)
            return BuiltIndex(report, rows, vectors, NarrowColumns(vectors))
        reduced = GrowingRows(len(report.directions) + 1, self._reduced)
        return BuiltIndex(report, rows, vectors, NarrowColumns(reduced, report.directions))

    def stop(self) -> None:
        """End the process, however it is."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()


def _run(connection: Connection, dimension: int, count: int, recall: float) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when the process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    step_back()
    threadpool_limits(1)
    catalogue, order, moved, reduced = (
        GrowingRows(columns, reduction.recv_handle(connection)) for columns in (dimension, 1, dimension, 1)
    )
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    report: BuildReport | str
    try:
        rows = order.vectors[:count, 0].view(np.int32)
        report = build_index(catalogue.vectors, rows, recall, moved, reduced.descriptor)
    except Exception as error:  # noqa: BLE001 -- who asked for the index is told
        report = f"{type(error).__name__}: {error}"
    connection.send(report)


def step_back() -> None:
    """Have this process give way to other work; one that runs at lower priority keeps that."""
    os.nice(max(0, BUILD_PRIORITY - os.nice(0)))


def _end_with_parent(connection: Connection) -> None:
    # Nothing more is sent this way: there is something to read when the other end is closed.
    connection.poll(None)
    os._exit(0)


def build_index(
    vectors: Vectors, rows: Slots, recall: float, moved: GrowingRows, reduced: int
) -> BuildReport:
    """Build an index.

    Args:
        vectors: float32 (slots, d), the catalogue's.
        rows: int32 (n,), ascending, those to build it of; brought into the index's order.
        recall: Target recall@50.
        moved: Gets their vectors in that order.
        reduced: A descriptor of memory that gets the columns for products, if these are not the vectors.
    """
    began = time.perf_counter()
    random = np.random.default_rng()
    directions = choose_directions(vectors, rows)
    matrix = vectors[rows] if directions is None else project_rows(vectors, rows, directions)
    cells, order = divide_into_cells(matrix, random)
    if directions is None:
        del matrix
    rows[:] = rows[order]
    gather_rows(vectors, rows, moved)
    columns = NarrowColumns(moved)
    if directions is not None:
        narrow = GrowingRows(matrix.shape[1], reduced)
        gather_rows(matrix, order, narrow)
        columns = NarrowColumns(narrow, directions)
    divided = time.perf_counter()
    sample = QualitySample.of(moved.vectors[: len(rows)], random)
    slack, quality = tune_cells(cells, sample, columns.of(sample.queries), recall)
    seconds = {"cells": divided - began, "tune": time.perf_counter() - divided}
    return BuildReport(cells, slack, quality, directions, seconds)


def choose_directions(vectors: Vectors, rows: Slots) -> npt.NDArray[np.float64] | None:
    """Fewer columns, float64 (p, d), where a sample of some rows says that products with them are cheaper."""
    among = np.zeros(int(rows[-1]) + 1, dtype=np.bool_)
    among[rows] = True
    directions = ComponentSearch().take(vectors, among, WANTED, wait=True)
    return directions if directions is not None and len(directions) else None


def project_rows(vectors: Vectors, rows: Slots, directions: npt.NDArray[np.float64]) -> Vectors:
    """Some rows in these directions, float32 (n, p + 1)."""
    reduced = np.empty((len(rows), len(directions) + 1), dtype=np.float32)
    # A block at a time: a copy of all of them would take as much memory as the catalogue.
    for start in range(0, len(rows), COPIED_ROWS):
        part = slice(start, start + COPIED_ROWS)
        reduced[part] = project_vectors(vectors[rows[part]], directions)
    return reduced


def gather_rows(vectors: Vectors, rows: npt.NDArray[np.integer], into: GrowingRows) -> None:
    """Copy some rows, in their order."""
    into.reserve(len(rows))
    for start in range(0, len(rows), COPIED_ROWS):
        part = slice(start, min(start + COPIED_ROWS, len(rows)))
        into.vectors[part] = vectors[rows[part]]
