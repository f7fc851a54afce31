"""The search index's supervisor: starts builds, adopts finished indexes, and tries again after a failure."""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from streams.engine.search.index_build import BuildFailedError, BuiltIndex, IndexBuild
from streams.engine.search.inverted_file import Probe
from streams.engine.search.quality import RECALL_AT
from streams.engine.search.rows import TrackRows
from streams.engine.search.types import SearchSettings
from streams.engine.types import Scores, Vectors

# Seconds after a part of a load in which the next part may come.
LOAD_SECONDS = 1.0
MOST_RETRY_SECONDS = 300.0


class Build(Protocol):
    """An index that is built in the background: see `IndexBuild`."""

    @property
    def ended(self) -> bool:
        """See `IndexBuild`."""

    def built(self) -> BuiltIndex:
        """See `IndexBuild`."""

    def stop(self) -> None:
        """See `IndexBuild`."""


class SearchIndexSupervisor:
    """Builds indexes of a catalogue in the background, and has the latest one.

    During a build, the previous index answers. No call waits for a build.

    Args:
        tracks: The catalogue, which goes over to the rows of each new index.
        settings: How it works.
        start: Starts a build.

    Attributes:
        index: The latest; None while there is none.
        size: Rows of the index.
    """

    def __init__(
        self, tracks: TrackRows, settings: SearchSettings, start: Callable[..., Build] = IndexBuild
    ) -> None:
        self._start = start
        self._tracks = tracks
        self._settings = settings
        self._building: Build | None = None
        self._not_before = 0.0
        self._begun = 0.0
        self._as_of = 0.0
        self._failures = 0
        self.index: BuiltIndex | None = None
        self.size = 0
        self.builds = 0
        self.failed_builds = 0
        self.last_error: str | None = None

    @property
    def building(self) -> bool:
        """Whether an index is being built."""
        return self._building is not None

    @property
    def age(self) -> float | None:
        """Seconds since the state of the catalogue that the index has; None while there is none."""
        return time.monotonic() - self._as_of if self.index else None

    @property
    def newer(self) -> int:
        """Tracks that the index does not have."""
        return int(np.count_nonzero(self._tracks.alive[self.size : self._tracks.used]))

    @property
    def tombstones(self) -> int:
        """Rows of the index without a track."""
        return self.size - int(np.count_nonzero(self._tracks.alive[: self.size]))

    def hold_off(self) -> None:
        """Delay a build, as more of a catalogue may follow."""
        self._not_before = max(self._not_before, time.monotonic() + LOAD_SECONDS)

    def tend(self) -> None:
        """Adopt a finished index, handle a failed build, start one that is due."""
        if self._building:
            if self._building.ended:
                self._take_over(self._building)
            return
        if len(self._tracks) < self._settings.exact_below:
            if self.index:
                self._forget()
            self._tracks.narrow()
        elif time.monotonic() >= self._not_before and self._due():
            self._begun = time.monotonic()
            rows = self._tracks.fix()
            self._building = self._start(self._tracks.growing, rows, self._settings.recall)

    def _due(self) -> bool:
        changed = self.newer + self.tombstones
        return self.index is None or changed > self._settings.rebuild_share * self.size

    def _take_over(self, build: Build) -> None:
        self._building = None
        try:
            index = build.built()
        except BuildFailedError as error:
            self._failed(str(error))
            return
        self._tracks.adopt(index.vectors, index.rows, index.columns)
        self.index, self.size = index, len(index.rows)
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

    def _forget(self) -> None:
        """Drop the index, as the catalogue is too small for one."""
        self.index, self.size = None, 0
        self._tracks.release(0)

    def look(self, queries: Vectors, count: int, hidden: npt.NDArray[np.intp]) -> Probe | None:
        """Begin to probe the inverted file; None if there is none. See `Probe`."""
        if self.index is None:
            return None
        matrix = self._tracks.columns.matrix
        return Probe(self.index.report.cells, matrix, queries, count, hidden, self.index.report.slack)

    def trusts_cells(self, scores: Scores) -> bool:
        """Whether the inverted file has the target recall for a query with these best scores, float32 (at least 50,), best first."""
        return self.index is not None and bool(scores[RECALL_AT - 1] >= self.index.report.quality.threshold)

    def stop(self) -> None:
        """End a build that is under way."""
        if self._building:
            self._building.stop()
