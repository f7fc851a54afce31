"""Keeps full garbage collections short, by freezing objects that have survived one.

A full collection traverses every object that may be part of a cycle and stops the process meanwhile: 50 to 250 ms with all
imports and the metadata of ten thousand tracks. Objects that survive a full collection are therefore frozen (`gc.freeze`),
and the next one traverses newer objects only. A frozen object is still freed when its last reference goes; only dead cycles
remain. They are collected when everything is unfrozen: after an hour, or when the process has grown by a given amount, which
bounds their memory.

While a command is imported there is little to free, and at its end nothing to save: collections took a sixth of a short one.
"""

import atexit
import gc
import time
from collections.abc import Callable
from typing import Final

import psutil

# Seconds until everything is unfrozen and collected.
EVERYTHING_SECONDS: Final = 3_600.0
# Or growth of resident memory since then, in bytes and as a share. It takes both, so that a process that fills its caches
# collects everything a few times and not all the time.
GROWN_BYTES: Final = 64 * 1024 * 1024
GROWN_SHARE: Final = 0.25
# Objects allocated before a collection of the youngest while a command starts.
STARTING_OBJECTS: Final = 10_000
_USUAL: Final = gc.get_threshold()


def resident_bytes() -> int:
    """Resident memory of this process."""
    resident: int = psutil.Process().memory_info().rss
    return resident


class GarbageCollectionFreezer:
    """Freezes the survivors of full collections; an entry of `gc.callbacks`.

    Attributes:
        everything_at: When everything was collected last, by `time.monotonic`.
    """

    def __init__(self, resident: Callable[[], int] = resident_bytes) -> None:
        """Freeze nothing yet.

        Args:
            resident: Returns the resident memory of the process.
        """
        self._resident = resident
        self._before = 0
        self._everything = True
        self.everything_at = time.monotonic()

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """See `gc.callbacks`."""
        if info["generation"] < 2:
            return
        if phase == "stop":
            gc.freeze()
            if self._everything:
                self._everything, self._before = False, self._resident()
        elif time.monotonic() - self.everything_at > EVERYTHING_SECONDS or self._has_grown():
            self.everything_at, self._everything = time.monotonic(), True
            gc.unfreeze()

    def _has_grown(self) -> bool:
        return self._resident() - self._before > max(GROWN_BYTES, GROWN_SHARE * self._before)


def collect_rarely() -> None:
    """Let a command be imported with few collections, and end without one. Call it before imports."""
    gc.set_threshold(STARTING_OBJECTS, *_USUAL[1:])
    atexit.register(gc.freeze)


def keep_short() -> None:
    """Install the freezer, and collect as often as Python does. Call it once, after all imports."""
    gc.set_threshold(*_USUAL)
    gc.callbacks.append(GarbageCollectionFreezer())
    gc.collect()
