"""Server-sent events on their way to a reader who is slow, gone, or silent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from serving.kafka.streaming import End, EventStream
from tests.support.polling import until

pytestmark = pytest.mark.unit


class _Reader:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.blocked = asyncio.Event()
        self.blocks = False

    async def send(self, message: Any) -> None:
        if self.blocks:
            self.blocked.set()
            await asyncio.Event().wait()
        self.sent.append(message)

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


async def _forever(*events: bytes) -> AsyncIterator[bytes]:
    for event in events:
        yield event
    await asyncio.Event().wait()


async def _ending(*events: bytes) -> AsyncIterator[bytes]:
    for event in events:
        yield event
    raise End("too-slow", "0:7")


async def _stream(reader: _Reader, events: AsyncIterator[bytes], ends: list[str], **options: Any) -> None:
    settings: dict[str, Any] = {"closing": asyncio.Event(), "ping": 60.0, "stall": 60.0} | options
    await EventStream(events, on_end=ends.append, **settings)({}, reader.receive, reader.send)  # type: ignore[arg-type]


async def test_the_end_says_why_and_where() -> None:
    """The last event has the reason and the id to come back with, and closes the answer."""
    reader, ends = _Reader(), list[str]()
    await _stream(reader, _ending(b"data: 1\n\n"), ends)
    assert ends == ["too-slow"]
    assert reader.text.startswith("data: 1\n\nevent: end\n")
    assert 'data: {"reason":"too-slow"}' in reader.text
    assert "id: 0:7" in reader.text
    assert reader.sent[-1]["more_body"] is False


async def test_a_reader_who_leaves_ends_it() -> None:
    """Once the connection is gone nothing is waited for."""
    reader, ends = _Reader(), list[str]()
    task = asyncio.create_task(_stream(reader, _forever(b"data: 1\n\n"), ends))
    await until(lambda: bool(reader.text))
    reader.left.set()
    await task
    assert ends == ["gone"]


async def test_a_reader_who_takes_nothing_is_cut_off() -> None:
    """A connection that accepts nothing for the given time is given up."""
    reader, ends = _Reader(), list[str]()
    reader.blocks = True
    await _stream(reader, _forever(b"data: 1\n\n"), ends, stall=0.01)
    assert ends == ["stalled"]


async def test_a_stop_is_told() -> None:
    """When the process stops the reader is told so, though no event comes."""
    reader, ends, closing = _Reader(), list[str](), asyncio.Event()
    task = asyncio.create_task(_stream(reader, _forever(b"data: 1\n\n"), ends, closing=closing))
    await until(lambda: bool(reader.text))
    closing.set()
    await task
    assert ends == ["stopping"]
    assert '{"reason":"stopping"}' in reader.text


async def test_silence_is_broken_by_comments() -> None:
    """An idle stream sends comments, which proxies and readers need."""
    reader, ends = _Reader(), list[str]()
    task = asyncio.create_task(_stream(reader, _forever(), ends, ping=0.01))
    await until(lambda: reader.text.count(": ping\n\n") >= 2)
    reader.left.set()
    await task
