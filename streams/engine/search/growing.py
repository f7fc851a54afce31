"""Rows of vectors that grow without being copied, in memory that another process can map."""

import mmap
import os
import sys
import tempfile

import numpy as np

from streams.engine.types import Vectors


class GrowingRows:
    """float32 rows. Growing moves nothing, and pages never touched take no memory.

    They are in anonymous memory with a descriptor where the system has that, else in a file without a name: neither
    outlives its processes, however they end.

    Args:
        dimension: d of the vectors.
        descriptor: Memory that there is, which is taken over; None for new memory.
    """

    def __init__(self, dimension: int, descriptor: int | None = None) -> None:
        self._row_bytes = 4 * dimension
        self._dimension = dimension
        self.descriptor = new_memory() if descriptor is None else descriptor
        self.vectors: Vectors = np.empty((0, dimension), dtype=np.float32)
        self._map(os.fstat(self.descriptor).st_size // self._row_bytes)

    @classmethod
    def copy_of(cls, vectors: Vectors) -> "GrowingRows":
        """New rows with what some vectors hold, float32 (n, d)."""
        rows = cls(vectors.shape[1])
        rows.reserve(len(vectors))
        rows.vectors[: len(vectors)] = vectors
        return rows

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


if sys.platform == "linux":

    def new_memory() -> int:
        """A descriptor of memory of no size yet."""
        return os.memfd_create("vectors")

else:

    def new_memory() -> int:
        """A descriptor of memory of no size yet."""
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
