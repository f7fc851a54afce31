"""Deletes: track ids given one by one, or a line each in a file."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from streams.contracts import InvalidEvent, Reason
from streams.producers.items import Position, Record, RefusedRecord, SourceError, TrackItem
from streams.producers.report import SourceReport


class DeleteSource:
    """Track ids to withdraw.

    Args:
        track_ids: ids.
        path: a file with one id a line; blank lines are passed over.
    """

    def __init__(self, track_ids: Iterable[str], path: Path | None = None) -> None:
        self.name = str(path) if path is not None else "the command line"
        self.report = SourceReport()
        self._given = list(track_ids)
        self._lines = _lines(path) if path is not None else []
        self.total: int | None = len(self._given) + sum(1 for line in self._lines if line.strip())

    def fingerprint(self) -> dict[str, Any]:
        """Return the name of the list."""
        return {"kind": "deletes", "name": self.name}

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a delete for every id; positions count the ids and the lines together, from 1."""
        skip = after if isinstance(after, int) else 0
        given: Iterable[str | bytes] = chain(self._given, self._lines)
        for done, raw in enumerate(given, start=1):
            if done > skip and (raw.strip() or isinstance(raw, str)):
                yield _record(raw, done, len(self._given))


def _record(raw: str | bytes, done: int, given: int) -> TrackItem | RefusedRecord:
    where = f"line {done - given}" if isinstance(raw, bytes) else f"track id {done}"
    try:
        track_id = raw if isinstance(raw, str) else raw.decode().rstrip("\r")
        return TrackItem(TrackItem.delete(track_id).key, None, done, done)
    except UnicodeDecodeError:
        return RefusedRecord(where, Reason.NOT_UTF8.value, "the line is not UTF-8", position=done, done=done)
    except InvalidEvent as exc:
        return RefusedRecord.of(exc, where, position=done, done=done)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except OSError as exc:
        raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
