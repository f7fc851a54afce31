"""Search in a process of its own, so that neither a query nor an index build disturbs the engine or the event loop.

The process is spawned, never forked: threads of BLAS do not survive a fork. It ends when its parent does.
"""

import asyncio
import atexit
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from streams.neighbours.endings import how_it_ended
from streams.neighbours.search.searcher import Searcher
from streams.neighbours.search.types import Found, SearchSettings, SearchStats
from streams.neighbours.types import Keys, TrackBatch, Vectors

Answer = TypeVar("Answer")

# How often an idle process looks whether an index build is due.
IDLE_SECONDS = 0.5
# And a busy one, between two calls.
TEND_SECONDS = 0.1


class SearchStoppedError(Exception):
    """The search process is gone; the catalogue must be loaded again by a new one."""


class SearchCallError(Exception):
    """The search process refused a call; its state is as before."""


def _serve(connection: Connection, dimension: int, settings: SearchSettings) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when the process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A second thread makes one query hardly faster, and spins while it waits: the worker and Postgres need that core.
    threadpool_limits(1)
    searcher = Searcher(dimension, settings)
    keeper = searcher.keeper
    tended = 0.0
    while True:
        ready = wait([connection, *keeper.waiting_for()], timeout=IDLE_SECONDS)
        if ready != [connection] or time.monotonic() > tended + TEND_SECONDS:
            keeper.tend()
            tended = time.monotonic()
        if connection not in ready:
            continue
        try:
            name, arguments = connection.recv()
        except (EOFError, OSError):
            break
        if name == "stop":
            keeper.stop()
            connection.send((True, None))
            return
        try:
            answer = (True, getattr(searcher, name)(*arguments))
        except (ValueError, IndexError, MemoryError) as error:
            answer = (False, f"{type(error).__name__}: {error}")
        connection.send(answer)
    keeper.stop()


class SearchProcess:
    """Search by vector over the whole catalogue, behind a pipe. Calls are answered in order.

    Args:
        dimension: d of the vectors.
        settings: How it works.
    """

    def __init__(self, dimension: int, *, settings: SearchSettings | None = None) -> None:
        self._arguments = (dimension, settings or SearchSettings())
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="search")

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Spawn the process and wait until it answers."""
        await self._in_thread(self._spawn)
        await self.stats()

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Waiting threads of BLAS that spin would take the cores that everything else needs.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments), name="search")
        self._process.start()
        # It has processes of its own, so it cannot be a daemon; an interpreter that ends would wait for it.
        atexit.register(self._process.kill)
        theirs.close()

    async def stop(self) -> None:
        """End the process, however it is."""
        if self._process is None:
            return
        try:
            await asyncio.wait_for(self._call("stop"), timeout=5)
        except (SearchStoppedError, TimeoutError):
            self._process.kill()
        await asyncio.to_thread(self._process.join, 5)
        atexit.unregister(self._process.kill)
        if self._connection is not None:
            self._connection.close()
        self._process = None
        self._thread.shutdown(wait=False)

    async def load(self, keys: Keys, track_ids: list[str], vectors: Vectors) -> None:
        """Add a catalogue, or a part of one: call it with chunks of some thousand tracks.

        Args:
            keys: int64 (b,).
            track_ids: Their ids, b strings; ties in similarity are broken by them.
            vectors: float32 (b, d), unit length.
        """
        await self._call("load", keys, track_ids, vectors)

    async def apply(self, batch: TrackBatch) -> None:
        """Bring the catalogue up to date with `batch`: what is searched next has it."""
        await self._call("apply", batch)

    async def search(
        self, queries: Vectors, count: int, *, among: Keys | None = None, without: Keys | None = None
    ) -> Found:
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
        return cast("Found", await self._call("search", queries, count, among, without))

    async def vectors(self, keys: Keys) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of some tracks, float32 (m, d), zero where unknown, and which are known, bool (m,)."""
        return cast("tuple[Vectors, npt.NDArray[np.bool_]]", await self._call("vectors", keys))

    async def stats(self) -> SearchStats:
        """Counts and times, at any moment."""
        return cast("SearchStats", await self._call("stats"))

    async def _call(self, name: str, *arguments: object) -> Any:
        def exchange() -> tuple[bool, Any]:
            if self._connection is None:
                raise SearchStoppedError("the search process was never started")
            try:
                self._connection.send((name, arguments))
                return cast("tuple[bool, Any]", self._connection.recv())
            except (EOFError, OSError) as error:
                raise SearchStoppedError(
                    f"the search process is gone{how_it_ended(self._process)}"
                ) from error

        fine, answer = await self._in_thread(exchange)
        if not fine:
            raise SearchCallError(answer)
        return answer

    async def _in_thread(self, function: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except RuntimeError as error:
            raise SearchStoppedError("the search process has been stopped") from error
