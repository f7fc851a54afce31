"""Memory that was freed and that glibc keeps: a catalogue that was read at a start is as large as all that stays."""

import contextlib
import ctypes
import gc
from typing import Final

# glibc has an arena for every few threads, and of each gives back what is free at its end, by a threshold that grows with
# the largest block that was ever freed, unless it is told. A process reads these when it starts.
GIVING_MEMORY_BACK: Final = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(128 * 1024)}


def give_memory_back() -> None:
    """Return to the system what this process has freed; does nothing where the C library has no way to."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
