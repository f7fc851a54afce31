"""The contract of requests and replies."""

import json
from datetime import UTC, datetime

import orjson
import pytest
from pydantic import ValidationError

from streams.contracts import (
    InvalidEvent,
    ProblemDetails,
    Reason,
    RecommendationQuery,
    RecommendationReply,
    encode_error,
    encode_reply,
    finished_body,
    generation_members,
    interaction_identity,
    parse_interaction,
    parse_request,
    request_id_of,
    split_reply,
)
from streams.generations import GenerationName
from streams.strategies import registry

pytestmark = pytest.mark.unit

FIRST = generation_members(GenerationName())


def refused(**fields: object) -> str:
    """Why a request with these fields is refused."""
    with pytest.raises(InvalidEvent) as caught:
        parse_request(None, json.dumps({"request_id": "r", "track_id": "a", **fields}).encode())
    assert caught.value.reason is Reason.INVALID_REQUEST
    return caught.value.detail


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"strategy": "best"}, "strategy: is none of"),
        ({"strategy": "hybrid", "mode": "mmr"}, "mode: is not a mode of hybrid"),
        ({"filters": {"mood": "sad"}}, "filters.mood: is not a metadata field"),
        ({"filters": {"extra": {"any": ["a"]}}}, "filters.extra: is not a metadata field"),
        ({"filters": {"era": {}}}, "filters.era: must hold any, all, not, min or max"),
        ({"filters": {"era": {"above": 3}}}, "filters.era: must be text"),
        ({"filters": {"era": None}}, "filters.era: must be text"),
        ({"filters": {"era": []}}, "filters.era: must be text"),
        ({"filters": {"era": ["x"] * 101}}, "filters.era: must be text"),
        ({"caps": {"composer": 0}}, "caps.composer: "),
        ({"caps": {"composers": 1}}, "caps.composers: "),
        ({"caps": {"list_share": 1.5}}, "caps.list_share: "),
        ({"near_duplicates": {"cosine": 0}}, "near_duplicates.cosine: "),
        ({"at_least": 11}, "at_least: must be at most top_k"),
        ({"exclude": ["x"] * 1001}, "exclude: "),
        ({"negatives": [{"track_id": "b", "weight": 0}]}, "negatives.0.weight: "),
        ({"parameters": {"lambda": "much"}}, "parameters.lambda"),
        ({"user_context": {"recent_skips": -1}}, "user_context.recent_skips: "),
        ({"user_context": {"notes": "x" * 20_000}}, "user_context: is "),
        ({"user_context": {"time": "2026-01-01T00:00:00"}}, "user_context.time: "),
        ({"candidate": "b", "compare": True}, "request: candidate and compare exclude each other"),
        ({"min_offset": {"partition": 1, "offset": -1}}, "min_offset.offset: "),
    ],
)
def test_a_bad_request_is_refused_by_the_name_of_what_is_wrong(fields: dict[str, object], named: str) -> None:
    """One line, which names the parameter."""
    detail = refused(**fields)
    assert detail.startswith(named), detail
    assert "\n" not in detail


def test_every_parameter_is_read() -> None:
    """A request with all of them has all of them."""
    asked = {
        "request_id": "r",
        "seeds": ["a", {"track_id": "b", "weight": 2}],
        "negatives": ["c"],
        "strategy": "balanced",
        "parameters": {"diversity": 0.5, "pool": 300},
        "top_k": 5,
        "exclude": ["d"],
        "filters": {
            "era": "Baroque",
            "composer": ["Bach", "Vivaldi"],
            "tags": {"all": ["organ"], "not": "loud"},
            "year_composed": {"min": 1700, "max": 1750},
            "extra.rating": {"min": 3},
        },
        "caps": {"composer": 2, "list_share": 0.05},
        "near_duplicates": True,
        "at_least": 3,
        "user_context": {"goal": "variety", "time": "2026-01-02T03:04:05Z", "seed": 4, "device": "phone"},
        "min_offset": {"partition": 1, "offset": 2},
        "timeout_ms": 1500,
        "hits": 7,
    }
    read = parse_request(b"r", json.dumps(asked).encode())
    assert read.canonical == ("hybrid", None)
    assert read.wanted_filters()["tags"] == {"all": ["organ"], "not": "loud"}
    assert read.wanted_filters()["extra.rating"] == {"min": 3}
    assert (read.caps.composer, read.caps.artist, read.caps.list_share) == (2, None, 0.05)
    assert read.near_duplicates is not None
    assert read.near_duplicates.cosine == 0.995
    assert read.user_context.seed == 4
    assert read.timeout_ms == 1500
    assert read.hits == 7


def test_an_alias_of_a_mode_goes_with_no_other_mode() -> None:
    """It would be one of the two that is asked for; the mode that it stands for may be said."""
    query = RecommendationQuery(track_id="a", strategy="complementary", mode="cluster")
    assert query.canonical == ("diverse", "cluster")
    with pytest.raises(
        ValidationError, match="mode: contradicts complementary, which is diverse in mode cluster"
    ):
        RecommendationQuery(track_id="a", strategy="complementary", mode="mmr")


def test_a_goal_is_one_that_a_mode_serves() -> None:
    """Every goal of the registry is taken; another is refused with the goals that there are."""
    for goal in registry.GOALS:
        query = RecommendationQuery.model_validate({"track_id": "a", "user_context": {"goal": goal}})
        assert query.user_context.goal == goal
    with pytest.raises(ValidationError, match="Input should be 'similar', 'variety', 'complement'"):
        RecommendationQuery.model_validate({"track_id": "a", "user_context": {"goal": "silence"}})


def variant(**fields: object) -> int | None:
    """Which stored body would answer."""
    return RecommendationQuery.model_validate({"track_id": "a", **fields}).variant()


def test_stored_bodies_are_told_apart_by_what_was_asked() -> None:
    """Defaults are variant 0 however they are written; other parameters are others; what cannot be kept is none."""
    assert variant() == variant(top_k=10, filters={}, near_duplicates=False, caps={}) == 0
    variants = [
        variant(top_k=5),
        variant(parameters={"lambda": 0.5}),
        variant(filters={"era": "Baroque"}),
        variant(filters={"era": "Romantic"}),
        variant(caps={"composer": 1}),
        variant(near_duplicates=True),
        variant(at_least=0),
    ]
    assert len({0, *variants}) == 1 + len(variants)
    assert None not in variants
    filters = {"era": "Baroque", "form": "fugue"}
    assert variant(filters=filters) == variant(filters=dict(reversed(filters.items())))
    unrepeatable = [
        {"exclude": ["b"]},
        {"negatives": ["b"]},
        {"candidate": "b"},
        {"compare": True},
        {"user_context": {"goal": "variety"}},
        {"min_offset": {"partition": 0, "offset": 1}},
        {"track_id": None, "seeds": ["a"]},
    ]
    assert [variant(**fields) for fields in unrepeatable] == [None] * len(unrepeatable)


def test_a_body_travels_unparsed() -> None:
    """What is put behind and before a body leaves it as it was, and the reply's reader gets it back."""
    opened = orjson.dumps(
        {
            "reference_track": "ü",
            "strategy": "similarity",
            "generated_at": datetime(2026, 1, 2, tzinfo=UTC),
            "recommendations": [],
        }
    )
    body = finished_body(opened, FIRST, cached=True, stale=False, milliseconds=0.12345)
    assert orjson.loads(body) == {
        **orjson.loads(opened),
        "space": "default",
        "generation": 1,
        "cached": True,
        "stale": False,
        "behind_seconds": 0.0,
        "computation_time_ms": 0.123,
    }
    reply = encode_reply('q"1', body)
    assert RecommendationReply.model_validate_json(reply).request_id == 'q"1'
    assert split_reply('q"1', reply) == (body, None)
    # From somebody who writes JSON otherwise.
    found, _ = split_reply('q"1', json.dumps(orjson.loads(reply), indent=1).encode())
    assert found is not None
    assert orjson.loads(found) == orjson.loads(body)
    with pytest.raises(InvalidEvent):
        split_reply("q2", reply)


def test_a_problem_travels_as_an_error() -> None:
    """A reply with an error has no body."""
    problem = ProblemDetails(title="Unknown track", status=404, detail="There is no track 'a'.")
    value = encode_error("r", problem)
    assert RecommendationReply.model_validate_json(value).error == problem
    body, error = split_reply("r", value)
    assert body is None
    assert error is not None
    assert error["status"] == 404


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        (b"k", b'{"request_id": "r"}', "r"),
        (b"k", b"not JSON", "k"),
        (b"k", b'{"request_id": 5}', None),
        (None, b"{}", None),
        (b"\xff", b"", None),
    ],
)
def test_a_refused_request_can_be_answered_if_it_says_by_what_name(
    key: bytes | None, value: bytes, found: str | None
) -> None:
    """The value's request_id, else the key."""
    assert request_id_of(key, value) == found


def test_two_deliveries_of_one_interaction_are_known_as_one() -> None:
    """By its id, or by all of its facts; an anonymous one without a time is always another."""

    def identity(**fields: object) -> bytes | None:
        value = json.dumps({"track_id": "a", "type": "play", **fields}).encode()
        return interaction_identity(parse_interaction(b"a", value))

    assert identity(event_id="e") == identity(event_id="e", user_id="u") != identity(event_id="f")
    facts = {"user_id": "u", "event_time": "2026-01-02T03:04:05Z"}
    assert identity(**facts) == identity(user_id="u", event_time="2026-01-02T04:04:05+01:00")
    assert identity(**facts) != identity(**{**facts, "user_id": "v"})
    assert identity(**facts) != identity(**facts, type="like")
    assert identity(user_id="u") is None
    assert identity(event_time="2026-01-02T03:04:05Z") is None
