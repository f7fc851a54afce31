"""Answers over HTTP, by a request handler that the test steers."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from streams.contracts import InvalidEvent, Reason
from streams.recommender.request_handler import LeavingError
from streams.worker.direct_questions import DirectQuestions, reachable_url

pytestmark = pytest.mark.unit


class SteeredHandler:
    """Answers with what it was asked, or fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[bytes] = []

    async def respond(self, request: bytes) -> bytes:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return b"reply to " + request


def request(body: bytes, **headers: str) -> Any:
    """The used part of an aiohttp request."""

    async def read() -> bytes:
        return body

    return SimpleNamespace(headers=headers, read=read)


def questions(handler: SteeredHandler) -> DirectQuestions:
    """Questions to this handler."""
    service: Any = SimpleNamespace(handler=handler)
    return DirectQuestions(service)


async def test_a_reply_goes_to_who_shows_the_token() -> None:
    """Without it, or with another, nothing is computed."""
    handler = SteeredHandler()
    made = questions(handler)
    for shown in ({}, {"Authorization": "Bearer x"}, {"Authorization": made.token}):
        assert (await made.answer(request(b"q", **shown))).status == 401
    assert handler.asked == []
    answer = await made.answer(request(b"q", Authorization=f"Bearer {made.token}"))
    assert (answer.status, answer.body, answer.content_type) == (200, b"reply to q", "application/json")


async def test_each_start_has_a_token_of_its_own() -> None:
    """Nobody can keep one of an earlier process."""
    assert questions(SteeredHandler()).token != questions(SteeredHandler()).token


async def test_a_request_that_breaks_the_contract_and_a_leaving_worker_are_told_apart() -> None:
    """400 with the detail: asking again is no use. 503: another worker answers."""
    handler = SteeredHandler()
    made = questions(handler)
    token = f"Bearer {made.token}"
    handler.error = InvalidEvent(Reason.INVALID_REQUEST, "top_k is no number")
    answer = await made.answer(request(b"q", Authorization=token))
    assert (answer.status, answer.text) == (400, "top_k is no number")
    handler.error = LeavingError()
    answer = await made.answer(request(b"q", Authorization=token))
    assert (answer.status, answer.headers["Connection"]) == (503, "close")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8001"),
        ("::1", "http://[::1]:8001"),
        ("0.0.0.0", f"http://{socket.gethostname()}:8001"),
        ("", f"http://{socket.gethostname()}:8001"),
    ],
)
def test_others_are_told_an_address_that_reaches_the_worker(host: str, url: str) -> None:
    """Every address of the machine is none: then it is the machine's name."""
    assert reachable_url(host, 8001) == url
