"""Sends server-sent events to one reader, which may be slow or gone."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

import orjson
import structlog
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from serving.middleware import HEADERS_ONLY

logger = structlog.get_logger("serving")

_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
# Milliseconds after which a reader reconnects when its stream has ended.
_RETRY_MS = 1_000
# Seconds that the events may take to close.
_CLOSING = 10.0


class End(Exception):  # noqa: N818 -- not an error: the last event of a stream
    """Ends a stream with a reason, which the reader gets together with its position."""

    def __init__(self, reason: str, event_id: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.event_id = event_id


class OpenStreams:
    """Counts open streams.

    Args:
        ended: Called with the reason when a stream has ended.

    Attributes:
        open: How many there are.
    """

    def __init__(self, ended: Callable[[str], None]) -> None:
        self.open = 0
        self._ended = ended

    def begin(self) -> None:
        """One more; `end` follows, whatever happens."""
        self.open += 1

    def end(self, why: str) -> None:
        """One less."""
        self.open -= 1
        self._ended(why)


class EventStream(EventSourceResponse):
    """Sends events until the reader leaves, the process stops, or the events end; the last event tells the reason.

    Args:
        events: Encoded events; ends by raising `End`. Closed with the stream, however that ends.
        streams: Told of the beginning, and of the end: `gone`, `stalled`, `stopping`, `renew`, `failed`, or the reason of `End`.
        closing: Set when the process is to stop.
        ping: Seconds after which an idle stream sends a comment, which finds out readers who are gone.
        stall: Seconds a reader may take to accept one event.
        lifetime: Seconds after which the stream ends, so that a reader comes back: with a key that holds, by the proxy's choice.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        streams: OpenStreams,
        closing: asyncio.Event,
        ping: float,
        stall: float,
        lifetime: float,
    ) -> None:
        super().__init__(events, headers=_HEADERS)
        self._events = events
        self._streams = streams
        self._closing = closing
        self._ping = ping
        self._stall = stall
        self._lifetime = lifetime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        why = "failed"
        self._streams.begin()
        try:
            why = await (self._run_empty(send) if scope.get(HEADERS_ONLY) else self._run(receive, send))
        except TimeoutError:
            why = "stalled"
        finally:
            try:
                # Suspended where it gave its last event, it would keep what it holds until it is collected, or for ever.
                await asyncio.wait(
                    {asyncio.create_task(self._close(), name="close a stream")}, timeout=_CLOSING
                )
            finally:
                self._streams.end(why)

    async def _begin(self, send: Send) -> None:
        await self._put(
            send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )

    async def _run_empty(self, send: Send) -> str:
        await self._begin(send)
        await self._put(send, {"type": "http.response.body", "body": b"", "more_body": False})
        return "gone"

    async def _run(self, receive: Receive, send: Send) -> str:
        await self._begin(send)
        gone = asyncio.create_task(_until_gone(receive), name="reader")
        closing = asyncio.create_task(self._closing.wait(), name="closing")
        sending = asyncio.create_task(self._send_events(send), name="events")
        tasks = (gone, closing, sending)
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._lifetime, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                if not task.done():
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if sending.done() and not sending.cancelled():
            return sending.result()
        if not gone.cancelled():
            return "gone"
        end = End("stopping" if done else "renew", "")
        await self._finish(send, end)
        return end.reason

    async def _send_events(self, send: Send) -> str:
        following: asyncio.Task[bytes] | None = None
        try:
            while True:
                following = following or asyncio.create_task(self._next(), name="next event")
                done, _ = await asyncio.wait([following], timeout=self._ping)
                if not done:
                    await self._body(send, KEEPALIVE_COMMENT)
                    continue
                event, following = following.result(), None
                await self._body(send, event)
        except End as end:
            await self._finish(send, end)
            return end.reason
        except TimeoutError:
            raise
        except Exception:
            logger.exception("a stream failed")
            await self._finish(send, End("failed", ""))
            return "failed"
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _close(self) -> None:
        try:
            await self._events.aclose()
        except Exception:
            logger.exception("a stream did not let go of what it held")

    async def _next(self) -> bytes:
        return await anext(self._events)

    async def _finish(self, send: Send, end: End) -> None:
        data = orjson.dumps({"reason": end.reason}).decode()
        last = format_sse_event(event="end", data_str=data, id=end.event_id or None, retry=_RETRY_MS)
        await self._body(send, last)
        await self._put(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, send: Send, body: bytes) -> None:
        await self._put(send, {"type": "http.response.body", "body": body, "more_body": True})

    async def _put(self, send: Send, message: dict[str, object]) -> None:
        async with asyncio.timeout(self._stall):
            await send(message)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
