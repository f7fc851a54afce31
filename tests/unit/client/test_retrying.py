"""When a request is tried again, and what an answer is to its caller."""

import email.utils
import time

import httpx
import pytest
from mess_client import (
    ConnectionFailedError,
    InvalidQuestionError,
    Recommendations,
    Retries,
    UnavailableError,
    UnexpectedAnswerError,
)
from mess_client.errors import MessClientError, problem_error
from mess_client.models import Health
from mess_client.questions import question_call, track_path
from mess_client.retrying import answer_error, parse_answer, parse_part, retry_after

pytestmark = pytest.mark.unit


def problem(status: int, retry: float | None = None) -> MessClientError:
    """A refusal with this status."""
    document = {"type": "urn:mess-ai:problem:some", "title": "Some", "status": status, "detail": "so"}
    made = problem_error(document, retry_after=retry)
    assert made is not None
    return made


def response(status: int, content: bytes, **headers: str) -> httpx.Response:
    """An answer that was read."""
    return httpx.Response(
        status, content=content, headers=headers, request=httpx.Request("GET", "http://api/tracks")
    )


def test_what_may_pass_is_tried_again_after_longer_and_longer_waits() -> None:
    """Waits double up to the longest, are drawn from their upper half, and end with the attempts."""
    retries = Retries(attempts=5, first_wait=1.0, longest_wait=3.0)
    away = ConnectionFailedError("away")
    waits = [retries.wait_after(attempt, away) for attempt in range(1, 6)]
    assert waits[-1] is None
    for wait, whole in zip(waits[:-1], (1.0, 2.0, 3.0, 3.0), strict=True):
        assert wait is not None
        assert whole / 2 <= wait <= whole
    assert Retries(attempts=1).wait_after(1, away) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500])
def test_what_will_be_refused_again_is_not_tried_again(status: int) -> None:
    """A wrong question, a missing track, a key that is not for this, a defect."""
    assert Retries().wait_after(1, problem(status)) is None


def test_retry_after_is_the_shortest_wait_and_never_cut_short() -> None:
    """One that is longer than anybody wants to wait is the caller's to deal with."""
    retries = Retries(first_wait=0.1, longest_wait=5.0)
    wait = retries.wait_after(1, problem(503, retry=4.0))
    assert wait == 4.0
    assert retries.wait_after(1, problem(429, retry=6.0)) is None


def test_retry_after_is_read_in_both_forms() -> None:
    """Seconds, or a date; what is neither says nothing."""
    assert retry_after({"retry-after": "7"}) == 7
    soon = retry_after({"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)})
    assert soon is not None
    assert 0 <= soon <= 31
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0
    assert [retry_after({"retry-after": text}) for text in ("", "soon", "²")] == [None] * 3


def test_an_answer_of_something_else_is_told_from_a_problem() -> None:
    """A proxy's page says what came; it is tried again by its status, as the API's own."""
    page = answer_error(response(502, b"<h1>Bad gateway</h1>", **{"retry-after": "1"}))
    assert isinstance(page, UnexpectedAnswerError)
    assert "502" in str(page)
    assert "Bad gateway" in str(page)
    assert Retries().wait_after(1, page) == 1.0
    with pytest.raises(UnexpectedAnswerError, match="is no Health: version: Field required"):
        parse_answer(response(200, b'{"status":"ok"}'), Health)
    with pytest.raises(UnexpectedAnswerError, match="is no Health"):
        parse_answer(response(200, b"[1]"), Health)
    with pytest.raises(UnexpectedAnswerError, match=r"is no Recommendations: strategy: Field required"):
        parse_part({"recommendations": []}, Recommendations)


def test_a_health_that_is_down_is_an_answer_and_a_problem_is_not() -> None:
    """Both come with status 503."""
    down = (
        b'{"status":"down","version":"1","checks":{"database":{"status":"down","detail":"away","tracks":3}}}'
    )
    health = parse_answer(response(503, down), Health, also=503)
    assert (health.status, health.checks["database"].detail) == ("down", "away")
    refused = b'{"type":"urn:mess-ai:problem:too-many-connections","title":"t","status":503,"detail":"d"}'
    with pytest.raises(UnavailableError, match="too-many-connections"):
        parse_answer(response(503, refused, **{"content-type": "application/problem+json"}), Health, also=503)


def test_a_problem_says_which_fields_are_wrong() -> None:
    """In its message, and one by one."""
    made = problem_error(
        {
            "type": "urn:mess-ai:problem:invalid-parameters",
            "title": "t",
            "status": 422,
            "detail": "cannot be used",
            "errors": [{"field": "top_k", "message": "must be at most 50"}],
        },
        request_id="r1",
    )
    assert isinstance(made, InvalidQuestionError)
    assert str(made) == "422 invalid-parameters: cannot be used; top_k must be at most 50"
    assert [(each.field, each.message) for each in made.fields] == [("top_k", "must be at most 50")]
    assert made.request_id == "r1"


def test_a_question_goes_by_its_url_where_that_can_say_it_all() -> None:
    """So that the API's memory may answer; everything else is a body."""
    plain = question_call({"track_id": "a/b", "top_k": 3, "exclude": ["c"], "min_offset": (3, 1207)})
    assert (plain.method, plain.path) == ("GET", "/recommend/a%2Fb")
    assert plain.params == {"top_k": 3, "exclude": ["c"], "min_offset": "3:1207"}
    filtered = question_call({"track_id": "a", "filters": {"era": "Baroque"}, "min_offset": (3, 1207)})
    assert (filtered.method, filtered.path) == ("POST", "/recommend")
    assert filtered.json == {
        "track_id": "a",
        "filters": {"era": "Baroque"},
        "min_offset": {"partition": 3, "offset": 1207},
    }
    assert (track_path(".."), track_path("a/../b%")) == ("%2E%2E", "a%2F..%2Fb%25")
