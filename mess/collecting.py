"""Full garbage collections that do not stop a process for a tenth of a second.

A full collection looks at every object that may be part of a cycle, and nothing else happens meanwhile: with all that has
been imported, and the metadata of some ten thousand tracks, 50 to 250 ms. What has been found alive once is therefore set
aside, and the next collection looks only at what came since. Objects that are set aside still go when nobody refers to
them; only a cycle among them stays, until everything is looked at again.
"""

import gc
import time
from typing import Final

# Seconds until everything is looked at again.
EVERYTHING_SECONDS: Final = 3_600.0


class SettingAside:
    """Sets aside what a full collection has left; an entry of `gc.callbacks`.

    Attributes:
        everything_at: When all was looked at last, of `time.monotonic`.
    """

    def __init__(self) -> None:
        self.everything_at = time.monotonic()

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """See `gc.callbacks`."""
        if info["generation"] < 2:
            return
        if phase == "stop":
            gc.freeze()
        elif time.monotonic() - self.everything_at > EVERYTHING_SECONDS:
            self.everything_at = time.monotonic()
            gc.unfreeze()


def keep_short() -> None:
    """From now on; to be called once, when everything has been imported."""
    gc.callbacks.append(SettingAside())
    gc.collect()
