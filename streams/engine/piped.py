"""A part of the pipeline in a process of its own, behind a pipe, with an asynchronous interface.

The process is spawned, never forked: threads of BLAS and numba do not survive a fork. It ends when its parent does.
"""

import asyncio
import atexit
import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Protocol

from streams.engine.endings import how_it_ended
from streams.engine.wire import PendingAnswers, receive_message, send_message
from streams.freed import FreedMemory


class IdleDuty(Protocol):
    """The work of a process between calls."""

    def until_called(self) -> bool:
        """Wait a little for a call or do a little work, and say whether there is a call to take now."""

    def called(self) -> None:
        """A call has been answered."""

    def stop(self) -> None:
        """The process is about to end."""


def _run(
    connection: Connection, build: Callable[..., tuple[object, IdleDuty]], arguments: tuple[object, ...]
) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when the process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    part, duty = build(connection, *arguments)
    try:
        told = _serve(connection, part, duty)
    finally:
        duty.stop()
    if told:
        with contextlib.suppress(OSError):
            send_message(connection, (True, None))


def _serve(connection: Connection, part: object, duty: IdleDuty) -> bool:
    """Answer calls of `part`'s methods; returns True when told to stop, False when the parent is gone."""
    freed = FreedMemory()
    while True:
        freed.give_back()
        if not duty.until_called():
            continue
        try:
            name, arguments = receive_message(connection)
        except (EOFError, OSError):
            return False
        if name == "stop":
            return True
        try:
            answer = (True, getattr(part, name)(*arguments))
        except (ValueError, IndexError, MemoryError) as error:
            answer = (False, f"{type(error).__name__}: {error}")
        try:
            send_message(connection, answer)
        except OSError:
            return False
        duty.called()


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """The environment that the process is to inherit, for as long as it takes to start it."""
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


class PipedProcess:
    """A process that answers calls, in order. Derive from it, with a method for each call.

    The event loop itself talks to it: a thread between them would cost two hand-overs a call, each of them a wait for the
    interpreter where others want it, too. Large arrays are not copied on their way.

    Args:
        build: Makes, in the process, what answers there and what it does meanwhile; a function of a module. It is
            given the process's end of the pipe and `arguments`. What answers has at least a method `stats`.
        arguments: What it is built from; they are pickled.
        environment: Variables that the process is to have beside this one's.

    Attributes:
        name: Of the process, and in the messages of errors.
        stopped_error: Raised where the process is gone, or was never there.
        call_error: Raised where a call was refused.
        has_children: Whether it starts processes itself.
    """

    name: ClassVar[str]
    stopped_error: ClassVar[type[Exception]]
    call_error: ClassVar[type[Exception]]
    has_children: ClassVar[bool] = False

    def __init__(
        self,
        build: Callable[..., tuple[object, IdleDuty]],
        *arguments: object,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._build = build
        self._arguments = arguments
        # Waiting threads of BLAS that spin would take the cores that Postgres and the broker need.
        self._environment = {"OMP_WAIT_POLICY": "passive"} | dict(environment or {})
        self._process: BaseProcess | None = None
        self._answers: PendingAnswers | None = None

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Spawn the process and wait until it answers."""
        ours = await asyncio.to_thread(self._spawn)
        loop = asyncio.get_running_loop()
        _, self._answers = await loop.create_unix_connection(PendingAnswers, sock=ours)
        await self._call("stats")

    def _spawn(self) -> socket.socket:
        """Start the process; returns our end of the pipe."""
        context = multiprocessing.get_context("spawn")
        connection, theirs = context.Pipe()
        # A daemon may have no processes of its own; an interpreter that ends would wait for one that is no daemon.
        self._process = context.Process(
            target=_run,
            args=(theirs, self._build, self._arguments),
            name=self.name,
            daemon=not self.has_children,
        )
        with _environment(self._environment):
            self._process.start()
        if self.has_children:
            atexit.register(self._process.kill)
        theirs.close()
        with connection:
            ours = socket.socket(fileno=os.dup(connection.fileno()))
        ours.setblocking(False)
        return ours

    async def stop(self) -> None:
        """End the process, however it is."""
        if self._process is None:
            return
        try:
            await asyncio.wait_for(self._call("stop"), timeout=5)
        except (self.stopped_error, TimeoutError):
            self._process.kill()
        await asyncio.to_thread(self._process.join, 5)
        atexit.unregister(self._process.kill)
        self._process = None
        if self._answers is not None:
            self._answers.close()

    async def _call(self, name: str, *arguments: object) -> Any:
        if self._answers is None:
            raise self.stopped_error(f"the {self.name} process was never started")
        if self._process is None:
            raise self.stopped_error(f"the {self.name} process has been stopped")
        try:
            fine, answer = await self._answers.ask((name, arguments))
        except (EOFError, OSError) as error:
            ending = await asyncio.to_thread(how_it_ended, self._process)
            raise self.stopped_error(f"the {self.name} process is gone{ending}") from error
        if not fine:
            raise self.call_error(answer)
        return answer
