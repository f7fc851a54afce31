"""The engine in a process of its own, so that no product ever stalls Kafka's heartbeats or the event loop.

Between calls it uses its idle time to refill lists.
"""

import asyncio
import math
import os
import time
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from streams.engine.acceleration import KernelLoader
from streams.engine.approximate import EXACT_UPTO, ApproximateEngine
from streams.engine.descent import DescentEngine
from streams.engine.exact import ExactEngine
from streams.engine.piped import PipedProcess
from streams.engine.snapshot import SnapshotError
from streams.engine.types import (
    EngineStats,
    Keys,
    ListChanges,
    NeighbourEngine,
    SnapshotHeader,
    StoredLists,
    TrackBatch,
    TrueLists,
)

# Seconds of one slice of idle work, the same after a longer pause of calls, and the maximum number of lists refilled in it.
SLICE_SECONDS = 0.005
LONG_SLICE_SECONDS = 0.1
QUIET_SECONDS = 1.0
SLICE_LISTS = 2_048
# Seconds that an engine without lists to refill sleeps before it checks for a call.
IDLE_SECONDS = 5.0
# The compiled loops take 60 MiB and a second of a core to load, and save a smaller catalogue half a millisecond an insert.
ACCELERATED_FROM = 500
# A compiler that failed, for want of memory or of room on the disk, is tried again after so long.
COMPILE_AGAIN_SECONDS = 600.0
# How long the engine writes at a snapshot at a time; it rests twice as long in between.
SNAPSHOT_SECONDS = 0.01


class EngineStoppedError(Exception):
    """The engine process is gone; its state must be loaded again by a new one."""


class EngineCallError(Exception):
    """The engine refused a call; its state is as before."""


class _Idle:
    """What the engine does between calls, in slices so short that a batch that arrives meanwhile hardly waits."""

    def __init__(self, connection: Connection, engine: ExactEngine, accelerated_from: int) -> None:
        self._connection = connection
        self._engine = engine
        self._accelerated_from = accelerated_from
        self._loading: KernelLoader | None = None
        self._failed_at = -math.inf
        self._lists = 1
        self._called = time.monotonic()
        self._waiting = True

    def until_called(self) -> bool:
        """See `Duty`: a slice of refilling, or a sleep where nothing is to be refilled."""
        if self._connection.poll(0 if self._waiting else IDLE_SECONDS):
            return True
        self._work()
        return False

    def called(self) -> None:
        """See `Duty`."""
        self._called = time.monotonic()
        self._waiting = True
        # Here too: under load there are no slices.
        self._accelerate()

    def stop(self) -> None:
        """See `Duty`."""
        if self._loading is not None:
            self._loading.stop()

    def _accelerate(self) -> None:
        if self._loading is None:
            due = time.monotonic() > self._failed_at + COMPILE_AGAIN_SECONDS
            if due and len(self._engine.catalogue) >= self._accelerated_from:
                self._loading = KernelLoader()
                self._loading.start()
        elif self._loading.failure:
            self._engine.note_uncompiled(self._loading.failure)
            self._loading, self._failed_at = None, time.monotonic()
        elif self._loading.kernels is not None:
            self._engine.accelerate(self._loading.kernels)
            self._loading.kernels = None

    def _work(self) -> None:
        self._accelerate()
        began = time.perf_counter()
        self._waiting = self._engine.refill(self._lists) > 0
        took = time.perf_counter() - began
        # As many lists at a time as take about so long, whatever the catalogue and the machine's load.
        quiet = time.monotonic() - self._called > QUIET_SECONDS
        fitting = int(self._lists * (LONG_SLICE_SECONDS if quiet else SLICE_SECONDS) / max(took, 1e-6))
        self._lists = max(1, min(fitting, 2 * self._lists, SLICE_LISTS))


def _build(
    connection: Connection,
    dimension: int,
    published: int,
    kept: int,
    exact_upto: int,
    accelerated_from: int,
    by_descent: bool,
) -> tuple[NeighbourEngine, _Idle]:
    kind = DescentEngine if by_descent else ApproximateEngine
    engine = kind(dimension, published=published, kept=kept, exact_upto=exact_upto)
    return engine, _Idle(connection, engine, accelerated_from)


def _cached_at(cache: str | os.PathLike[str] | None) -> dict[str, str]:
    """Where numba is to keep what it compiles: what was compiled once on this machine serves every data directory."""
    if not cache or "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK):
        return {}
    return {"NUMBA_CACHE_DIR": os.fspath(cache)}


class EngineProcess(PipedProcess):
    """A `NeighbourEngine` behind a pipe, with an asynchronous interface. Calls are answered in order.

    Args:
        dimension: d of the vectors.
        published: How many neighbours the world sees.
        kept: How many are kept.
        exact_upto: The size of a catalogue up to which newcomers are compared with all of it at once.
        accelerated_from: The size of a catalogue from which on the compiled inner loops are used.
        by_descent: Whether pynndescent finds the first lists of a catalogue that comes whole.
        cache: A directory that keeps the compiled loops from one start to the next, where NUMBA_CACHE_DIR names none and
            the place beside the modules cannot be written.

    Attributes:
        dimension: As given.
    """

    name = "engine"
    stopped_error = EngineStoppedError
    call_error = EngineCallError

    def __init__(
        self,
        dimension: int,
        *,
        published: int = 50,
        kept: int = 100,
        exact_upto: int = EXACT_UPTO,
        accelerated_from: int = ACCELERATED_FROM,
        by_descent: bool = False,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.dimension = dimension
        # Large catalogues need the loops: they are there before one has become large.
        loops_from = min(accelerated_from, exact_upto // 2)
        arguments = (dimension, published, kept, exact_upto, loops_from, by_descent)
        super().__init__(_build, *arguments, environment=_cached_at(cache))

    async def load(self, tracks: TrackBatch, lists: StoredLists) -> None:
        """See `NeighbourEngine.load`."""
        await self._call("load", tracks, lists)

    async def apply(self, batch: TrackBatch) -> None:
        """See `NeighbourEngine.apply`."""
        await self._call("apply", batch)

    async def own(self, partitions: Collection[int] | None) -> None:
        """See `NeighbourEngine.own`."""
        await self._call("own", partitions)

    async def adopt(self, lists: StoredLists, absorbed: Mapping[int, int]) -> None:
        """See `NeighbourEngine.adopt`."""
        await self._call("adopt", lists, dict(absorbed))

    async def refill(self, limit: int) -> int:
        """See `NeighbourEngine.refill`."""
        return cast("int", await self._call("refill", limit))

    async def take_changes(self) -> ListChanges:
        """See `NeighbourEngine.take_changes`."""
        return cast("ListChanges", await self._call("take_changes"))

    async def sample(self, count: int) -> TrueLists:
        """See `NeighbourEngine.sample`."""
        return cast("TrueLists", await self._call("sample", count))

    async def write_snapshot(
        self, path: str | os.PathLike[str], identity: str, offsets: Mapping[int, int]
    ) -> SnapshotHeader:
        """Write the whole state to a file while other calls go on; see `NeighbourEngine.begin_snapshot`.

        Raises:
            SnapshotError: The file cannot be written.
        """
        await self._snapshot_call("begin_snapshot", os.fspath(path), identity, dict(offsets))
        while True:
            header = await self._snapshot_call("continue_snapshot", SNAPSHOT_SECONDS)
            if header is not None:
                return cast("SnapshotHeader", header)
            await asyncio.sleep(2 * SNAPSHOT_SECONDS)

    async def load_snapshot(
        self, path: str | os.PathLike[str], identity: str, upto: Mapping[int, int] | None = None
    ) -> dict[int, int]:
        """See `NeighbourEngine.load_snapshot`."""
        limits = None if upto is None else dict(upto)
        return cast(
            "dict[int, int]",
            await self._snapshot_call("load_snapshot", os.fspath(path), identity, limits),
        )

    async def _snapshot_call(self, name: str, *arguments: object) -> Any:
        try:
            return await self._call(name, *arguments)
        except EngineCallError as error:
            raise SnapshotError(str(error).removeprefix("SnapshotError: ")) from error

    async def held(self, lists: StoredLists) -> None:
        """See `NeighbourEngine.held`."""
        await self._call("held", lists)

    async def keys(self) -> Keys:
        """See `NeighbourEngine.keys`."""
        return cast("Keys", await self._call("keys"))

    async def stats(self) -> EngineStats:
        """See `NeighbourEngine.stats`."""
        return cast("EngineStats", await self._call("stats"))
