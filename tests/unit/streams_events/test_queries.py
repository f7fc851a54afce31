"""What is refused of a request, whoever asks: the models are the door of Kafka and HTTP alike."""

import json
from typing import Any

import pytest

from streams.events import InvalidEvent, RecommendationRequest, parse_request

pytestmark = pytest.mark.unit

NUL, SURROGATE, BREAK = "a\0b", "a\ud800b", "a\nb"


def request(**fields: Any) -> RecommendationRequest:
    """A request with these fields, as it comes over Kafka."""
    return parse_request(None, json.dumps({"request_id": "r", "track_id": "a", **fields}).encode())


def refused(**fields: Any) -> str:
    """Why a request with these fields is refused."""
    with pytest.raises(InvalidEvent) as caught:
        request(**fields)
    return caught.value.detail


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
