"""Memory that was freed and that glibc keeps: a catalogue that was read at a start is as large as all that stays."""

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

# glibc has an arena for every few threads, and of each gives back what is free at its end, by a threshold that grows with
# the largest block that was ever freed, unless it is told. A process reads these when it starts.
GIVING_MEMORY_BACK: Final = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(128 * 1024)}
# What lies free below a block that is in use is given back only when asked for: after growth of so many bytes.
GROWN_BYTES: Final = 8 * 1024 * 1024
FREED_BYTES: Final = 1024 * 1024
LOOK_SECONDS: Final = 10.0


def give_memory_back() -> None:
    """Return to the system what this process has freed; does nothing where the C library has no way to."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where there is no /proc, and no malloc_trim either."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


class FreedMemory:
    """Gives freed memory back after the process has grown, and again until nothing is freed any more.

    Args:
        resident: Returns the resident memory of the process.
    """

    def __init__(self, resident: Callable[[], int] = resident_bytes) -> None:
        self._resident = resident
        self._kept = 0
        self._unsettled = False
        self._looked_at = float("-inf")

    def give_back(self) -> bool:
        """Give freed memory back if there may be much; return whether it was tried.

        Takes milliseconds then, and microseconds where it only looks, which it does every `LOOK_SECONDS`.
        """
        if time.monotonic() < self._looked_at + LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        before = self._resident()
        grown = before > self._kept + GROWN_BYTES
        if not grown and not self._unsettled:
            return False
        give_memory_back()
        self._kept = self._resident()
        # What made it grow may be in use still, and be freed by the next look.
        self._unsettled = grown or self._kept < before - FREED_BYTES
        return True


async def keep_giving_back() -> NoReturn:
    """Look from time to time whether the process has grown, for ever; memory is given back in a thread."""
    freed = FreedMemory()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await asyncio.to_thread(freed.give_back)
