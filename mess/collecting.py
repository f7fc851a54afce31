"""Full garbage collections that do not stop a process for a tenth of a second.

A full collection looks at every object that may be part of a cycle, and nothing else happens meanwhile: with all that has
been imported, and the metadata of some ten thousand tracks, 50 to 250 ms. What has been found alive once is therefore set
aside, and the next collection looks only at what came since. Objects that are set aside still go when nobody refers to
them; only a cycle among them stays, until everything is looked at again: after an hour, or when the process has grown by so
much that dead cycles may be what it holds. What these take is therefore bounded by that growth.
"""

import gc
import time
from collections.abc import Callable
from typing import Final

import psutil

# Seconds until everything is looked at again.
EVERYTHING_SECONDS: Final = 3_600.0
# Or growth of resident memory since then, in bytes and as a share: by both, so that a process that fills its caches looks at
# everything a few times and not all the time.
GROWN_BYTES: Final = 64 * 1024 * 1024
GROWN_SHARE: Final = 0.25


def resident_bytes() -> int:
    """Resident memory of this process."""
    resident: int = psutil.Process().memory_info().rss
    return resident


class GarbageCollectionFreezer:
    """Sets aside what a full collection has left; an entry of `gc.callbacks`.

    Attributes:
        everything_at: When all was looked at last, of `time.monotonic`.
    """

    def __init__(self, resident: Callable[[], int] = resident_bytes) -> None:
        """Set nothing aside yet.

        Args:
            resident: Tells how much memory the process takes.
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


def keep_short() -> None:
    """From now on; to be called once, when everything has been imported."""
    gc.callbacks.append(GarbageCollectionFreezer())
    gc.collect()
