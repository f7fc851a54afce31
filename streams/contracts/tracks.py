"""Track events: validation of what is received, encoding of what is sent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.contracts.embedding_models import (
    ModelName,
    check_model,
    check_model_name,
    named,
    read_model,
)
from streams.contracts.embeddings import (
    Encoding,
    ListOrPacked,
    Parts,
    embedding_components,
    encode_embedding,
    read_embedding,
)
from streams.contracts.metadata import STRICT, TrackMetadata
from streams.contracts.reasons import InvalidEvent, Reason
from streams.contracts.validation import (
    MAX_EVENT_BYTES,
    TrackId,
    check_same_track,
    check_track_id,
    first_error,
    json_kind,
    load_object,
    read_event_time,
    read_key,
)
from streams.strategies.aspects import Expected, Layout


class TrackEvent(BaseModel):
    """A new or changed track, always whole. A null value deletes the track."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    track_id: TrackId
    embedding: ListOrPacked | Parts = Field(
        description="1 to 16,384 finite numbers, not all zero; only the direction counts. "
        "Every track of a catalogue has the same number. Or an object of named parts, each of such numbers: "
        "the first track fixes names and sizes, and of each part the direction counts",
        examples=[[0.12, -0.5, 0.33]],
    )
    model: ModelName | None = Field(
        None,
        description="Name of the model that made the embedding. The first accepted track fixes it for the catalogue; "
        "an event that names another is refused, and one that names none is taken for one of the catalogue's",
        examples=["musicnn-msd-1"],
    )
    metadata: TrackMetadata = Field(default_factory=TrackMetadata, description="Catalogue facts")
    event_time: datetime | None = Field(
        None,
        description="When it happened, ISO 8601; UTC if it names no zone. Absent: the time of the message",
        examples=["2026-02-03T04:05:06Z"],
    )


@dataclass(frozen=True, slots=True)
class TrackDelete:
    """A track is withdrawn."""

    track_id: str


@dataclass(frozen=True, slots=True, eq=False)
class TrackUpsert:
    """A validated track event.

    Attributes:
        track_id: the track.
        vector: (d,) float32, read-only; of unit length, or shorter where aspects are missing.
        metadata: catalogue facts.
        event_time: aware, in UTC; None if the event does not say.
        layout: what the vector's components are, and which model made them.
    """

    track_id: str
    vector: npt.NDArray[np.float32]
    metadata: TrackMetadata
    event_time: datetime | None
    layout: Layout

    @property
    def embedding(self) -> npt.NDArray[np.float32] | dict[str, npt.NDArray[np.float32]]:
        """The vector, or its parts if it has any, for `encode_track`."""
        return self.layout.split(self.vector) if self.layout.aspects else self.vector


def track_key(track_id: str) -> int:
    """The track's key: 64 bits of BLAKE2b of its UTF-8, as a signed integer."""
    digest = hashlib.blake2b(track_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def parse_track_event(
    key: bytes | None,
    value: bytes | None,
    *,
    layout: Expected,
    max_bytes: int = MAX_EVENT_BYTES,
) -> TrackUpsert | TrackDelete:
    """Read one message of `track-ingest`.

    Args:
        key: the message's key.
        value: its value; None is a delete.
        layout: the catalogue's.
        max_bytes: the longest value that is read.

    Raises:
        InvalidEvent: the message breaks the contract; nothing else is raised, whatever the bytes.
    """
    track_id = read_key(key)
    if value is None:
        return TrackDelete(track_id)
    event = load_object(value, max_bytes=max_bytes)
    check_same_track(track_id, event)
    return _read_event(track_id, event, layout, read_model(event))


def read_track_event(
    value: bytes, *, layout: Expected, max_bytes: int = MAX_EVENT_BYTES, strict: bool = False
) -> TrackUpsert:
    """Read a track event that has no key yet, as a producer does before it sends one.

    With `strict`, a metadata value that its key cannot hold is refused.

    Raises:
        InvalidEvent: the event breaks the contract.
    """
    return read_track_object(load_object(value, max_bytes=max_bytes), layout=layout, strict=strict)


def read_track_object(event: Mapping[str, Any], *, layout: Expected, strict: bool = False) -> TrackUpsert:
    """Read a track event that has been parsed; as `read_track_event`.

    A producer does not know whether the catalogue's model has a name: a layout without one takes the event's.

    Raises:
        InvalidEvent: the event breaks the contract.
    """
    track_id, model = check_track_id(event.get("track_id")), read_model(event)
    expected = named(layout, model) if isinstance(layout, Layout) else layout
    return _read_event(track_id, event, expected, model, strict=strict)


def _read_event(
    track_id: str,
    event: Mapping[str, Any],
    layout: Expected,
    model: str | None,
    *,
    strict: bool = False,
) -> TrackUpsert:
    embedding = event.get("embedding")
    if embedding is None:
        raise InvalidEvent(Reason.MISSING_EMBEDDING, "embedding is missing")
    check_model(model, layout)
    vector, found = read_embedding(embedding_components(embedding), layout)
    if not isinstance(layout, Layout):
        found = named(found, model)
    return TrackUpsert(
        track_id,
        vector,
        read_metadata(event.get("metadata"), strict=strict),
        read_event_time(event.get("event_time")),
        found,
    )


def read_metadata(metadata: object, *, strict: bool = False) -> TrackMetadata:
    """An event's metadata.

    Args:
        metadata: as in an event, or as a catalogue has it; None: nothing is known.
        strict: refuse a value that its key cannot hold, instead of keeping it in `extra.raw`.

    Raises:
        InvalidEvent: `invalid_metadata`.
    """
    if metadata is None:
        return TrackMetadata()
    if not isinstance(metadata, dict):
        raise InvalidEvent(Reason.INVALID_METADATA, f"metadata must be an object, not {json_kind(metadata)}")
    try:
        return TrackMetadata.model_validate(metadata, context={STRICT: strict})
    except RecursionError:
        raise InvalidEvent(Reason.INVALID_METADATA, "metadata is nested too deeply") from None
    except ValidationError as exc:
        raise InvalidEvent(Reason.INVALID_METADATA, first_error(exc)) from None


def encode_track(
    track_id: str,
    vector: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    metadata: TrackMetadata | Mapping[str, Any] | None = None,
    *,
    event_time: datetime | None = None,
    encoding: Encoding = "float32",
    model: str | None = None,
) -> tuple[bytes, bytes]:
    """The key and value of a track event, validated by the rules of its readers.

    Args:
        track_id: 1 to 512 printable characters.
        vector: (d,) real numbers, finite, not all zero; or parts by name, each (d_p,), of which some may be all zero.
        metadata: catalogue facts; a mapping is read as an event's would be.
        event_time: aware, or naive and then UTC.
        encoding: packed `float32` (exact) or `float16` (half the size), or a `json` list.
        model: the name of the model that made the vector, if it has one.

    Raises:
        InvalidEvent: any of them breaks the contract.
    """
    check_track_id(track_id)
    if not isinstance(metadata, TrackMetadata):
        metadata = read_metadata(None if metadata is None else dict(metadata))
    event: dict[str, Any] = {"track_id": track_id, "embedding": encode_embedding(vector, encoding)}
    if model is not None:
        event["model"] = check_model_name(model)
    if present := metadata.present():
        event["metadata"] = present
    if event_time is not None:
        event["event_time"] = read_event_time(event_time.isoformat())
    value = orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)
    return track_id.encode(), value
