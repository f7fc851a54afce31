"""Ends the stack's processes when the process that supervises them dies without a chance to.

Run as a script with the standard library alone. It reads its standard input: `+ PID SIGNAL` puts the process
group PID in its care, `- PID` takes it out. When the input ends while groups are left, the supervisor has died
(a kill -9, a crash): the groups are stopped, last started first, with their own stop signal and then SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

GRACE_SECONDS = 5.0


def _signal(send: Callable[[int, int], None], target: int, number: int) -> bool:
    """Send a signal; False if there is nothing left to send it to."""
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_children(groups: dict[int, int]) -> None:
    """Ask the groups' leaders to stop, and kill what is left of the groups when their grace is over."""
    deadline = time.monotonic() + GRACE_SECONDS
    asked = [group for group, number in reversed(groups.items()) if _signal(os.kill, group, number)]
    while time.monotonic() < deadline and any(_signal(os.kill, group, 0) for group in asked):
        time.sleep(0.05)
    for group in groups:
        _signal(os.killpg, group, signal.SIGKILL)


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
    end_children(groups)


if __name__ == "__main__":
    main()
