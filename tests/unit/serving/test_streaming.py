"""Server-sent events on their way to a reader who is slow, gone, or silent."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from serving.kafka.streaming import End, EventStream, OpenStreams
from tests.support.polling import until

pytestmark = pytest.mark.unit


class _Reader:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.blocked = asyncio.Event()
        self.blocks = False

    async def send(self, message: Any) -> None:
        if self.blocks and message["type"] == "http.response.body":
            self.blocked.set()
            await asyncio.Event().wait()
        self.sent.append(message)

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


async def _forever(*events: bytes) -> AsyncGenerator[bytes, None]:
    for event in events:
        yield event
    await asyncio.Event().wait()


async def _ending(*events: bytes) -> AsyncGenerator[bytes, None]:
    for event in events:
        yield event
    raise End("too-slow", "0:7")


async def _stream(
    reader: _Reader, events: AsyncGenerator[bytes, None], ends: list[str], **options: Any
) -> None:
    settings: dict[str, Any] = {
        "closing": asyncio.Event(),
        "ping": 60.0,
        "stall": 60.0,
        "lifetime": 60.0,
    } | options
    streams = OpenStreams(ends.append)
    await EventStream(events, streams=streams, **settings)({}, reader.receive, reader.send)  # type: ignore[arg-type]
    assert streams.open == 0


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


class _Held:
    """Events that hold something until they are closed; `fails` where they would go on."""

    def __init__(self, *, fails: bool = False) -> None:
        self.held = False
        self._fails = fails

    async def events(self) -> AsyncGenerator[bytes, None]:
        self.held = True
        try:
            yield b"data: 1\n\n"
            if self._fails:
                raise ZeroDivisionError
            await asyncio.Event().wait()
        finally:
            self.held = False


async def test_what_a_stream_holds_is_let_go_of_however_it_ends() -> None:
    """A reader who goes or takes nothing while an event is on its way, a stop, a cancellation, an error: all is closed."""
    for why, options in (("gone", {}), ("stalled", {"stall": 0.01}), ("stopping", {}), ("failed", {})):
        reader, ends, held, closing = _Reader(), list[str](), _Held(), asyncio.Event()
        reader.blocks = why in ("gone", "stalled", "failed")
        task = asyncio.create_task(_stream(reader, held.events(), ends, closing=closing, **options))
        await (reader.blocked.wait() if reader.blocks else until(lambda reader=reader: bool(reader.text)))  # type: ignore[misc]
        if why == "gone":
            reader.left.set()
        elif why == "stopping":
            closing.set()
        elif why == "failed":
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (ends, held.held) == ([why], False)


async def test_an_error_that_nobody_has_foreseen_is_told() -> None:
    """The reader learns that there is no more, and may come back."""
    reader, ends, held = _Reader(), list[str](), _Held(fails=True)
    await _stream(reader, held.events(), ends)
    assert (ends, held.held) == (["failed"], False)
    assert '{"reason":"failed"}' in reader.text
    assert reader.sent[-1]["more_body"] is False


async def test_a_stream_that_has_lasted_long_enough_ends() -> None:
    """Its reader is told to come back, with what it has seen last."""
    reader, ends = _Reader(), list[str]()
    await _stream(reader, _forever(b"id: 3\n\n"), ends, lifetime=0.05)
    assert ends == ["renew"]
    assert reader.text.startswith("id: 3\n\nevent: end\n")
    assert "id:" not in reader.text[8:]
