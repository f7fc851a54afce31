"""Ends the stack's processes when the process that supervises them dies without a chance to.

Run as a script with the standard library alone. It reads its standard input: `+ PID SIGNAL` puts the process
group PID in its care, `- PID` takes it out. When the input ends while groups are left, the supervisor has died
(a kill -9, a crash): the groups are stopped, last started first, with their own stop signal and then SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

GRACE_SECONDS = 5.0


def _end(group: int, number: int) -> None:
    """Ask the group's leader to stop, and kill what is left of the group when its grace is over."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(group, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            os.kill(group, 0)
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Keep the books until the input ends, then end what is left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: dict[int, int] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", group, number]:
                groups[int(group)] = int(number)
            case ["-", group]:
                groups.pop(int(group), None)
    for left, stop_signal in reversed(groups.items()):
        _end(left, stop_signal)


if __name__ == "__main__":
    main()
