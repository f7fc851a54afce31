"""The search index's supervisor: starts builds, adopts finished indexes, and replaces failed ones."""

import math
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np
import numpy.typing as npt

from streams.engine.search.index_process import BuiltIndex, HandedRows, IndexGoneError, IndexProcess
from streams.engine.search.inverted_file import Probe, SearchInvertedFile
from streams.engine.search.quality import RECALL_AT
from streams.engine.search.rows import TrackRows
from streams.engine.search.shared import SharedRows
from streams.engine.search.types import SearchSettings
from streams.engine.types import Scores, Slots, Vectors

# Seconds after a part of a load in which the next part may come.
LOAD_SECONDS = 1.0
MOST_RETRY_SECONDS = 300.0
# Overhead of a call to another process, in seconds.
ASKING_SECONDS = 1e-4


class SearchIndex(Protocol):
    """An index that is built in the background and then answers queries: see `IndexProcess`."""

    connection: Connection

    def built(self) -> HandedRows:
        """See `IndexProcess`."""

    def query(self, queries: Vectors, count: int) -> Slots:
        """See `IndexProcess`."""

    def stop(self) -> None:
        """See `IndexProcess`."""


class SearchIndexSupervisor:
    """Builds indexes of a catalogue in other processes, and queries the latest one.

    During a build, the previous index answers. No call waits for a build.

    Args:
        tracks: The catalogue, which goes over to the rows of each new index.
        settings: How it works.
        start: Starts the process of an index.
    """

    def __init__(
        self, tracks: TrackRows, settings: SearchSettings, start: Callable[..., SearchIndex] = IndexProcess
    ) -> None:
        self._start = start
        self._tracks = tracks
        self._settings = settings
        self._index: SearchIndex | None = None
        self._building: SearchIndex | None = None
        self._graph: SharedRows | None = None
        self._not_before = 0.0
        self._begun = 0.0
        self._as_of = 0.0
        self._failures = 0
        self.report: BuiltIndex | None = None
        self.cells: SearchInvertedFile | None = None
        self.size = 0
        self.builds = 0
        self.failed_builds = 0
        self.lost = 0
        self.last_error: str | None = None

    @property
    def building(self) -> bool:
        """Whether an index is being built."""
        return self._building is not None

    @property
    def age(self) -> float | None:
        """Seconds since the state of the catalogue that the index has; None while there is none."""
        return time.monotonic() - self._as_of if self.report else None

    @property
    def memory_bytes(self) -> int:
        """Bytes held by graph and index, beside the vectors."""
        return self.report.memory_bytes if self.report else 0

    @property
    def newer(self) -> int:
        """Tracks that the index does not have."""
        return int(np.count_nonzero(self._tracks.alive[self.size : self._tracks.used]))

    @property
    def tombstones(self) -> int:
        """Rows of the index without a track."""
        return self.size - int(np.count_nonzero(self._tracks.alive[: self.size]))

    def waiting_for(self) -> list[Connection]:
        """The connections to wait for; call `tend` when one can be read."""
        return [process.connection for process in (self._index, self._building) if process]

    def hold_off(self) -> None:
        """Delay a build, as more of a catalogue may follow."""
        self._not_before = max(self._not_before, time.monotonic() + LOAD_SECONDS)

    def tend(self) -> None:
        """Adopt a finished index, handle a failed one, start a build that is due."""
        if self._building and self._building.connection.poll():
            self._take_over(self._building)
        if self._index and self._index.connection.poll():
            # It sends nothing by itself, so a readable connection is a closed one.
            self._lose("the index process has ended")
        if self._building:
            return
        if len(self._tracks) < self._settings.exact_below:
            if self.size:
                self._forget()
            self._tracks.narrow()
        elif time.monotonic() >= self._not_before and self._due():
            self._begin()

    def _due(self) -> bool:
        changed = self.newer + self.tombstones
        return self._index is None or changed > self._settings.rebuild_share * self.size

    def _begin(self) -> None:
        self._begun = time.monotonic()
        rows = self._tracks.fix()
        self._building = self._start(
            self._tracks.dimension, self._settings, self._tracks.shared, rows, self._graph
        )

    def _take_over(self, process: SearchIndex) -> None:
        self._building = None
        try:
            handed = process.built()
        except IndexGoneError as error:
            process.stop()
            self._failed(str(error))
            return
        self._tracks.adopt(handed.vectors, handed.rows, handed.columns)
        if self._index:
            self._index.stop()
        if self._graph:
            self._graph.close()
        self._index, self._graph, self.report = process, handed.graph, handed.report
        self.cells, self.size = handed.cells, len(handed.rows)
        self._as_of = self._begun
        self.builds += 1
        self._failures = 0
        took = time.monotonic() - self._begun
        self._not_before = time.monotonic() + self._settings.rest * took

    def _failed(self, reason: str) -> None:
        self._tracks.release(self.size)
        self.failed_builds += 1
        self._failures += 1
        self.last_error = reason
        delay = min(self._settings.retry * 2 ** (self._failures - 1), MOST_RETRY_SECONDS)
        self._not_before = time.monotonic() + delay

    def _lose(self, reason: str) -> None:
        """Use the inverted file alone until the next index, which starts from the last graph."""
        if self._index:
            self._index.stop()
        self._index = None
        self.lost += 1
        self.last_error = reason
        self._not_before = max(self._not_before, time.monotonic() + self._settings.retry)

    def _forget(self) -> None:
        """Drop the index, as the catalogue is too small for one."""
        if self._index:
            self._index.stop()
        if self._graph:
            self._graph.close()
        self._index = self._graph = self.report = self.cells = None
        self.size = 0
        self._tracks.release(0)

    def look(self, queries: Vectors, count: int, hidden: npt.NDArray[np.intp]) -> Probe | None:
        """Begin to probe the inverted file; None if there is none. See `Probe`."""
        if self.cells is None or self.report is None:
            return None
        matrix = self._tracks.columns.matrix
        return Probe(self.cells, matrix, queries, count, hidden, self.report.slack)

    def better_by_graph(self, probe: Probe) -> npt.NDArray[np.bool_]:
        """For which of a probe's queries the graph is faster and trusted, bool (q,)."""
        if self._index is None or self.report is None:
            return np.zeros(len(probe.last), dtype=np.bool_)
        graph, row_seconds = self.report.graph, self.report.cells.seconds
        dear: npt.NDArray[np.bool_] = probe.left * row_seconds > graph.seconds + ASKING_SECONDS
        return dear & (probe.last >= graph.threshold)

    def query(self, queries: Vectors, count: int, spare: int) -> Slots | None:
        """Ask the index: rows of the approximately best, int32 (q, more than count); `EMPTY` where none was found.

        None without an index.

        Args:
            queries: float32 (q, d), unit length.
            count: How many are wanted of each.
            spare: How many may have to be left out, beside tombstones.
        """
        if self._index is None:
            return None
        expected = count * self.tombstones / self.size
        spare += math.ceil(expected + 2 * math.sqrt(expected))
        try:
            return self._index.query(queries, min(count + spare, self.size))
        except IndexGoneError as error:
            self._lose(str(error))
            return None

    def trusts_graph(self, scores: Scores) -> bool:
        """Whether the graph has the target recall for a query with these best scores, float32 (at least 50,)."""
        last = np.partition(scores, len(scores) - RECALL_AT)[len(scores) - RECALL_AT]
        return self.report is not None and bool(last >= self.report.graph.threshold)

    def trusts_cells(self, scores: Scores) -> bool:
        """Whether the inverted file has the target recall for a query with these best scores, float32 (at least 50,), best first."""
        return self.report is not None and bool(scores[RECALL_AT - 1] >= self.report.cells.threshold)

    def stop(self) -> None:
        """End all processes."""
        for process in (self._index, self._building):
            if process:
                process.stop()
