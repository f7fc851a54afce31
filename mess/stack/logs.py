"""Size-rotated logs of supervised processes."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self


class RotatingLog:
    """An append-only byte log that keeps its last few generations: `x.log`, `x.log.1`, `x.log.2` ...

    The standard library's rotating handler takes log records; this takes whatever bytes a child wrote.
    """

    def __init__(self, path: Path, *, max_bytes: int = 10_000_000, generations: int = 3) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._generations = generations
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def write(self, chunk: bytes) -> None:
        """Append `chunk`, first starting a new generation if it would not fit."""
        if self._file.tell() and self._file.tell() + len(chunk) > self._max_bytes:
            self._rotate()
        self._file.write(chunk)
        self._file.flush()

    def close(self) -> None:
        """Close the current generation."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _generation(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _rotate(self) -> None:
        self._file.close()
        self._generation(self._generations).unlink(missing_ok=True)
        for number in range(self._generations - 1, 0, -1):
            older = self._generation(number)
            if older.exists():
                older.replace(self._generation(number + 1))
        self._path.replace(self._generation(1))
        self._file = self._path.open("ab")
