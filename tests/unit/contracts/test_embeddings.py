"""Embeddings in named parts: what is accepted, what the first track fixes, and what each refusal says."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from streams.contracts import (
    InvalidEvent,
    Reason,
    RecommendationQuery,
    TrackUpsert,
    encode_track,
    parse_track_event,
)
from streams.contracts.tracks import read_track_object
from streams.strategies.aspects import Expected, FirstTrack, Layout

pytestmark = pytest.mark.unit

LAYOUT = Layout.of_sizes({"melody": 2, "rhythm": 3}, {"melody": 3, "rhythm": 1})


def read(embedding: object, expected: Expected = LAYOUT) -> TrackUpsert:
    """What an event with this embedding is read as."""
    value = json.dumps({"track_id": "a", "embedding": embedding}).encode()
    found = parse_track_event(b"a", value, layout=expected)
    assert isinstance(found, TrackUpsert)
    return found


def packed(values: list[float], dtype: str = "float32") -> dict[str, str]:
    """An encoded part."""
    return {"dtype": dtype, "data": base64.b64encode(np.array(values, dtype).tobytes()).decode()}


def test_each_part_is_normalised_and_weighed() -> None:
    """A part's length does not count, only the weight of its aspect; a list and a packed part are read alike."""
    found = read({"rhythm": packed([0, 0, 7]), "melody": [300, 400]})
    np.testing.assert_allclose(found.vector, [0.75**0.5 * 0.6, 0.75**0.5 * 0.8, 0, 0, 0.5], rtol=1e-6)
    assert found.layout == LAYOUT
    assert not found.vector.flags.writeable


def test_the_first_track_fixes_names_and_sizes() -> None:
    """Of equal weight, or as they are set; then the names must be those that are set."""
    embedding = {"b": [1, 0], "a": [1, 0, 0]}
    assert read(embedding, None).layout.rows == [("a", 3, 0.5), ("b", 2, 0.5)]
    assert read(embedding, FirstTrack(weights={"a": 3, "b": 1})).layout.rows == [
        ("a", 3, 0.75),
        ("b", 2, 0.25),
    ]
    assert read([1, 0], None).layout == Layout(2)
    # A size can be told by zeros; a part cannot be told by nothing.
    assert read({"a": [0, 0], "b": [1]}, None).layout.rows == [("a", 2, 0.5), ("b", 1, 0.5)]


@pytest.mark.parametrize(
    "embedding",
    [{"rhythm": [0, 0, 1]}, {"rhythm": [0, 0, 1], "melody": None}, {"rhythm": [0, 0, 1], "melody": [0, 0]}],
)
def test_a_missing_part_is_zeros(embedding: object) -> None:
    """Absent, null or all zero: it is like nothing, and unlike nothing."""
    assert read(embedding).vector.tolist() == [0, 0, 0, 0, 0.5]


@pytest.mark.parametrize(
    ("embedding", "expected", "reason", "detail"),
    [
        ([1, 2, 3, 4, 5], LAYOUT, Reason.WRONG_ASPECTS, "embedding has no parts; this catalogue's embeddings have the parts melody, rhythm"),
        ({"tempo": [1]}, LAYOUT, Reason.WRONG_ASPECTS, "embedding has a part 'tempo'; this catalogue's embeddings have the parts melody, rhythm"),
        ({"melody": [1, 2]}, Layout(2), Reason.WRONG_ASPECTS, "embedding has a part 'melody'; this catalogue's embeddings have no parts"),
        ({"melody": [1, 2]}, FirstTrack(weights={"melody": 1, "rhythm": 1}), Reason.WRONG_ASPECTS, "embedding has the parts melody; this catalogue's embeddings have the parts melody, rhythm"),
        ({"melody": [1, 2]}, FirstTrack(2), Reason.WRONG_ASPECTS, "embedding has a part 'melody'; this catalogue's embeddings have no parts"),
        ([1], FirstTrack(weights={"melody": 1}), Reason.WRONG_ASPECTS, "embedding has no parts; this catalogue's embeddings have the parts melody"),
        ({"melody": [1, 2, 3]}, LAYOUT, Reason.WRONG_DIMENSION, "embedding.melody has 3 components; this catalogue has 2"),
        ({"melody": [1, None]}, LAYOUT, Reason.INVALID_EMBEDDING, "embedding.melody[1] must be a number, not null"),
        ({"melody": "1,2"}, LAYOUT, Reason.INVALID_EMBEDDING, "embedding.melody must be a list of numbers or an object, not text"),
        ({"melody": {"rhythm": [1]}}, LAYOUT, Reason.INVALID_EMBEDDING, "embedding.melody.dtype must be float32 or float16, not None"),
        ({"melody": []}, LAYOUT, Reason.INVALID_EMBEDDING, "embedding.melody is empty"),
        ({"melody": [1, float("nan")]}, LAYOUT, Reason.NOT_FINITE, "embedding.melody[1] is nan"),
        ({"melody": [0, 0], "rhythm": None}, LAYOUT, Reason.ZERO_VECTOR, "every part of the embedding is missing or zero"),
        ({"melody": None}, None, Reason.INVALID_EMBEDDING, "embedding.melody is null, and no track has fixed how many components it has"),
        ({"a b": [1]}, None, Reason.INVALID_EMBEDDING, "embedding has a part 'a b': a name is a letter, then up to 63 letters, digits, _ or -"),
        ({f"a{i}": [1] for i in range(33)}, None, Reason.INVALID_EMBEDDING, "embedding has 33 parts; at most 32 are allowed"),
        ({"a": [1] * 10_000, "b": [1] * 10_000}, None, Reason.WRONG_DIMENSION, "embedding has 20,000 components; at most 16,384 are allowed"),
        ({}, None, Reason.INVALID_EMBEDDING, "embedding is empty"),
        ({"melody": []}, None, Reason.INVALID_EMBEDDING, "embedding.melody is empty"),
        # With one of the members of a packed embedding, an object is one, and parts beside it would be lost.
        ({"data": [1, 2], "melody": [1]}, None, Reason.INVALID_EMBEDDING, "embedding has 'melody' beside dtype or data; packed, it has no parts"),
        ({"melody": [1]} | packed([1]), None, Reason.INVALID_EMBEDDING, "embedding has 'melody' beside dtype or data; packed, it has no parts"),
        ({"melody": packed([1]) | {"scale": 2}}, None, Reason.INVALID_EMBEDDING, "embedding.melody has 'scale' beside dtype or data; packed, it has no parts"),
    ],
)  # fmt: skip
def test_other_parts_are_refused(embedding: object, expected: Expected, reason: Reason, detail: str) -> None:
    """With the part at fault, and what the catalogue has."""
    with pytest.raises(InvalidEvent) as caught:
        read(embedding, expected)
    assert (caught.value.reason, caught.value.detail) == (reason, detail)


@pytest.mark.parametrize("encoding", ["float32", "float16", "json"])
def test_what_producers_send_is_read_as_it_was(encoding: Any) -> None:
    """Parts, missing ones too, whose size a first track then tells."""
    parts = {"rhythm": np.zeros(3), "melody": [3.0, 4.0]}
    _, value = encode_track("a", parts, encoding=encoding)
    first = parse_track_event(b"a", value, layout=None)
    assert isinstance(first, TrackUpsert)
    assert first.layout.rows == [("melody", 2, 0.5), ("rhythm", 3, 0.5)]
    np.testing.assert_allclose(first.vector, [0.5**0.5 * 0.6, 0.5**0.5 * 0.8, 0, 0, 0], atol=2e-4)
    again = encode_track("a", first.embedding, encoding=encoding)[1]
    found = read_track_object(json.loads(again), layout=first.layout)
    np.testing.assert_allclose(found.vector, first.vector, atol=2e-4)
    with pytest.raises(InvalidEvent, match="a part 'x y'"):
        encode_track("a", {"x y": [1.0]})


def test_a_question_has_parts_and_weights_in_one_form() -> None:
    """Missing parts are left out; weights that mean the same are the same question."""
    asked = RecommendationQuery.model_validate(
        {"embedding": {"melody": packed([1, 2]), "rhythm": None}, "weights": {"rhythm": 7, "melody": 3}}
    )
    assert asked.embedding == {"melody": [1, 2]}
    assert asked.weights == {"melody": 0.3, "rhythm": 0.7}
    one, other, plain, more = (
        RecommendationQuery.model_validate({"track_id": "a", **weights})
        for weights in (
            {"weights": {"rhythm": 0.7, "melody": 0.3}},
            {"weights": {"melody": 3, "harmony": 0, "rhythm": 7}},
            {},
            {"weights": {"melody": -0.3, "rhythm": 0.7}},
        )
    )
    assert one.variant() == other.variant()
    assert one.asked == other.asked
    assert len({one.variant(), plain.variant(), more.variant()}) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"weights": "rhythm:1"}, "must be an object of aspects"),
        ({"weights": {"rhythm": "1"}}, "'rhythm' must be a number"),
        ({"weights": {"rhythm": float("nan")}}, "rhythm must be between -1,000 and 1,000"),
        ({"weights": {"rhythm": 0}}, "must not all be zero"),
        ({"weights": {}}, "must name 1 to 32 aspects"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(asked: dict[str, Any], message: str) -> None:
    """Before anything is asked of a catalogue."""
    with pytest.raises(ValueError, match=message):
        RecommendationQuery.model_validate({"track_id": "a", **asked})


def test_a_part_at_fault_is_named_in_a_question() -> None:
    """By its place in the embedding."""
    with pytest.raises(ValueError, match=r"melody\.1: is nan"):
        RecommendationQuery.model_validate({"embedding": {"melody": [1, float("nan")]}})
