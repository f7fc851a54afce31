"""Track events: validation of what is received, encoding of what is sent."""

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.contracts.metadata import STRICT, TrackMetadata
from streams.contracts.reasons import InvalidEvent, Reason, quote_value
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

MAX_DIMENSION: Final = 16_384
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
_NUMBERS: Final = frozenset({float, int})

Encoding = Literal["float32", "float16", "json"]


class EncodedEmbedding(BaseModel):
    """An embedding as packed little-endian floats in base64: a third of the size of a JSON list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float32", "float16"] = Field(description="Type of one component")
    data: str = Field(
        description="Standard base64, with padding",
        examples=["AACAPwAAAEA="],
        json_schema_extra={
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
            "minLength": 4,
        },
    )


class TrackEvent(BaseModel):
    """A new or changed track, always whole. A null value deletes the track."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    track_id: TrackId
    embedding: list[float] | EncodedEmbedding = Field(
        description="1 to 16,384 finite numbers, not all zero; only the direction counts. "
        "Every track of a catalogue has the same number",
        examples=[[0.12, -0.5, 0.33]],
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
        vector: (d,) float32 of unit length, read-only.
        metadata: catalogue facts.
        event_time: aware, in UTC; None if the event does not say.
    """

    track_id: str
    vector: npt.NDArray[np.float32]
    metadata: TrackMetadata
    event_time: datetime | None


def track_key(track_id: str) -> int:
    """The track's key: 64 bits of BLAKE2b of its UTF-8, as a signed integer."""
    digest = hashlib.blake2b(track_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def unit_vector(values: npt.ArrayLike, *, dimension: int | None = None) -> npt.NDArray[np.float32]:
    """`values` scaled to unit length.

    They are scaled by the largest component first, so that the norm neither overflows nor vanishes; computed in float64.

    Args:
        values: (d,) real numbers.
        dimension: the d that is required, if it is known.

    Returns:
        (d,) float32, read-only.

    Raises:
        InvalidEvent: `invalid_embedding`, `wrong_dimension`, `not_finite` or `zero_vector`.
    """
    # numpy would convert text and booleans, too.
    if isinstance(values, np.ndarray) and values.dtype.kind not in "fiu":
        raise InvalidEvent(Reason.INVALID_EMBEDDING, f"embedding must hold real numbers, not {values.dtype}")
    try:
        vector = np.asarray(values, dtype=np.float64)
    except OverflowError:
        raise InvalidEvent(Reason.NOT_FINITE, "embedding has an integer too large for a float") from None
    except (TypeError, ValueError):
        raise InvalidEvent(Reason.INVALID_EMBEDDING, "embedding is not a list of numbers") from None
    if vector.ndim != 1:
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING, f"embedding must have one axis, not shape {vector.shape}"
        )
    _check_dimension(len(vector), dimension)
    # Functions of `math` and the ufunc's own `reduce` are faster here: this is a hot path.
    largest = float(np.maximum.reduce(np.abs(vector)))
    if not math.isfinite(largest):
        at = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise InvalidEvent(Reason.NOT_FINITE, f"embedding[{at}] is {vector[at]}")
    if largest == 0.0:
        raise InvalidEvent(Reason.ZERO_VECTOR, "every component of the embedding is zero")
    scaled = vector / largest
    unit: npt.NDArray[np.float32] = (scaled / math.sqrt(scaled @ scaled)).astype(np.float32)
    unit.flags.writeable = False
    return unit


def _check_dimension(found: int, expected: int | None) -> None:
    if found == 0:
        raise InvalidEvent(Reason.INVALID_EMBEDDING, "embedding is empty")
    if expected is not None and found != expected:
        raise InvalidEvent(
            Reason.WRONG_DIMENSION, f"embedding has {found:,} components; this catalogue has {expected:,}"
        )
    if found > MAX_DIMENSION:
        raise InvalidEvent(
            Reason.WRONG_DIMENSION,
            f"embedding has {found:,} components; at most {MAX_DIMENSION:,} are allowed",
        )


def parse_track_event(
    key: bytes | None,
    value: bytes | None,
    *,
    dimension: int | None,
    max_bytes: int = MAX_EVENT_BYTES,
) -> TrackUpsert | TrackDelete:
    """Read one message of `track-ingest`.

    Args:
        key: the message's key.
        value: its value; None is a delete.
        dimension: the catalogue's dimension; None while no track has fixed it.
        max_bytes: the longest value that is read.

    Raises:
        InvalidEvent: the message breaks the contract; nothing else is raised, whatever the bytes.
    """
    track_id = read_key(key)
    if value is None:
        return TrackDelete(track_id)
    event = load_object(value, max_bytes=max_bytes)
    check_same_track(track_id, event)
    return _read_event(track_id, event, dimension)


def read_track_event(
    value: bytes, *, dimension: int | None, max_bytes: int = MAX_EVENT_BYTES, strict: bool = False
) -> TrackUpsert:
    """Read a track event that has no key yet, as a producer does before it sends one.

    With `strict`, a metadata value that its key cannot hold is refused.

    Raises:
        InvalidEvent: the event breaks the contract.
    """
    return read_track_object(load_object(value, max_bytes=max_bytes), dimension=dimension, strict=strict)


def read_track_object(
    event: Mapping[str, Any], *, dimension: int | None, strict: bool = False
) -> TrackUpsert:
    """Read a track event that has been parsed; as `read_track_event`.

    Raises:
        InvalidEvent: the event breaks the contract.
    """
    return _read_event(check_track_id(event.get("track_id")), event, dimension, strict=strict)


def _read_event(
    track_id: str, event: Mapping[str, Any], dimension: int | None, *, strict: bool = False
) -> TrackUpsert:
    return TrackUpsert(
        track_id,
        _read_embedding(event, dimension),
        read_metadata(event.get("metadata"), strict=strict),
        read_event_time(event.get("event_time")),
    )


def _read_embedding(event: Mapping[str, Any], dimension: int | None) -> npt.NDArray[np.float32]:
    embedding = event.get("embedding")
    if embedding is None:
        raise InvalidEvent(Reason.MISSING_EMBEDDING, "embedding is missing")
    return unit_vector(embedding_components(embedding), dimension=dimension)


def embedding_components(embedding: object) -> list[float] | npt.NDArray[np.floating[Any]]:
    """The numbers of an embedding, which is a list or packed; `unit_vector` checks that they are a vector.

    Raises:
        InvalidEvent: `invalid_embedding`.
    """
    if isinstance(embedding, dict):
        return _decode(embedding)
    if not isinstance(embedding, list):
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING,
            f"embedding must be a list of numbers or an object, not {json_kind(embedding)}",
        )
    # numpy would read True as 1.0 and "1.5" as 1.5.
    if not _NUMBERS.issuperset(map(type, embedding)):
        at, item = next((i, x) for i, x in enumerate(embedding) if type(x) not in _NUMBERS)
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING, f"embedding[{at}] must be a number, not {json_kind(item)}"
        )
    return embedding


def _decode(embedding: Mapping[str, Any]) -> npt.NDArray[np.floating[Any]]:
    name, data = embedding.get("dtype"), embedding.get("data")
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING, f"embedding.dtype must be float32 or float16, not {quote_value(name)}"
        )
    if not isinstance(data, str):
        raise InvalidEvent(Reason.INVALID_EMBEDDING, "embedding.data must be base64 text")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING, "embedding.data is not standard base64 with padding"
        ) from None
    if len(raw) % dtype.itemsize:
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING,
            f"embedding.data is {len(raw):,} bytes long, which is no whole number of {name}",
        )
    return np.frombuffer(raw, dtype)


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
    vector: npt.ArrayLike,
    metadata: TrackMetadata | Mapping[str, Any] | None = None,
    *,
    event_time: datetime | None = None,
    encoding: Encoding = "float32",
) -> tuple[bytes, bytes]:
    """The key and value of a track event, validated by the rules of its readers.

    The vector is sent at unit length: only its direction counts, and every component fits a narrower type.

    Args:
        track_id: 1 to 512 printable characters.
        vector: (d,) real numbers, finite, not all zero.
        metadata: catalogue facts; a mapping is read as an event's would be.
        event_time: aware, or naive and then UTC.
        encoding: packed `float32` (exact) or `float16` (half the size), or a `json` list.

    Raises:
        InvalidEvent: any of them breaks the contract.
    """
    check_track_id(track_id)
    unit = unit_vector(vector)
    if not isinstance(metadata, TrackMetadata):
        metadata = read_metadata(None if metadata is None else dict(metadata))
    event: dict[str, Any] = {"track_id": track_id, "embedding": _encode(unit, encoding)}
    if present := metadata.present():
        event["metadata"] = present
    if event_time is not None:
        event["event_time"] = read_event_time(event_time.isoformat())
    value = orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)
    return track_id.encode(), value


def _encode(unit: npt.NDArray[np.float32], encoding: Encoding) -> Any:
    if encoding == "json":
        return unit
    packed = np.ascontiguousarray(unit, _DTYPES[encoding]).tobytes()
    return {"dtype": encoding, "data": base64.b64encode(packed).decode()}
