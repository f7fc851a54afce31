"""Validation of `track-ingest`: what is accepted, and what each refusal says."""

import base64
import contextlib
import json
import math
from datetime import UTC, datetime

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.contracts import (
    MAX_DIMENSION,
    InvalidEvent,
    Reason,
    TrackDelete,
    TrackMetadata,
    TrackUpsert,
    encode_track,
    parse_track_event,
    track_key,
    unit_vector,
)
from streams.strategies.aspects import Layout

pytestmark = pytest.mark.unit
# The first draw of text builds Unicode tables, which takes a second.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def event(embedding: object = (3.0, 4.0), track_id: object = "a", **more: object) -> bytes:
    """Return a track event as a Python producer would write it, NaN and all."""
    return json.dumps({"track_id": track_id, "embedding": embedding, **more}).encode()


def refusal(key: bytes | None, value: bytes | None, dimension: int | None = None) -> InvalidEvent:
    """Return why a message is refused."""
    with pytest.raises(InvalidEvent) as caught:
        parse_track_event(key, value, layout=None if dimension is None else Layout(dimension))
    assert caught.value.detail.isprintable()
    return caught.value


def accepted(value: bytes, key: bytes = b"a", dimension: int | None = None) -> TrackUpsert:
    """Return what an upsert is read as."""
    read = parse_track_event(key, value, layout=None if dimension is None else Layout(dimension))
    assert isinstance(read, TrackUpsert)
    return read


def test_an_event_becomes_a_unit_vector_with_its_metadata_and_time() -> None:
    """A list of numbers is normalised; metadata is typed; the time is UTC."""
    read = accepted(
        event(metadata={"title": "Fugue", "x": 1}, event_time="2026-02-03T04:05:06+02:00"), dimension=2
    )
    np.testing.assert_allclose(read.vector, [0.6, 0.8], rtol=1e-7)
    assert read.vector.dtype == np.float32
    assert not read.vector.flags.writeable
    assert read.metadata == TrackMetadata(title="Fugue", extra={"x": 1})
    assert read.event_time == datetime(2026, 2, 3, 2, 5, 6, tzinfo=UTC)


def test_a_null_value_is_a_delete_and_an_empty_one_is_not() -> None:
    """Only null deletes; a zero-length value is malformed."""
    assert parse_track_event("ü/1".encode(), None, layout=Layout(3)) == TrackDelete("ü/1")
    assert refusal(b"a", b"").reason is Reason.MALFORMED_JSON


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_packed_embeddings_are_little_endian_floats(dtype: str) -> None:
    """Base64 of little-endian float32 or float16 is read as the numbers it holds."""
    data = np.array([3, 4], np.dtype(dtype).newbyteorder("<")).tobytes()
    read = accepted(event({"dtype": dtype, "data": base64.b64encode(data).decode()}))
    np.testing.assert_allclose(read.vector, [0.6, 0.8], rtol=1e-7)


@pytest.mark.parametrize("scale", [1e308, 1e30, 1.0, 1e-30, 5e-324])
def test_huge_and_subnormal_components_keep_their_direction(scale: float) -> None:
    """Neither overflow nor underflow of the norm loses a vector."""
    np.testing.assert_allclose(accepted(event([scale, scale])).vector, [math.sqrt(0.5)] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("embedding", "reason"),
    [
        ([], Reason.INVALID_EMBEDDING),
        ([1, True], Reason.INVALID_EMBEDDING),
        (["1", 2], Reason.INVALID_EMBEDDING),
        ([[1, 2]], Reason.INVALID_EMBEDDING),
        ([1, None], Reason.INVALID_EMBEDDING),
        ([1, {}], Reason.INVALID_EMBEDDING),
        ("1, 2", Reason.INVALID_EMBEDDING),
        (3, Reason.INVALID_EMBEDDING),
        ({}, Reason.INVALID_EMBEDDING),
        ({"dtype": "float64", "data": "AAAA"}, Reason.INVALID_EMBEDDING),
        ({"dtype": ["float32"], "data": "AAAA"}, Reason.INVALID_EMBEDDING),
        ({"dtype": "float32", "data": "AAAA"}, Reason.INVALID_EMBEDDING),
        ({"dtype": "float32", "data": "AAA"}, Reason.INVALID_EMBEDDING),
        ({"dtype": "float32", "data": "über"}, Reason.INVALID_EMBEDDING),
        ({"dtype": "float32", "data": ""}, Reason.INVALID_EMBEDDING),
        ({"dtype": "float32", "data": 3}, Reason.INVALID_EMBEDDING),
        (
            {"dtype": "float32", "data": base64.b64encode(np.float32([np.nan]).tobytes()).decode()},
            Reason.NOT_FINITE,
        ),
        ([1, math.nan], Reason.NOT_FINITE),
        ([math.inf, 1], Reason.NOT_FINITE),
        ([10**400, 1], Reason.NOT_FINITE),
        ([0, 0.0, -0.0], Reason.ZERO_VECTOR),
        ([1.0] * (MAX_DIMENSION + 1), Reason.WRONG_DIMENSION),
        (None, Reason.MISSING_EMBEDDING),
    ],
)
def test_bad_embeddings_are_told_apart(embedding: object, reason: Reason) -> None:
    """Each way in which an embedding can be wrong has its reason."""
    assert refusal(b"a", event(embedding)).reason is reason


def test_a_number_beyond_float64_is_not_finite() -> None:
    """1e400 is valid JSON but no finite number."""
    assert refusal(b"a", b'{"track_id": "a", "embedding": [1e400, 1]}').reason is Reason.NOT_FINITE


def test_the_dimension_is_held_once_it_is_known() -> None:
    """A vector of another dimension than the catalogue's is refused with both numbers."""
    error = refusal(b"a", event([1, 2]), dimension=768)
    assert (error.reason, error.detail) == (
        Reason.WRONG_DIMENSION,
        "embedding has 2 components; this catalogue has 768",
    )


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, event(), Reason.MISSING_KEY),
        (b"", event(), Reason.MISSING_KEY),
        (None, None, Reason.MISSING_KEY),
        (b"b", event(), Reason.KEY_MISMATCH),
        (b"\xff", None, Reason.NOT_UTF8),
        (b"a", b'{"track_id": "\xff"}', Reason.NOT_UTF8),
        (b"a\n", None, Reason.INVALID_TRACK_ID),
        (b"x" * 513, None, Reason.INVALID_TRACK_ID),
        (b"a", event(track_id=None), Reason.INVALID_TRACK_ID),
        (b"a", event(track_id=3), Reason.INVALID_TRACK_ID),
        (b"a", event(track_id=""), Reason.INVALID_TRACK_ID),
        (b"a", b"{", Reason.MALFORMED_JSON),
        (b"a", b"[1]", Reason.MALFORMED_JSON),
        (b"a", b"null", Reason.MALFORMED_JSON),
        (b"a", b"[" * 100_000, Reason.MALFORMED_JSON),
        (b"a", b"x" * 5_000_000, Reason.TOO_LARGE),
        (b"a", b'{"track_id": "a"}', Reason.MISSING_EMBEDDING),
        (b"a", event(metadata=[1]), Reason.INVALID_METADATA),
        (b"a", event(metadata={"label": "x" * 70_000}), Reason.INVALID_METADATA),
        (b"a", event(event_time="soon"), Reason.INVALID_EVENT_TIME),
        (b"a", event(event_time=5), Reason.INVALID_EVENT_TIME),
        (b"a", event(event_time="0001-01-01T00:00:00+14:00"), Reason.INVALID_EVENT_TIME),
    ],
)
def test_every_broken_rule_has_its_reason(key: bytes | None, value: bytes | None, reason: Reason) -> None:
    """A message that breaks the contract is refused with the reason that fits."""
    assert refusal(key, value).reason is reason


def test_bare_nan_in_metadata_is_a_missing_value() -> None:
    """Python writes NaN as a bare word, which JSON does not know; in metadata it means nothing."""
    assert accepted(event(metadata={"year_composed": math.nan, "title": "x"})).metadata == TrackMetadata(
        title="x"
    )


def test_details_are_one_printable_line_of_bounded_length() -> None:
    """A refusal can be put in a header and on a terminal whatever it quotes."""
    error = InvalidEvent(Reason.INVALID_METADATA, "x\n\x1b[31m" + "y" * 1000)
    assert error.detail.isprintable()
    assert len(error.detail) == 300


def test_track_keys_are_stable_signed_64_bit_numbers() -> None:
    """The compact key is BLAKE2b, little-endian and signed; stored lists depend on it."""
    assert track_key("smd/Bach_BWV849-01") == 4_523_680_135_522_059_599
    assert all(-(2**63) <= track_key(str(i)) < 2**63 for i in range(100))
    assert len({track_key(str(i)) for i in range(10_000)}) == 10_000


@patient
@given(st.binary(max_size=80) | st.none(), st.binary(max_size=200) | st.none())
def test_arbitrary_bytes_raise_invalid_event_and_nothing_else(key: bytes | None, value: bytes | None) -> None:
    """Whatever the bytes, validation either accepts them or says why not."""
    try:
        parse_track_event(key, value, layout=None)
    except InvalidEvent as error:
        refused = error
    else:
        return
    assert refused.detail.isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=10,
)
fields = st.sampled_from(["embedding", "metadata", "event_time", "track_id", "dtype", "data", "x"])


@patient
@given(
    st.dictionaries(fields, json_values | st.fixed_dictionaries({"dtype": json_values, "data": json_values}))
)
def test_arbitrary_json_raises_invalid_event_and_nothing_else(fields_of_event: dict[str, object]) -> None:
    """Whatever JSON stands where a track event should, validation either accepts it or says why not."""
    value = json.dumps({"track_id": "a", **fields_of_event}).encode()
    try:
        read = parse_track_event(b"a", value, layout=None)
    except InvalidEvent:
        return
    assert isinstance(read, TrackUpsert)
    assert abs(float(np.linalg.norm(read.vector.astype(np.float64))) - 1) < 1e-5


vectors = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40).filter(lambda v: any(x != 0 for x in v))


@patient
@given(vectors, st.sampled_from(["float32", "float16", "json"]), st.datetimes(min_value=datetime(1900, 1, 1)))  # noqa: DTZ001
def test_what_is_encoded_is_read_back(vector: list[float], encoding: str, moment: datetime) -> None:
    """Encoding and reading give back the direction, the metadata and the time."""
    moment = moment.replace(tzinfo=UTC)
    metadata = TrackMetadata(title="Fuge", tags=("a", "b"), extra={"filename": "x.wav"})
    key, value = encode_track("ü/ 1", vector, metadata, event_time=moment, encoding=encoding)  # type: ignore[arg-type]
    read = parse_track_event(key, value, layout=Layout(len(vector)))
    assert isinstance(read, TrackUpsert)
    assert (read.track_id, read.metadata, read.event_time) == ("ü/ 1", metadata, moment)
    np.testing.assert_allclose(read.vector, unit_vector(vector), atol=2e-3 if encoding == "float16" else 2e-7)


def test_a_packed_event_is_far_smaller_than_a_json_list() -> None:
    """Packing is worth its name: a third of the JSON numbers that Python writes."""
    vector = np.random.default_rng(1).standard_normal(768)
    as_json = orjson.dumps({"track_id": "a", "embedding": vector.tolist()})
    assert len(encode_track("a", vector)[1]) * 3 < len(as_json)


@pytest.mark.parametrize(
    "vector", [np.array(["1.5", "2"]), np.array([True, False]), np.ones((2, 2)), [], "abc", [1 + 2j]]
)
def test_only_one_axis_of_real_numbers_is_encoded(vector: object) -> None:
    """A producer cannot send what validation would refuse."""
    with pytest.raises(InvalidEvent) as caught:
        encode_track("a", vector)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.INVALID_EMBEDDING


@pytest.mark.parametrize("levels", [16, 17, 300, 900, 1_000])
@pytest.mark.parametrize("key", ["title", "musicbrainz_recording_id", "tags", "x", "extra"])
@pytest.mark.parametrize("inside", ["", '"\\u0000"', "1e400"])
def test_metadata_nested_however_deep_is_read_or_refused(levels: int, key: str, inside: str) -> None:
    """Nesting that JSON readers take and recursion does not is no error that nobody foresaw."""
    nested = "[" * levels + inside + "]" * levels
    value = f'{{"track_id": "a", "embedding": [1, 2], "metadata": {{"{key}": {nested}}}}}'.encode()
    with contextlib.suppress(InvalidEvent):
        read = parse_track_event(b"a", value, layout=Layout(2))
        assert isinstance(read, TrackUpsert)
        orjson.dumps(read.metadata.present())
