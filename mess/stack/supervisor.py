"""Starts the stack's processes, keeps them running, and stops them in order."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from mess.stack import guardian
from mess.stack.diskroom import DiskRoom
from mess.stack.errors import ServiceFailedError
from mess.stack.files import PRIVATE_UMASK, tail_lines
from mess.stack.logs import RotatingLog
from mess.stack.service import Report, RestartPolicy, ServiceSpec

PROBE_INTERVAL = 0.1
ROOM_INTERVAL = 0.5
LOG_TAIL_LINES = 8

_COMPLAINT = re.compile(r"\b(FATAL|PANIC|ERROR)\b|[Ee]rror:|Exception\b")
# The time and process at the start of a line of Postgres's or Kafka's log.
_PREAMBLE = re.compile(r"^\[?\d{4}-\d\d-\d\d[T ][\d:.,]+( UTC)?\]?( \[\d+\])?\s*")


class Supervisor:
    """Runs services as children in process groups of their own.

    `start` returns when a service is ready. From then on a service that dies is started again with growing
    delays, until it dies too often: `wait` then raises `ServiceFailedError`. `stop` ends everything, in reverse
    stages, and must be called in the end, also after a failure.

    While the disk is nearly full, services that need room are stopped, and no death of another counts: it is started
    again until it lives. Neither a full disk nor a log that cannot be written ends anything for good.

    Should this process die without calling `stop`, a guardian process ends the children.
    """

    def __init__(
        self,
        *,
        policy: RestartPolicy | None = None,
        on_change: Callable[[], None] | None = None,
        report: Report | None = None,
        room: DiskRoom | None = None,
    ) -> None:
        """Set up a supervisor without starting anything.

        Args:
            policy: When to restart and when to give up.
            on_change: Called after a service has got a new process id.
            report: Takes a line whenever a service died, came back or had to be killed.
            room: Tells whether the disk is nearly full; None where that is nobody's concern.
        """
        self._room = room
        self._watching_room: asyncio.Task[None] | None = None
        self._stopping_writers: asyncio.Task[None] | None = None
        self._unwritten: set[Path] = set()
        self._policy = policy or RestartPolicy()
        self._on_change = on_change or (lambda: None)
        self._report = report or (lambda _: None)
        self._children: dict[str, _Child] = {}
        self._failure: asyncio.Future[ServiceFailedError] = asyncio.get_running_loop().create_future()
        self._guardian: asyncio.subprocess.Process | None = None
        self._guarding = asyncio.Lock()

    @property
    def pids(self) -> dict[str, int]:
        """The process id of every running service, by name, in order of their start."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.returncode is None
        }

    async def start(self, spec: ServiceSpec) -> None:
        """Start a service and return when its probe says it is ready.

        Raises:
            ServiceFailedError: It exited or did not become ready in time; it is not restarted.
        """
        if spec.name in self._children:
            raise ValueError(f"service {spec.name!r} is started already")
        async with self._guarding:  # services start side by side, and one guardian has them all in its care
            if self._guardian is None:
                self._guardian = await _start_guardian()
        if self._room is not None and self._watching_room is None:
            self._watching_room = asyncio.create_task(self._watch_room(), name="room on the disk")
        child = self._children[spec.name] = _Child(spec, self._note_group, self._report, self._note_log)
        await child.spawn()
        await child.wait_ready()
        self._on_change()
        child.watch = asyncio.create_task(self._keep(child), name=f"keep {spec.name}")
        child.watch.add_done_callback(self._watch_ended)

    async def wait(self) -> None:
        """Wait until a service has died too often.

        Raises:
            ServiceFailedError: Names the service, how it ended and its log. This is the only way out, but
                for cancellation.
        """
        raise await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Stop all services, highest stage first, each with its own signal and then SIGKILL."""
        for task in (self._watching_room, self._stopping_writers):
            if task is not None:
                task.cancel()
        for child in self._children.values():
            child.stopping = True
            if child.watch is not None:
                child.watch.cancel()
        await self._stop_stages(list(self._children.values()))
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            await self._guardian.wait()
            self._guardian = None

    def recycle(self, name: str) -> None:
        """Ask a running service to stop; having ended, it is started again like one that died."""
        self._children[name].ask_to_stop()

    def kill(self) -> None:
        """End every process group at once, without grace; `stop` must still follow to collect them."""
        for child in self._children.values():
            child.stopping = True
            child.signal_group(signal.SIGKILL)

    async def _keep(self, child: _Child) -> None:
        """Restart `child` whenever it dies, until it has died too often."""
        deaths: deque[float] = deque(maxlen=self._policy.limit)
        while True:
            reason = await child.wait_exit()
            if child.finished:
                self._on_change()
                return
            if self._look_at_room():
                await self._wait_for_room(child, reason)
                await self._revive(child)
                continue
            deaths.append(time.monotonic())
            recent = sum(1 for death in deaths if deaths[-1] - death <= self._policy.window)
            if recent >= self._policy.limit:
                self._give_up(
                    child, f"died {recent} times within {self._policy.window:.0f} s, last: {reason}"
                )
                return
            delay = self._policy.delay(recent)
            self._report(f"{child.spec.name} {reason}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            await self._revive(child)

    async def _revive(self, child: _Child) -> None:
        try:
            await child.spawn()
            self._on_change()
            await child.wait_ready()
            if child.spec.after_restart is not None:
                await child.spec.after_restart()
        except ServiceFailedError as failure:
            if self._room is None or not self._room.scarce:
                self._report(f"{child.spec.name} {failure.reason}")
            child.signal_group(signal.SIGKILL)
        else:
            child.mourned = False
            self._report(f"{child.spec.name} is back")

    async def _wait_for_room(self, child: _Child, reason: str) -> None:
        """Wait for room, or a little where the service may do without; say once that it is away."""
        if child.spec.needs_room and self._room is not None:
            await self._room.enough()
            return
        if not child.mourned:
            child.mourned = True
            self._report(f"{child.spec.name} {reason}, the disk being full; it is started until it stays")
        await asyncio.sleep(self._policy.max_delay)

    async def _watch_room(self) -> None:
        while True:
            self._look_at_room()
            await asyncio.sleep(ROOM_INTERVAL)

    def _look_at_room(self) -> bool:
        """Whether room is scarce. Where it has just become so, stop who needs room; `_keep` starts them again."""
        if self._room is None:
            return False
        before = self._room.scarce
        scarce = self._room.look()
        if scarce and not before:
            writers = [child for child in self._children.values() if child.spec.needs_room]
            names = ", ".join(child.spec.name for child in writers)
            self._report(
                f"the disk is nearly full: {names} stopped until there is room; stored lists are read as before"
            )
            self._stopping_writers = asyncio.create_task(self._stop_writers(writers), name="stop writers")
        elif before and not scarce:
            self._report("there is room on the disk again; going on")
        return scarce

    async def _stop_writers(self, writers: Sequence[_Child]) -> None:
        await self._stop_stages(writers)
        self._on_change()

    async def _stop_stages(self, children: Sequence[_Child]) -> None:
        """Stop children stage by stage, highest first."""
        for stage in sorted({child.spec.stage for child in children}, reverse=True):
            await asyncio.gather(*(child.stop() for child in children if child.spec.stage == stage))

    def _give_up(self, child: _Child, reason: str) -> None:
        if child.spec.optional:
            self._report(f"{child.spec.name} {reason}; going on without it, see {child.spec.log}")
        elif not self._failure.done():
            self._failure.set_result(child.failure(reason, kept_dying=True))

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        # Only a defect or a failed `after_restart` comes here; either way nobody keeps the service any more.
        child = next(child for child in self._children.values() if child.watch is task)
        self._give_up(child, f"can no longer be kept running ({type(error).__name__}: {error})")

    def _note_log(self, log: Path, reason: str | None) -> None:
        """A log cannot be written, or can be again; said once, however many there are."""
        before = len(self._unwritten)
        if reason is None:
            self._unwritten.discard(log)
        else:
            self._unwritten.add(log)
        if before and not self._unwritten:
            self._report("logs are written again")
        elif self._unwritten and not before:
            self._report(
                f"logs cannot be written ({reason}): what goes into them is left out until they can be"
            )

    def _note_group(self, line: str) -> None:
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.write(f"{line}\n".encode())


class _Child:
    """One service's current process, if any."""

    def __init__(
        self,
        spec: ServiceSpec,
        note_group: Callable[[str], None],
        report: Report,
        note_log: Callable[[Path, str | None], None],
    ) -> None:
        self.spec = spec
        # Whether it has been said that it died for want of room.
        self.mourned = False
        self._note_log = note_log
        self.process: asyncio.subprocess.Process | None = None
        self.watch: asyncio.Task[None] | None = None
        self.stopping = False
        self._note_group = note_group
        self._report = report
        self._log_start = 0
        self._group: int | None = None
        self._pump: asyncio.Task[None] | None = None

    async def spawn(self) -> None:
        """Start the process in a session of its own, its output going to the log."""
        if self.spec.before_start is not None:
            self.spec.before_start()
        self._log_start = _size(self.spec.log)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=None if self.spec.env is None else dict(self.spec.env),
                # Ctrl-C reaches the terminal's whole foreground group; the order of stopping is ours to choose.
                start_new_session=True,
                umask=PRIVATE_UMASK,
            )
        except OSError as error:
            raise self.failure(f"cannot be started ({error.strerror}: {self.spec.argv[0]})") from error
        self._group = self.process.pid
        self._note_group(f"+ {self._group} {int(self.spec.stop_signal)}")
        assert self.process.stdout is not None
        self._pump = asyncio.create_task(
            _copy_output(
                self.process.stdout, self.spec.log, lambda reason: self._note_log(self.spec.log, reason)
            ),
            name=f"log {self.spec.name}",
        )

    async def wait_ready(self) -> None:
        """Ask the probe until it says yes.

        Raises:
            ServiceFailedError: The process exited, or the time is up (the process is left running).
        """
        assert self.process is not None
        deadline = time.monotonic() + self.spec.ready_timeout
        while True:
            if self.process.returncode is not None:
                raise self.failure(await self.wait_exit())
            if await self.spec.probe():
                return
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready after {self.spec.ready_timeout:.0f} s")
            await asyncio.sleep(PROBE_INTERVAL)

    @property
    def finished(self) -> bool:
        """Whether it has ended by itself and well, which an optional service may."""
        return self.spec.optional and self.process is not None and self.process.returncode == 0

    async def wait_exit(self) -> str:
        """Wait for the process to end, collect what it leaves behind, and say how it ended."""
        assert self.process is not None
        code = await self.process.wait()
        if self._group is not None:
            # A parent that was killed leaves children of its own; they would hold its ports and its output.
            self.signal_group(signal.SIGKILL)
            self._note_group(f"- {self._group}")
            # From now on the number may be another process's.
            self._group = None
        if self._pump is not None:
            await self._pump
        return describe_exit(code)

    async def stop(self) -> None:
        """Ask the process to stop, kill it when its grace is over, and return when it is gone."""
        if self.process is None:
            return
        self.ask_to_stop()
        try:
            await asyncio.wait_for(self.process.wait(), self.spec.stop_grace)
        except TimeoutError:
            self._report(f"{self.spec.name} did not stop in time and is killed")
            self.signal_group(signal.SIGKILL)
        await self.wait_exit()

    def ask_to_stop(self) -> None:
        """Send the stop signal to the process alone: how its own children end is its business."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(self.spec.stop_signal)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and its descendants, if any are left."""
        if self._group is None:
            return
        try:
            os.killpg(self._group, number)
        except (ProcessLookupError, PermissionError):
            return

    def failure(self, reason: str, *, kept_dying: bool = False) -> ServiceFailedError:
        """Make the error that says this service failed, with the end of its log where one line is not enough."""
        lines = tail_lines(self.spec.log, LOG_TAIL_LINES, since=self._log_start)
        said = find_failure_line(lines)
        reason = f"{reason} ({said})" if said else reason
        shown = lines if kept_dying or said is None else []
        return ServiceFailedError(self.spec.name, reason, self.spec.log, shown)


def find_failure_line(lines: Sequence[str]) -> str | None:
    """Return the line of a log's end in which a dying program most likely says why, cut short, or None."""
    for line in reversed(lines):
        if _COMPLAINT.search(line):
            text = _PREAMBLE.sub("", line).strip()
            return text if len(text) <= 200 else f"{text[:197]}..."
    return None


def describe_exit(code: int) -> str:
    """Say how a process ended, from its return code (negative for a signal)."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _copy_output(
    stream: asyncio.StreamReader, path: Path, on_trouble: Callable[[str | None], None]
) -> None:
    with RotatingLog(path, on_trouble=on_trouble) as target:
        while chunk := await stream.read(65_536):
            target.write(chunk)


async def _start_guardian() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(Path(guardian.__file__)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
