"""Validation of requests: the models are the same for Kafka and HTTP."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts import (
    InvalidRequest,
    ProblemDetails,
    RecommendationRequest,
    encode_error,
    parse_request,
    unknown_space,
)
from streams.strategies import registry

pytestmark = pytest.mark.unit

NUL, SURROGATE, BREAK = "a\0b", "a\ud800b", "a\nb"


def request(**fields: Any) -> RecommendationRequest:
    """A request with these fields, as it comes over Kafka."""
    return parse_request(None, json.dumps({"request_id": "r", "track_id": "a", **fields}).encode())


def problem(**fields: Any) -> ProblemDetails:
    """What is told of a request with these fields."""
    with pytest.raises(InvalidRequest) as caught:
        request(**fields)
    return caught.value.problem


def refused(**fields: Any) -> str:
    """Why a request with these fields is refused: the first field and what is wrong with it."""
    first = problem(**fields).errors[0]
    return f"{first.field}: {first.message}"


@pytest.mark.parametrize("text", [NUL, SURROGATE])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (lambda text: {"filters": {"era": text}}, "filters.era"),
        (lambda text: {"filters": {"era": ["Baroque", text]}}, "filters.era"),
        (lambda text: {"filters": {"extra.mood": {"not": text}}}, "filters.extra.mood"),
        (lambda text: {"filters": {"recording_date": {"min": text}}}, "filters.recording_date"),
        (lambda text: {"filters": {f"extra.{text}": "calm"}}, "filters"),
        (lambda text: {"parameters": {text: 1}}, "parameters"),
        (lambda text: {"strategy": text}, "strategy"),
        (lambda text: {"mode": text}, "mode"),
        (lambda text: {"user_context": {"goal": text}}, "user_context.goal"),
        (lambda text: {"user_context": {"device": [{"name": text}]}}, "user_context.device"),
        (lambda text: {"user_context": {"device": {text: 1}}}, "user_context.device"),
        (lambda text: {"user_context": {text: 1}}, "user_context"),
    ],
)
def test_text_that_cannot_be_stored_is_refused(fields: Any, named: str, text: str) -> None:
    """What is asked is written down: NUL and lone surrogates are told by the field that holds them."""
    assert refused(**fields(text)).startswith(named)


@pytest.mark.parametrize("text", [NUL, SURROGATE, BREAK, ""])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (lambda text: {"track_id": text}, "track_id"),
        (lambda text: {"track_id": None, "seeds": ["b", text]}, "seeds.1.track_id"),
        (lambda text: {"negatives": [{"track_id": text}]}, "negatives.0.track_id"),
        (lambda text: {"exclude": ["b", text]}, "exclude.1"),
        (lambda text: {"candidate": text}, "candidate"),
    ],
)
def test_a_track_id_is_refused_by_the_rule_of_track_ids(fields: Any, named: str, text: str) -> None:
    """Wherever a request names a track, its id is one that a track can have."""
    assert refused(**fields(text)).startswith(f"{named}: ")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"top_k": 0}, "top_k: must be at least 1"),
        ({"top_k": 51}, "top_k: must be at most 50"),
        ({"exclude": "b"}, "exclude: must be a list"),
        ({"exclude": ["b"] * 1_001}, "exclude: must have at most 1,000 entries"),
        ({"negatives": [{"weight": 1}]}, "negatives.0.track_id: is missing"),
        ({"negatives": [{"track_id": "b", "weight": 0}]}, "negatives.0.weight: must be above 0"),
        ({"negatives": [{"track_id": "b", "weight": 1001}]}, "negatives.0.weight: must be at most 1000"),
        ({"caps": {"list_share": 1.5}}, "caps.list_share: must be at most 1"),
        ({"caps": {"composers": 1}}, "caps.composers: is not a field of a request"),
        ({"mode": ""}, "mode: must not be empty"),
        ({"mode": "m" * 51}, "mode: must have at most 50 characters"),
        ({"mode": 1}, "mode: must be text"),
        ({"space": None}, "space: must be text"),
        (
            {"space": "Melody"},
            "space: 'Melody' is no name of a space: a lower-case letter, then up to 29 letters and digits",
        ),
        ({"negatives": [5]}, "negatives.0: must be a track id, or an object of track_id and weight"),
        (
            {"near_duplicates": "yes"},
            "near_duplicates: must be true, false, or an object of same_work, cosine and of_seeds",
        ),
        ({"user_context": {"seed": 2**64}}, "user_context.seed: must be at most 2147483647"),
        (
            {"filters": {"mood": "sad"}},
            "filters.mood: is not a metadata field; others are filtered on as extra.<key>",
        ),
        (
            {"filters": {"era": SURROGATE}},
            "filters.era: contains a lone surrogate, which is not valid Unicode text",
        ),
        ({"filters": {"era": ""}}, "filters.era: must not be empty"),
        (
            {"user_context": {"goal": "nope"}},
            "user_context.goal: must be 'similar', 'variety', 'complement', 'discover', 'surprise', 'contrast', 'popular', "
            "'balanced' or 'explore'",
        ),
        ({"negatives": ["b", "a"]}, "negatives: 'a' is what to start from, too"),
        (
            {"track_id": None, "seeds": ["b", "c"], "negatives": [{"track_id": "c", "weight": 2}]},
            "negatives: 'c' is what to start from, too",
        ),
        ({"user_context": {"time": "now"}}, "user_context.time: must be a time, as ISO 8601 writes it"),
        ({"user_context": {"time": "2026-01-01T00:00"}}, "user_context.time: must name its time zone"),
        (
            {"min_offset": {"partition": 0, "offset": 2**63}},
            "min_offset.offset: must be at most 9223372036854775807",
        ),
        ({"embedding": [1]}, "request: exactly one of track_id, seeds and embedding is needed, not 2"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_contract(fields: dict[str, Any], told: str) -> None:
    """Bounds and kinds as they are, by the name of the field; of no single field, of the request."""
    assert refused(**fields) == told


def test_a_request_is_of_a_space() -> None:
    """The space `default` where it names none, and questions of two spaces are two questions."""
    assert request().space == request(space="default").space == "default"
    assert request().asked == request(space="default").asked != request(space="melody").asked


def test_a_space_that_nothing_serves_is_a_problem_that_names_the_others() -> None:
    """Whoever asked finds the spaces that can be asked for."""
    told = json.loads(encode_error("r", unknown_space("mood", {"melody", "default"})))["error"]
    assert (told["status"], told["type"]) == (404, "urn:mess-ai:problem:unknown-space")
    assert told["detail"] == "No generation of space 'mood' serves; spaces that serve: default, melody."
    assert told["known"] == ["default", "melody"]
    assert [error["field"] for error in told["errors"]] == ["space"]


def test_an_unknown_strategy_is_a_problem_of_its_own() -> None:
    """With the strategies that there are, whatever else is wrong."""
    told = problem(strategy="best", top_k=0)
    assert told.type == "urn:mess-ai:problem:unknown-strategy"
    assert (told.model_extra or {})["known"] == [
        *(each.name for each in registry.STRATEGIES),
        *registry.ALIASES,
    ]
    assert {error.field for error in told.errors} == {"strategy", "top_k"}


def test_an_unknown_field_is_told_with_those_there_are() -> None:
    """By name."""
    told = problem(eras="Baroque")
    assert [(error.field, error.message) for error in told.errors] == [
        ("eras", "is not a field of a request")
    ]
    assert (told.model_extra or {})["known"] == sorted(RecommendationRequest.model_fields)


def test_a_thousand_errors_are_counted() -> None:
    """The first twenty are told, and how many there are besides."""
    told = problem(exclude=[""] * 1_000)
    assert [error.field for error in told.errors] == [f"exclude.{i}" for i in range(20)]
    assert (told.model_extra or {})["left_out"] == 980
    assert told.detail is not None
    assert told.detail.endswith("; and 980 more.")


def test_a_name_of_any_length_is_told_in_short() -> None:
    """What somebody calls a field is cut, and printable."""
    told = problem(**{"k\n" * 1_500: 1})
    assert len(told.errors[0].field) <= 120
    assert told.errors[0].field.startswith("k\N{REPLACEMENT CHARACTER}k")
    assert told.errors[0].field.endswith("…")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (lambda value: {"top_k": value}, "top_k: must be a whole number"),
        (lambda value: {"at_least": value}, "at_least: must be a whole number"),
        (lambda value: {"caps": {"composer": value}}, "caps.composer: must be a whole number"),
        (lambda value: {"caps": {"list_share": value}}, "caps.list_share: must be a number"),
        (lambda value: {"hub_correction": value}, "hub_correction: must be a number"),
        (
            lambda value: {"negatives": [{"track_id": "b", "weight": value}]},
            "negatives.0.weight: must be a number",
        ),
        (
            lambda value: {"min_offset": {"partition": 0, "offset": value}},
            "min_offset.offset: must be a whole number",
        ),
        (lambda value: {"user_context": {"seed": value}}, "user_context.seed: must be a whole number"),
    ],
)
@pytest.mark.parametrize("value", [True, "1"])
def test_a_number_is_written_as_one(fields: Any, named: str, value: object) -> None:
    """Neither text nor true is a number in JSON."""
    assert refused(**fields(value)) == named


def test_a_whole_number_may_be_written_with_a_point() -> None:
    """JSON has one kind of number."""
    assert request(top_k=5.0).top_k == 5
    assert refused(top_k=5.5) == "top_k: must be a whole number"


@pytest.mark.parametrize("value", ["0.5", None, float("nan"), float("inf"), 10**400, [1], {}])
def test_a_setting_is_a_number_or_true_or_false(value: object) -> None:
    """Whatever else it is, there is one error, on the setting."""
    told = problem(strategy="diverse", parameters={"lambda": value})
    assert [(error.field, error.message) for error in told.errors] == [
        ("parameters.lambda", "must be a number or true or false")
    ]


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**30])
@pytest.mark.parametrize(
    "fields",
    [
        lambda value: {"strategy": "random", "parameters": {"seed": value}},
        lambda value: {"filters": {"extra.label": value}},
        lambda value: {"filters": {"year_composed": {"min": value}}},
    ],
)
def test_a_number_of_any_length_can_be_written_down(fields: Any, value: int) -> None:
    """Beyond 64 bits it is a float, as JSON readers have it."""
    read = request(**fields(value))
    assert read.variant() is not None
    assert json.loads(read.asked)


def packed(values: list[float], dtype: str = "float32") -> dict[str, str]:
    """An embedding as producers pack it."""
    return {"dtype": dtype, "data": base64.b64encode(np.array(values, dtype).tobytes()).decode()}


def test_an_embedding_is_read_as_in_track_events() -> None:
    """A list or packed numbers, which are the same question."""
    listed, short, half = (
        request(track_id=None, embedding=given)
        for given in ([0.5, -2], packed([0.5, -2]), packed([0.5, -2], "float16"))
    )
    assert listed.embedding == short.embedding == half.embedding == [0.5, -2.0]
    assert listed.asked == short.asked == half.asked


@pytest.mark.parametrize(
    ("embedding", "told"),
    [
        (["0.5"] * 253, "embedding.0: must be a number, not text"),
        ([0.5, True], "embedding.1: must be a number, not a boolean"),
        ([0.5, float("nan")], "embedding.1: is nan"),
        ([], "embedding: is empty"),
        ([0, 0.0], "embedding: every component of the embedding is zero"),
        ([1.0] * 20_000, "embedding: has 20,000 components; at most 16,384 are allowed"),
        ("AACAPw==", "embedding: must be a list of numbers or an object, not text"),
        (packed([1.0], "float64"), "embedding.dtype: must be float32 or float16, not 'float64'"),
        (
            {"dtype": "float32", "data": "AAAA"},
            "embedding.data: is 3 bytes long, which is no whole number of float32",
        ),
        ({"dtype": "float32", "data": "?"}, "embedding.data: is not standard base64 with padding"),
        (packed([1.0, float("inf")]), "embedding.1: is inf"),
    ],
)
def test_an_embedding_is_refused_as_in_track_events(embedding: object, told: str) -> None:
    """With one error, on the part of it that is at fault."""
    found = problem(track_id=None, embedding=embedding)
    assert [f"{error.field}: {error.message}" for error in found.errors] == [told]


text = st.text(st.characters(), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*RecommendationRequest.model_fields])
parts = st.sampled_from(["extra.mood", "era", "lambda", "goal", "seed", "track_id", "dtype", "not", "offset"])


@given(st.dictionaries(names, values | st.dictionaries(parts, values, max_size=3), max_size=5))
@settings(deadline=None)
def test_whatever_is_asked_can_be_written_down_or_is_refused(fields: dict[str, Any]) -> None:
    """Validated JSON can be sent on, compared and stored, and so can the words of a refusal."""
    asked = {"request_id": "r", "track_id": "a", **fields}
    try:
        read = parse_request(None, json.dumps(asked).encode())
    except InvalidRequest as error:
        told: ProblemDetails | None = error.problem
    else:
        told = None
    if told is not None:
        assert told.errors
        assert json.loads(encode_error("r", told))
        return
    read.variant()
    assert json.loads(read.asked)
    stored = read.model_dump(mode="json", include={"parameters", "filters", "strategy", "mode"})
    assert "\\u0000" not in json.dumps(stored)
