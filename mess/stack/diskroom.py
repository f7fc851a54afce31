"""Watches free disk space: writers stop before it is used up, so that reads continue."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

# Space is scarce below the smaller figure: the rest is for a flush in progress and for Postgres, which ends itself when it
# cannot write its log. It is enough again above the larger one only, or writers would start and stop in turn.
SCARCE_BYTES: Final = 128 * 1024 * 1024
ENOUGH_BYTES: Final = 256 * 1024 * 1024


def free_bytes(directory: Path) -> int:
    """How many bytes a process of this user may still write to the disk of a directory."""
    return shutil.disk_usage(directory).free


class DiskRoom:
    """Whether free space is scarce, with hysteresis.

    Attributes:
        scarce: Whether it was scarce at the last check.
    """

    def __init__(self, free: Callable[[], int]) -> None:
        """Begin with enough.

        Args:
            free: Tells the free bytes.
        """
        self._free = free
        self._enough = asyncio.Event()
        self._enough.set()

    @property
    def scarce(self) -> bool:
        """Whether room was scarce at the last look."""
        return not self._enough.is_set()

    def look(self) -> bool:
        """Look at the disk; whether room is scarce."""
        try:
            free = self._free()
        except OSError:  # nothing is known, so nothing changes
            return self.scarce
        if free < SCARCE_BYTES:
            self._enough.clear()
        elif free > ENOUGH_BYTES:
            self._enough.set()
        return self.scarce

    async def enough(self) -> None:
        """Wait until room is not scarce."""
        await self._enough.wait()
