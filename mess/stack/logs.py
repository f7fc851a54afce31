"""Size-rotated logs of supervised processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from mess.stack.files import private_directory

# A log that could not be written is tried again after so many seconds.
RETRY_SECONDS = 1.0


class RotatingLog:
    """An append-only byte log that keeps its last few generations: `x.log`, `x.log.1`, `x.log.2` ...

    The standard library's rotating handler takes log records; this takes whatever bytes a child wrote. It never fails
    its writer: what cannot be written, for want of room on the disk, is left out, and the log says so where it goes on.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 10_000_000,
        generations: int = 3,
        on_trouble: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """Open a log, or try to.

        Args:
            path: The current generation.
            max_bytes: What a generation holds at most.
            generations: How many are kept beside the current one.
            on_trouble: Called with the reason when the log can no longer be written, with None when it can again.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._generations = generations
        self._on_trouble = on_trouble
        self._file: FileIO | None = None
        self._left_out = 0
        self._reason: str | None = None
        self._try_at = 0.0
        self.write(b"")

    def write(self, chunk: bytes) -> None:
        """Append `chunk`, first starting a new generation if it would not fit."""
        if self._reason is not None and time.monotonic() < self._try_at:
            self._left_out += len(chunk)
            return
        try:
            self._append(chunk)
        except OSError as error:
            self._left_out += len(chunk)
            self._try_at = time.monotonic() + RETRY_SECONDS
            self._tell(error.strerror or str(error))
        else:
            self._tell(None)

    def close(self) -> None:
        """Close the current generation."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, chunk: bytes) -> None:
        file = self._opened()
        if file.tell() and file.tell() + len(chunk) > self._max_bytes:
            self._rotate()
            file = self._opened()
        if self._left_out:
            _write_all(
                file, b"[%d bytes of this log could not be written: %s]\n" % (self._left_out, self._why())
            )
            self._left_out = 0
        _write_all(file, chunk)

    def _opened(self) -> FileIO:
        if self._file is None:
            private_directory(self._path.parent)
            # Unbuffered: what a buffer could not write would come again, and fail again, with every later write.
            self._file = self._path.open("ab", buffering=0)
        return self._file

    def _why(self) -> bytes:
        return (self._reason or "").encode()

    def _tell(self, reason: str | None) -> None:
        if reason != self._reason:
            self._reason = reason
            self._on_trouble(reason)

    def _generation(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _rotate(self) -> None:
        self.close()
        self._generation(self._generations).unlink(missing_ok=True)
        for number in range(self._generations - 1, 0, -1):
            older = self._generation(number)
            if older.exists():
                older.replace(self._generation(number + 1))
        self._path.replace(self._generation(1))


def _write_all(file: FileIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]
