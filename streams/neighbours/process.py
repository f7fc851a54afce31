"""The engine in a process of its own, so that no product ever stalls Kafka's heartbeats or the event loop.

The process is spawned, never forked: threads of BLAS and numba do not survive a fork. Between calls it uses its idle
time to refill lists. It ends when its parent does.
"""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar, cast

from streams.neighbours.acceleration import Loading
from streams.neighbours.approximate import EXACT_UPTO, ApproximateEngine
from streams.neighbours.endings import how_it_ended
from streams.neighbours.snapshot import SnapshotError
from streams.neighbours.types import (
    EngineStats,
    Keys,
    ListChanges,
    NeighbourEngine,
    SnapshotHeader,
    StoredLists,
    TrackBatch,
    TrueLists,
)

Answer = TypeVar("Answer")

# How long an idle engine works before it looks for a call again, how long if none has come for a while, and how many lists
# it refills in that at most.
SLICE_SECONDS = 0.005
LONG_SLICE_SECONDS = 0.1
QUIET_SECONDS = 1.0
SLICE_LISTS = 256
# How long an idle engine with nothing to refill sleeps before it looks for a call again.
IDLE_SECONDS = 5.0
# How long the engine writes at a snapshot at a time; it rests twice as long in between.
SNAPSHOT_SECONDS = 0.01


class EngineStoppedError(Exception):
    """The engine process is gone; its state must be loaded again by a new one."""


class EngineCallError(Exception):
    """The engine refused a call; its state is as before."""


def _build(dimension: int, published: int, kept: int, exact_upto: int) -> NeighbourEngine:
    return ApproximateEngine(dimension, published=published, kept=kept, exact_upto=exact_upto)


class _Idle:
    """What the engine does between calls, in slices so short that a batch that arrives meanwhile hardly waits."""

    def __init__(self, engine: NeighbourEngine, loading: Loading) -> None:
        self._engine = engine
        self._loading = loading
        self._lists = 1
        self._called = time.monotonic()
        self.waiting = True

    def called(self) -> None:
        """A call has been answered."""
        self._called = time.monotonic()
        self.waiting = True
        # Here too: under load there are no slices.
        self._accelerate()

    def _accelerate(self) -> None:
        if self._loading.kernels is not None:
            self._engine.accelerate(self._loading.kernels)
            self._loading.kernels = None

    def work(self) -> None:
        """A slice."""
        self._accelerate()
        began = time.perf_counter()
        self.waiting = self._engine.refill(self._lists) > 0
        took = time.perf_counter() - began
        # As many lists at a time as take about so long, whatever the catalogue and the machine's load.
        quiet = time.monotonic() - self._called > QUIET_SECONDS
        fitting = int(self._lists * (LONG_SLICE_SECONDS if quiet else SLICE_SECONDS) / max(took, 1e-6))
        self._lists = max(1, min(fitting, 2 * self._lists, SLICE_LISTS))


def _serve(connection: Connection, dimension: int, published: int, kept: int, exact_upto: int) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when the engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    engine = _build(dimension, published, kept, exact_upto)
    loading = Loading()
    loading.start()
    try:
        _answer(connection, engine, _Idle(engine, loading))
    finally:
        loading.stop()


def _answer(connection: Connection, engine: NeighbourEngine, idle: _Idle) -> None:
    while True:
        try:
            if not connection.poll(0 if idle.waiting else IDLE_SECONDS):
                idle.work()
                continue
            name, arguments = connection.recv()
        except (EOFError, OSError):
            return
        if name == "stop":
            connection.send((True, None))
            return
        try:
            answer = (True, getattr(engine, name)(*arguments))
        except (ValueError, IndexError, MemoryError) as error:
            answer = (False, f"{type(error).__name__}: {error}")
        connection.send(answer)
        idle.called()


@contextmanager
def _environment(cache: str | None) -> Iterator[None]:
    """The environment that the process is to inherit, for as long as it takes to start it."""
    # Waiting threads of BLAS that spin would take the cores that Postgres and the broker need.
    wanted = {"OMP_WAIT_POLICY": "passive"}
    # What was compiled once on this machine serves every data directory.
    if cache and "NUMBA_CACHE_DIR" not in os.environ and not os.access(Path(__file__).parent, os.W_OK):
        wanted["NUMBA_CACHE_DIR"] = cache
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class EngineProcess:
    """A `NeighbourEngine` behind a pipe, with an asynchronous face. Calls are answered in order.

    Args:
        dimension: d of the vectors.
        published: How many neighbours the world sees.
        kept: How many are kept.
        exact_upto: The size of a catalogue up to which newcomers are compared with all of it at once.
        cache: A directory that keeps the compiled loops from one start to the next, where NUMBA_CACHE_DIR names none and
            the place beside the modules cannot be written.
    """

    def __init__(
        self,
        dimension: int,
        *,
        published: int = 50,
        kept: int = 100,
        exact_upto: int = EXACT_UPTO,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self._arguments = (dimension, published, kept, exact_upto)
        self._cache = None if cache is None else os.fspath(cache)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

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
        self._process = context.Process(
            target=_serve, args=(theirs, *self._arguments), name="engine", daemon=True
        )
        with _environment(self._cache):
            self._process.start()
        theirs.close()

    async def stop(self) -> None:
        """End the process, however it is."""
        if self._process is None:
            return
        try:
            await asyncio.wait_for(self._call("stop"), timeout=5)
        except (EngineStoppedError, TimeoutError):
            self._process.kill()
        await asyncio.to_thread(self._process.join, 5)
        if self._connection is not None:
            self._connection.close()
        self._process = None
        self._thread.shutdown(wait=False)

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

    async def _call(self, name: str, *arguments: object) -> Any:
        def exchange() -> tuple[bool, Any]:
            if self._connection is None:
                raise EngineStoppedError("the engine was never started")
            try:
                self._connection.send((name, arguments))
                return cast("tuple[bool, Any]", self._connection.recv())
            except (EOFError, OSError) as error:
                raise EngineStoppedError(
                    f"the engine process is gone{how_it_ended(self._process)}"
                ) from error

        fine, answer = await self._in_thread(exchange)
        if not fine:
            raise EngineCallError(answer)
        return answer

    async def _in_thread(self, function: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except RuntimeError as error:
            raise EngineStoppedError("the engine has been stopped") from error
