"""The supervisor's description of a process, and its events."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Probe = Callable[[], Awaitable[bool]]
"""Asks a service, once and within a second or two, whether it serves; True ends the wait."""

Report = Callable[[str], None]
"""Takes one line about progress, for a person."""


async def always_ready() -> bool:
    """The probe of a process that is ready once it runs."""
    return True


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process to run and keep running.

    Attributes:
        name: What users and logs call it; unique within a supervisor.
        argv: The command line; the program is an absolute path.
        log: Where its standard output and error go, size-rotated.
        env: The whole environment, or None for the supervisor's own.
        stage: Services stop stage by stage, highest first; those of one stage stop together.
        stop_signal: Asks it to stop in order.
        stop_grace: Seconds it has for that before SIGKILL.
        probe: Whether it is ready; asked repeatedly after each start.
        ready_timeout: Seconds until a start that does not get ready counts as failed.
        before_start: Runs before every start, the first included (a stale lock file, say).
        after_restart: Runs when it is ready again after it died (a memory-only broker has lost its topics).
        optional: The stack does without it: it may end by itself with status 0, and dying too often ends it alone.
        needs_room: It writes: while the disk is nearly full it is stopped, and started when there is room again.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    stage: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace: float = 5.0
    probe: Probe = field(default=always_ready)
    ready_timeout: float = 60.0
    before_start: Callable[[], None] | None = None
    after_restart: Callable[[], Awaitable[None]] | None = None
    optional: bool = False
    needs_room: bool = False


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often and how fast a dying process is started again.

    The wait doubles from `first_delay` to `max_delay` seconds with each death inside the last `window`
    seconds; the `limit`-th such death ends the whole stack.
    """

    limit: int = 5
    window: float = 60.0
    first_delay: float = 0.5
    max_delay: float = 8.0

    def delay(self, deaths: int) -> float:
        """Return the seconds to wait after this many deaths (1 for the first) within the window."""
        return min(self.max_delay, self.first_delay * 2.0 ** (deaths - 1))
