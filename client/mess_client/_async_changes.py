"""The change stream, which comes back by itself."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

import httpx
from pydantic import ValidationError

from mess_client.errors import ConnectionFailedError, MessClientError, UnexpectedAnswerError
from mess_client.events import EventDecoder, ServerEvent
from mess_client.models import Change
from mess_client.questions import Call
from mess_client.retrying import Retries, answer_error, connection_error

# Seconds of silence after which a connection counts as lost: the API speaks every fifteen unless it is told otherwise.
SILENCE_SECONDS = 60.0
_OK = 200


class AsyncChangeStream:
    """Changes of lists, one after the other, without end.

    A stream that is cut or ended by the API is opened again behind the last change: none is told twice, and the latest of
    each list is never left out. It raises what a request raises, once coming back has failed as often as a request is tried.

    Attributes:
        last_event_id: What has been seen so far. Keep it once a change has been dealt with, to go on there another day.
    """

    def __init__(
        self, http: httpx.AsyncClient, call: Call, retries: Retries, last_event_id: str | None
    ) -> None:
        self.last_event_id = last_event_id or ""
        self._http = http
        self._call = call
        self._retries = retries
        # Seconds after which the API wants one to come back.
        self._wait = 0.0
        self._changes = self._follow()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._changes.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        return await self._changes.__anext__()

    async def _follow(self) -> AsyncGenerator[Change, None]:
        failures = 0
        while True:
            failures += 1
            error: MessClientError = ConnectionFailedError(f"{self._call.path} ended before its first event")
            try:
                async with aclosing(self._connected()) as events:
                    async for event in events:
                        failures = 0
                        self.last_event_id = event.id
                        if event.event == "change":
                            yield _change_of(event)
            except MessClientError as failed:
                error = failed
            wait = self._retries.wait_after(failures, error)
            if wait is None:
                raise error
            await asyncio.sleep(max(wait, self._wait))

    async def _connected(self) -> AsyncGenerator[ServerEvent, None]:
        """The events of one connection, until it ends."""
        decoder = EventDecoder()
        headers = {"accept": "text/event-stream"}
        if self.last_event_id:
            headers["last-event-id"] = self.last_event_id
        timeout = httpx.Timeout(**{**self._http.timeout.as_dict(), "read": SILENCE_SECONDS})
        try:
            async with self._http.stream(
                self._call.method,
                self._call.path,
                params=self._call.params,
                headers=headers,
                timeout=timeout,
            ) as response:
                if response.status_code != _OK:
                    await response.aread()
                    raise answer_error(response)
                async for chunk in response.aiter_bytes():
                    for event in decoder.feed(chunk):
                        yield event
                    self._wait = decoder.retry or self._wait
        except httpx.TransportError as error:
            raise connection_error(error, str(self._http.base_url)) from error


def _change_of(event: ServerEvent) -> Change:
    try:
        return Change.model_validate_json(event.data)
    except ValidationError as error:
        raise UnexpectedAnswerError(
            f"a change that cannot be read: {error.errors(include_url=False)[0]['msg']}"
        ) from None
