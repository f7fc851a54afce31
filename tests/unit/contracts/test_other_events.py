"""Interactions, requests, the change feed, and the headers of dead letters."""

import json
from datetime import UTC, datetime

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.contracts import (
    InteractionType,
    InvalidEvent,
    ListChange,
    Reason,
    RecommendationReply,
    dead_letter_headers,
    encode_list_change,
    encode_scores,
    parse_interaction,
    parse_request,
    read_dead_letter_headers,
)

pytestmark = pytest.mark.unit
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_an_interaction_is_read() -> None:
    """Type, listener and time are read; unknown keys are passed over."""
    value = b'{"track_id": "a", "type": "like", "user_id": "u", "event_time": "2026-01-02T03:04:05Z", "x": 1}'
    read = parse_interaction(b"a", value)
    assert (read.track_id, read.type, read.user_id) == ("a", InteractionType.LIKE, "u")
    assert read.event_time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"a", b'{"track_id": "a", "type": "hum"}', Reason.INVALID_INTERACTION),
        (b"a", b'{"track_id": "a"}', Reason.INVALID_INTERACTION),
        (b"a", b'{"track_id": "a", "type": "play", "user_id": 5}', Reason.INVALID_INTERACTION),
        (b"a", b'{"track_id": "a", "type": "play", "user_id": "a\\u0000"}', Reason.INVALID_INTERACTION),
        (b"a", b'{"track_id": "a", "type": "play", "event_time": "x"}', Reason.INVALID_EVENT_TIME),
        (b"b", b'{"track_id": "a", "type": "play"}', Reason.KEY_MISMATCH),
        (b"a", None, Reason.MALFORMED_JSON),
        (None, b"{}", Reason.MISSING_KEY),
    ],
)
def test_bad_interactions_have_their_reason(key: bytes | None, value: bytes | None, reason: Reason) -> None:
    """An interaction that breaks the contract is refused with the reason that fits."""
    with pytest.raises(InvalidEvent) as caught:
        parse_interaction(key, value)
    assert caught.value.reason is reason


def request(**fields: object) -> bytes:
    """Return a request's value."""
    return json.dumps({"request_id": "r", **fields}).encode()


def test_a_request_starts_from_a_track_seeds_or_a_vector() -> None:
    """Seeds may be bare ids or carry weights; defaults fill in the rest."""
    assert parse_request(b"r", request(track_id="a")).top_k == 10
    seeds = parse_request(None, request(seeds=["a", {"track_id": "b", "weight": 2}])).seeds
    assert seeds is not None
    assert [(seed.track_id, seed.weight) for seed in seeds] == [("a", 1.0), ("b", 2.0)]
    assert parse_request(b"r", request(embedding=[1, 2.5])).embedding == [1.0, 2.5]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"track_id": "a", "embedding": [1.0]},
        {"track_id": "a", "top_k": 0},
        {"track_id": "a", "top_k": 51},
        {"track_id": "a", "topk": 5},
        {"track_id": ""},
        {"embedding": [float("nan")]},
        {"seeds": []},
        {"seeds": [{"track_id": "a", "weight": -1}]},
    ],
)
def test_bad_requests_are_refused(fields: dict[str, object]) -> None:
    """A request is strict: unknown keys and values out of range are refused."""
    with pytest.raises(InvalidEvent) as caught:
        parse_request(b"r", request(**fields))
    assert caught.value.reason is Reason.INVALID_REQUEST


def test_a_request_under_another_key_is_refused() -> None:
    """The key of a request is its request_id."""
    with pytest.raises(InvalidEvent) as caught:
        parse_request(b"s", request(track_id="a"))
    assert caught.value.reason is Reason.KEY_MISMATCH


@patient
@given(st.binary(max_size=60) | st.none(), st.binary(max_size=120) | st.none())
def test_other_doors_raise_invalid_event_and_nothing_else(key: bytes | None, value: bytes | None) -> None:
    """Whatever the bytes, interactions and requests are read or refused."""
    for parse in (parse_interaction, parse_request):
        try:
            parse(key, value)
        except InvalidEvent:
            continue


def test_a_reply_is_whole() -> None:
    """A reply has recommendations or an error, as its status says."""
    assert RecommendationReply.model_validate({"request_id": "r", "status": "ok", "recommendations": []})
    for fields in ({"status": "ok"}, {"status": "error"}):
        with pytest.raises(ValidationError):
            RecommendationReply.model_validate({"request_id": "r", **fields})


@pytest.mark.parametrize(
    "names", [["a", "b"], ['q"uote', '","', "back\\", 'slash\\"', "ü,☃", "]"], ["one"], []]
)
def test_the_hot_path_of_the_change_feed_writes_what_the_model_reads(names: list[str]) -> None:
    """`encode_list_change` keeps to `ListChange`, field by field, whatever the ids; scores are float32 as they were."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    scores = np.linspace(0.9, -1 / 3, 2 * max(1, len(names)), dtype=np.float32).reshape(2, -1)
    key, value = encode_list_change(
        "ü",
        version=7,
        neighbours=names,
        scores=encode_scores(scores)[1],
        added=names[:1],
        removed=["c"],
        source=("track-ingest", 3, 12),
        generated_at=moment,
    )
    read = ListChange.model_validate_json(value)
    assert key == "ü".encode()
    assert orjson.loads(value).keys() == ListChange.model_fields.keys()
    assert [item.track_id for item in read.recommendations] == names
    assert [np.float32(item.score) for item in read.recommendations] == scores[1, : len(names)].tolist()
    assert (read.version, read.added, read.removed, read.generated_at) == (7, names[:1], ["c"], moment)
    assert (read.source.topic, read.source.partition, read.source.offset) == ("track-ingest", 3, 12)


def test_dead_letter_headers_say_why_and_whence_and_occur_once() -> None:
    """A message that is refused twice has the last refusal's headers alone, beside its own."""
    first = dead_letter_headers(
        InvalidEvent(Reason.ZERO_VECTOR, "old"),
        topic="t",
        partition=1,
        offset=2,
        received=[("trace", b"\xff")],
    )
    again = dead_letter_headers(
        InvalidEvent(Reason.NOT_FINITE, "néw"),
        topic="dead-letters",
        partition=0,
        offset=9,
        failed_at=datetime(2026, 1, 2, tzinfo=UTC),
        received=first,
    )
    assert len(again) == len({name for name, _ in again}) == 7
    assert read_dead_letter_headers(again) == {
        "trace": "\N{REPLACEMENT CHARACTER}",
        "mess.error": "not_finite",
        "mess.detail": "néw",
        "mess.source.topic": "dead-letters",
        "mess.source.partition": "0",
        "mess.source.offset": "9",
        "mess.failed_at": "2026-01-02T00:00:00+00:00",
    }
