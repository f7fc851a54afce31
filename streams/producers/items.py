"""The items of a source of tracks: events to send, and refused records."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from streams.contracts import InvalidEvent, TrackMetadata, check_track_id, encode_track
from streams.errors import StreamsError
from streams.producers.report import SourceReport

# Where in its source a record stands: a line number, or a path. Sources yield positions in order.
Position = int | str


class SourceError(StreamsError):
    """A source of tracks cannot be read at all."""


class UnreadableFileError(ValueError):
    """A file of a source from which no vector can be had; the message says why."""


@dataclass(frozen=True, slots=True)
class TrackItem:
    """One message for `track-ingest`.

    Attributes:
        key: UTF-8 of the track id.
        value: the event, or None to delete the track.
        position: where it stands in its source.
        done: how much of the source is read with it, in the source's unit.
    """

    key: bytes
    value: bytes | None
    position: Position = 0
    done: int = 0

    @classmethod
    def upsert(
        cls,
        track_id: str,
        vector: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        metadata: TrackMetadata | Mapping[str, Any] | None = None,
    ) -> "TrackItem":
        """Return an upsert; raises `InvalidEvent` where the contract is broken."""
        return cls(*encode_track(track_id, vector, metadata))

    @classmethod
    def delete(cls, track_id: str) -> "TrackItem":
        """Return a delete; raises `InvalidEvent` for an id that cannot be one."""
        return cls(check_track_id(track_id).encode(), None)


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that is not sent, and why.

    Attributes:
        where: the record, for people: `line 12`, or a file.
        reason: a `Reason` of the event contract, or one of the source's own.
        detail: one line.
        track_id: the track, if that much could be read.
        position: where it stands in its source.
        done: how much of the source is read with it.
    """

    where: str
    reason: str
    detail: str
    track_id: str | None = None
    position: Position = 0
    done: int = 0

    @classmethod
    def of(
        cls,
        error: InvalidEvent,
        where: str,
        *,
        track_id: str | None = None,
        position: Position = 0,
        done: int = 0,
    ) -> "RefusedRecord":
        """Return the refusal that an `InvalidEvent` means."""
        return cls(where, error.reason.value, error.detail, track_id, position, done)


# None: nothing to read at the moment, as on a slow pipe.
Record = TrackItem | RefusedRecord | None


@dataclass(slots=True)
class PublishSummary:
    """How a run goes, and at its end went.

    Attributes:
        published: messages that the broker has acknowledged.
        refused: records that were not sent.
        reasons: the refused, by reason.
        done: how much of the source has been read, in its unit.
        position: everything up to here is acknowledged or refused; None before the first.
        interrupted: stopped before the source's end.
        seconds: how long it took.
    """

    published: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    done: int = 0
    position: Position | None = None
    interrupted: bool = False
    seconds: float = 0.0


class TrackSource(Protocol):
    """A source of tracks.

    Attributes:
        name: what people call it.
        total: how much there is, in the unit of records' `done`; None if that is not known.
        report: what was found, complete when all records have been read.
    """

    name: str
    total: int | None
    report: SourceReport

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield the records beyond `after`, or all; called once, read from a worker thread.

        Raises:
            SourceError: the source cannot be read.
        """

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells this source from another, or from itself after a change that matters."""
