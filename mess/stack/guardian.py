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

GRACE_SECONDS = 5.0


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end(group: int, number: int) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    if not _signal_group(group, number):
        return
    while time.monotonic() < deadline:
        if not _signal_group(group, 0):
            return
        time.sleep(0.05)
    _signal_group(group, signal.SIGKILL)


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
