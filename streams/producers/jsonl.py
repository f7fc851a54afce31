"""Track events from JSON lines: a file, or standard input."""

import hashlib
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from streams.contracts import MAX_EVENT_BYTES, InvalidEvent, Reason, encode_track, read_track_event
from streams.contracts.tracks import Encoding
from streams.producers.items import Position, Record, Refusal, SourceError, TrackItem

_READ_BYTES: Final = 1024 * 1024
_HEAD_BYTES: Final = 64 * 1024
_POLL_SECONDS: Final = 0.2
_BOM: Final = b"\xef\xbb\xbf"


class _Line(NamedTuple):
    """A line of input: its number from 1, its bytes (None if too long to keep), and where it ends."""

    number: int
    data: bytes | None
    end: int


class JsonLines:
    """JSON lines, each one a track event; they are checked here by the rules of the ingest agent.

    Args:
        path: the file; None is standard input.
        dimension: the catalogue's dimension; None: that of the first good line.
        encoding: how vectors travel.
    """

    def __init__(
        self, path: Path | None, *, dimension: int | None = None, encoding: Encoding = "float32"
    ) -> None:
        self.name = "standard input" if path is None else str(path)
        self.unit = "bytes"
        self.total: int | None = None
        self._path = path
        self._dimension = dimension
        self._encoding = encoding
        if path is not None:
            try:
                status = path.stat()
            except OSError as exc:
                raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
            if path.is_dir():
                raise SourceError(f"{path} is a folder; for a folder of features use --features")
            # A pipe or a device has no size to show progress against.
            self.total = status.st_size if path.is_file() else None

    def fingerprint(self) -> dict[str, Any]:
        """Return the file's name and a hash of its head, which appending to it does not change."""
        if self._path is None or self.total is None:
            return {"kind": "jsonl", "name": "-" if self._path is None else self._path.name}
        with self._path.open("rb") as file:
            # A short head may still grow: only whole lines of it count, and at least one.
            head = file.read(_HEAD_BYTES).split(b"\n", 1)[0]
        return {
            "kind": "jsonl",
            "name": self._path.name,
            "head": hashlib.blake2b(head, digest_size=16).hexdigest(),
        }

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every line that is not blank; positions are line numbers from 1."""
        try:
            descriptor = os.dup(0) if self._path is None else os.open(self._path, os.O_RDONLY)
        except OSError as exc:
            raise SourceError(f"{self.name} cannot be read: {exc.strerror}") from exc
        skip = after if isinstance(after, int) else 0
        try:
            for line in _lines(descriptor):
                if line is None:
                    yield None
                elif line.number > skip or self._dimension is None:
                    # Lines already sent are read until one fixes the dimension, as it did in their run.
                    record = self._record(line)
                    if line.number > skip and record is not None:
                        yield record
        except OSError as exc:
            raise SourceError(f"{self.name} cannot be read: {exc.strerror}") from exc
        finally:
            os.close(descriptor)

    def _record(self, line: _Line) -> TrackItem | Refusal | None:
        where = f"line {line.number}"
        if line.data is None:
            detail = f"the line is longer than {MAX_EVENT_BYTES:,} bytes"
            return Refusal(where, Reason.TOO_LARGE.value, detail, position=line.number, done=line.end)
        data = line.data.strip()
        if not data:
            return None
        try:
            upsert = read_track_event(data, dimension=self._dimension)
            self._dimension = len(upsert.vector)
            key, value = encode_track(
                upsert.track_id,
                upsert.vector,
                upsert.metadata,
                event_time=upsert.event_time,
                encoding=self._encoding,
            )
        except InvalidEvent as exc:
            return Refusal.of(exc, where, position=line.number, done=line.end)
        return TrackItem(key, value, line.number, line.end)


def _lines(descriptor: int) -> Iterator[_Line | None]:
    """Yield lines as they come; None whenever none comes for a moment.

    The descriptor is polled, so that a reader of a silent pipe can be asked to stop. A line too long for
    an event is dropped as it is read and never held in memory.
    """
    number, end, held, dropping = 0, 0, b"", False
    while True:
        ready, _, _ = select.select([descriptor], [], [], _POLL_SECONDS)
        if not ready:
            yield None
            continue
        block = os.read(descriptor, _READ_BYTES)
        if not block:
            break
        *whole, rest = block.split(b"\n")
        for part in whole:
            number += 1
            data = (held + part) if held else part
            end += len(data) + 1
            yield _Line(
                number, None if dropping or len(data) > MAX_EVENT_BYTES else _first(data, number), end
            )
            held, dropping = b"", False
        held += rest
        if len(held) > MAX_EVENT_BYTES:
            end, held, dropping = end + len(held), b"", True
    if held or dropping:
        yield _Line(number + 1, None if dropping else _first(held, number + 1), end + len(held))


def _first(data: bytes, number: int) -> bytes:
    return data.removeprefix(_BOM) if number == 1 else data
