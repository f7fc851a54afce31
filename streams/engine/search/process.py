"""Search in a process of its own, so that neither a query nor an index build disturbs the engine or the event loop."""

import select
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import cast

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from streams.engine.piped import IdleDuty, PipedProcess
from streams.engine.search.index_supervisor import SearchIndexSupervisor
from streams.engine.search.metadata import MetadataRow
from streams.engine.search.searcher import Searcher
from streams.engine.search.types import SearchMatches, SearchSettings, SearchStats
from streams.engine.types import Keys, TrackBatch, Vectors

# Seconds between an idle process's checks for a due build.
IDLE_SECONDS = 0.5
# Seconds between a busy process's checks, which happen between calls.
TEND_SECONDS = 0.1


class SearchStoppedError(Exception):
    """The search process is gone; the catalogue must be loaded again by a new one."""


class SearchCallError(Exception):
    """The search process refused a call; its state is as before."""


class _Tending:
    """The search process's work between calls: it tends its index."""

    def __init__(self, connection: Connection, supervisor: SearchIndexSupervisor) -> None:
        # `Connection.poll` takes longer than many a search.
        self._calls = select.poll()
        self._calls.register(connection.fileno(), select.POLLIN)
        self._supervisor = supervisor
        self._tended = 0.0

    def until_called(self) -> bool:
        """See `IdleDuty`: waits for calls, and tends the index from time to time."""
        is_called = bool(self._calls.poll(1000 * IDLE_SECONDS))
        if not is_called or time.monotonic() > self._tended + TEND_SECONDS:
            self._supervisor.tend()
            self._tended = time.monotonic()
        return is_called

    def called(self) -> None:
        """See `IdleDuty`: nothing is to be done."""

    def stop(self) -> None:
        """See `IdleDuty`."""
        self._supervisor.stop()


def tended_searcher(connection: Connection, searcher: Searcher) -> tuple[Searcher, IdleDuty]:
    """A searcher for a process, with the idle duty that tends its index."""
    # A second thread makes one query hardly faster, and spins while it waits: the worker and Postgres need that core.
    threadpool_limits(1)
    return searcher, _Tending(connection, searcher.supervisor)


def _build(connection: Connection, dimension: int, settings: SearchSettings) -> tuple[Searcher, IdleDuty]:
    return tended_searcher(connection, Searcher(dimension, settings))


class SearchProcess(PipedProcess):
    """Search by vector over the whole catalogue, behind a pipe. Calls are answered in order.

    Args:
        dimension: d of the vectors.
        settings: How it works.
        build: What makes the searcher, a function of a module that takes the pipe's end, `dimension` and `settings`.
    """

    name = "search"
    stopped_error = SearchStoppedError
    call_error = SearchCallError
    has_children = True

    def __init__(
        self,
        dimension: int,
        *,
        settings: SearchSettings | None = None,
        build: Callable[..., tuple[Searcher, IdleDuty]] = _build,
    ) -> None:
        super().__init__(build, dimension, settings or SearchSettings())

    async def load(
        self,
        keys: Keys,
        track_ids: list[str],
        vectors: Vectors,
        metadata: Sequence[MetadataRow] | None = None,
        offsets: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Add a catalogue, or a part of one: call it with chunks of some thousand tracks.

        Args:
            keys: int64 (b,).
            track_ids: Their ids, b strings; ties in similarity are broken by them.
            vectors: float32 (b, d), unit length.
            metadata: What is known of them, a value for each of the process's fields; None: nothing.
            offsets: int64 (b,), of the events that they are from.
        """
        await self._call("load", keys, track_ids, vectors, metadata, offsets)

    async def apply(self, batch: TrackBatch) -> None:
        """Bring the catalogue up to date with `batch`: what is searched next has it."""
        await self._call("apply", batch)

    async def describe(self, keys: Keys, metadata: Sequence[MetadataRow]) -> Keys:
        """Give tracks other metadata, and leave their vectors; unknown tracks are passed over.

        Args:
            keys: int64 (m,).
            metadata: Of each, as for `load`.

        Returns:
            The tracks that had another, int64.
        """
        return cast("Keys", await self._call("describe", keys, metadata))

    async def search(
        self, queries: Vectors, count: int, *, among: Keys | None = None, without: Keys | None = None
    ) -> SearchMatches:
        """Find the tracks most similar to each query, equal ones by track id. Never waits for an index build.

        Args:
            queries: float32 (q, d); scaled to unit length if they are not.
            count: How many for each.
            among: int64 (m,), the only tracks to consider, by an exact scan; unknown ones are passed over.
            without: int64 (m,), tracks to leave out.

        Raises:
            SearchCallError: A query has another dimension, or is zero or not finite, or `count` is below 1.
            SearchStoppedError: The process is gone.
        """
        return cast("SearchMatches", await self._call("search", queries, count, among, without))

    async def vectors(self, keys: Keys) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of some tracks, float32 (m, d), zero where unknown, and which are known, bool (m,)."""
        return cast("tuple[Vectors, npt.NDArray[np.bool_]]", await self._call("vectors", keys))

    async def stats(self) -> SearchStats:
        """Counts and times, at any moment."""
        return cast("SearchStats", await self._call("stats"))
