"""Small files of the data directory: written whole or not at all, readable by their owner alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

# What processes whose files lie in a data directory make is their owner's alone.
PRIVATE_UMASK: Final = 0o077


def private_directory(path: Path) -> None:
    """Make a directory, where there is none, and let nobody else into it, mode 0700.

    Raises:
        OSError: It cannot be made, or is another user's.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically, mode 0600, so that no reader sees half a file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def tail_lines(path: Path, count: int, *, since: int = 0, window: int = 16_384) -> list[str]:
    """Return the last `count` non-empty lines of a text file, or nothing if it is not there.

    Args:
        path: The file.
        count: How many lines at most.
        since: Byte offset before which nothing is read, unless the file has become shorter than that.
        window: How many bytes from the end are looked at.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(size - window, since if since <= size else 0, 0))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
