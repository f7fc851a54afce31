"""Rows of vectors in memory that another process can map: one copy serves both."""

import mmap
import os
import sys
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.engine.types import Vectors


class SharedRows:
    """float32 rows behind a file descriptor. Growing moves nothing, and pages never touched take no memory.

    The descriptor is of anonymous memory where the system has that, else of a file without a name: neither outlives
    its processes, however they end.

    Args:
        dimension: d of the vectors.
        descriptor: Memory made by another process, which is taken over; None for new memory.
    """

    def __init__(self, dimension: int, descriptor: int | None = None) -> None:
        self._row_bytes = 4 * dimension
        self._dimension = dimension
        self.descriptor = _new_memory() if descriptor is None else descriptor
        self.vectors: Vectors = np.empty((0, dimension), dtype=np.float32)
        self._map(os.fstat(self.descriptor).st_size // self._row_bytes)

    @property
    def capacity(self) -> int:
        """How many rows there is room for."""
        return len(self.vectors)

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows in all. Arrays taken from `vectors` before stay valid."""
        if rows > self.capacity:
            grown = max(rows, self.capacity + max(1024, self.capacity // 4))
            os.ftruncate(self.descriptor, grown * self._row_bytes)
            self._map(grown)

    def _map(self, rows: int) -> None:
        if rows:
            memory = mmap.mmap(self.descriptor, rows * self._row_bytes)
            self.vectors = np.frombuffer(memory, dtype=np.float32).reshape(rows, self._dimension)

    def close(self) -> None:
        """Give up the descriptor; the memory is freed with the last array taken from it."""
        os.close(self.descriptor)
        self.vectors = np.empty((0, self._dimension), dtype=np.float32)


def shared_copy(array: npt.NDArray[Any]) -> SharedRows:
    """New memory with what a two-dimensional array holds, of a type whose size is a multiple of four bytes."""
    bits = np.ascontiguousarray(array).view(np.float32)
    memory = SharedRows(bits.shape[1])
    memory.reserve(len(bits))
    memory.vectors[: len(bits)] = bits
    return memory


if sys.platform == "linux":

    def _new_memory() -> int:
        return os.memfd_create("vectors")

else:

    def _new_memory() -> int:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
