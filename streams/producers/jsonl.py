"""Track events from JSON lines: a file, or standard input.

A line is a track event, or a flat row: an id, a vector, and facts beside them, whatever they are called.
"""

import hashlib
import os
import select
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from cachetools import LRUCache

from streams.contracts import MAX_EVENT_BYTES, InvalidEvent, Reason, encode_track
from streams.contracts.tracks import read_track_object
from streams.contracts.validation import load_object
from streams.producers.arrays import VECTOR_NAMES
from streams.producers.columns import ColumnMap
from streams.producers.compressed import is_compressed, open_bytes
from streams.producers.items import Position, Record, RefusedRecord, SourceError, TrackItem
from streams.producers.report import SourceReport
from streams.producers.tracks import EmbeddingOptions
from streams.strategies.aspects import Expected, Layout

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
        path: the file, perhaps compressed; None is standard input.
        options: how tracks are sent; `key` names the vectors of flat rows.
        wanted: field to key of flat rows, as `--map` says.
    """

    def __init__(
        self,
        path: Path | None,
        options: EmbeddingOptions | None = None,
        wanted: Mapping[str, str] | None = None,
    ) -> None:
        self.name = "standard input" if path is None else str(path)
        self.total: int | None = None
        self._path = path
        self._options = options or EmbeddingOptions()
        self._layout: Expected = self._options.first_track
        self._wanted = wanted or {}
        self._maps: LRUCache[tuple[str, ...], ColumnMap] = LRUCache(256)
        self._seen: set[str] = set()
        self.report = SourceReport()
        if path is not None:
            try:
                status = path.stat()
            except OSError as exc:
                raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
            if path.is_dir():
                raise SourceError(f"{path} is a folder")
            # A pipe or a device has no size to show progress against.
            self.total = status.st_size if path.is_file() and not is_compressed(path) else None

    def fingerprint(self) -> dict[str, Any]:
        """Return the file's name and a hash of its head, which appending to it does not change."""
        if self._path is None or not self._path.is_file():
            return {"kind": "jsonl", "name": "-" if self._path is None else self._path.name}
        with open_bytes(self._path) as file:
            # A short head may still grow: only whole lines of it count, and at least one.
            head = file.read(_HEAD_BYTES).split(b"\n", 1)[0]
        return {
            "kind": "jsonl",
            "name": self._path.name,
            "head": hashlib.blake2b(head, digest_size=16).hexdigest(),
        }

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every line that is not blank; positions are line numbers from 1."""
        skip = after if isinstance(after, int) else 0
        try:
            for line in _lines(self._blocks()):
                if line is None:
                    yield None
                elif line.number > skip or not isinstance(self._layout, Layout):
                    # Lines already sent are read until one fixes the layout, as it did in their run.
                    record = self._record(line)
                    if line.number > skip and record is not None:
                        yield record
        except FileNotFoundError as exc:
            raise SourceError(f"{self.name} cannot be read: {exc.strerror}") from exc
        except (OSError, EOFError) as exc:
            raise SourceError(f"{self.name} cannot be read: {exc}") from exc
        for column in sorted(set(self._wanted.values()) - self._seen):
            self.report.note(f"no line has a key {column!r}, which --map names")

    def _blocks(self) -> Iterator[bytes | None]:
        if self._path is not None and is_compressed(self._path):
            with open_bytes(self._path) as file:
                yield from _file_blocks(file)
            return
        descriptor = os.dup(0) if self._path is None else os.open(self._path, os.O_RDONLY)
        try:
            yield from _descriptor_blocks(descriptor)
        finally:
            os.close(descriptor)

    def _record(self, line: _Line) -> TrackItem | RefusedRecord | None:
        where = f"line {line.number}"
        if line.data is None:
            detail = f"the line is longer than {MAX_EVENT_BYTES:,} bytes"
            return RefusedRecord(where, Reason.TOO_LARGE.value, detail, position=line.number, done=line.end)
        data = line.data.strip()
        if not data:
            return None
        try:
            event = self._event(load_object(data))
            upsert = read_track_object(event, layout=self._layout, strict=self._options.strict)
            self._layout = upsert.layout
            key, value = encode_track(
                upsert.track_id,
                upsert.embedding,
                upsert.metadata,
                event_time=upsert.event_time,
                encoding=self._options.encoding,
                model=upsert.layout.model,
            )
        except InvalidEvent as exc:
            return RefusedRecord.of(exc, where, position=line.number, done=line.end)
        self.report.count_unread(upsert.track_id, upsert.metadata.unread)
        return TrackItem(key, value, line.number, line.end)

    def _event(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return a line as an event: as it stands if it is one, else put together from a flat row."""
        others = found.keys() - {"track_id", "embedding", "model", "metadata", "event_time"}
        if "metadata" in found or not (others or self._wanted):
            return found
        vector = self._options.key or next(
            (name for name in ("embedding", *VECTOR_NAMES) if name in found), "embedding"
        )
        row = {name: value for name, value in found.items() if name not in (vector, "event_time")}
        columns = self._columns_of(tuple(row))
        names = columns.names(row)
        return {
            "track_id": names[0] if names else None,
            "embedding": found.get(vector),
            "metadata": columns.facts(row),
            "event_time": found.get("event_time"),
        }

    def _columns_of(self, names: tuple[str, ...]) -> ColumnMap:
        columns = self._maps.get(names)
        if columns is None:
            wanted = {field: name for field, name in self._wanted.items() if name in names}
            self._seen |= set(wanted.values())
            columns = self._maps[names] = ColumnMap(names, wanted)
            self.report.columns |= columns.fields
            self.report.extra_columns += [
                name for name in columns.extra if name not in self.report.extra_columns
            ]
        return columns


def _descriptor_blocks(descriptor: int) -> Iterator[bytes | None]:
    """Yield blocks as they come; None whenever none comes for a moment.

    The descriptor is polled, so that a reader of a silent pipe can be asked to stop.
    """
    while True:
        ready, _, _ = select.select([descriptor], [], [], _POLL_SECONDS)
        if not ready:
            yield None
        elif block := os.read(descriptor, _READ_BYTES):
            yield block
        else:
            return


def _file_blocks(file: IO[bytes]) -> Iterator[bytes | None]:
    while block := file.read(_READ_BYTES):
        yield block


def _lines(blocks: Iterator[bytes | None]) -> Iterator[_Line | None]:
    """Yield lines as they come; None whenever none comes for a moment.

    A line too long for an event is dropped as it is read and never held in memory.
    """
    number, end, held, dropping = 0, 0, b"", False
    for block in blocks:
        if block is None:
            yield None
            continue
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
