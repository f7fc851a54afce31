"""`/changes` and `/recommend/{track_id}/stream`: lists as they change, pushed as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Header, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.responses import Response

from serving import problems
from serving.context import Context, context_of
from serving.kafka.broker import BrokerUnavailableError
from serving.kafka.change_subscriber import Change, ChangeFeed, Subscription, described, read_positions
from serving.kafka.streaming import End, EventStream
from serving.models import problem_responses
from serving.reading import ReadRoute, add_read
from serving.routes.recommend import TrackIdPath
from store import reads

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The `id` of the last event seen, `partition:offset`, several separated by commas: what has come"
        " since is told first.",
    ),
]


async def changes(request: Request, last_event_id: LastEventId = None) -> Response:
    """Every list that changes: what came, what went, why, and the offset.

    The change feed holds the latest list of each track: of several changes since `Last-Event-ID` some may be told as one.
    """
    return await _stream(request, None)


async def track_changes(
    request: Request, track_id: TrackIdPath, last_event_id: LastEventId = None
) -> Response:
    """One track's list as it changes, whole, with what came and what went, why, and the offset."""
    if await reads.fetch_track(context_of(request).pool, track_id) is None:
        raise problems.track_not_found(track_id)
    return await _stream(request, track_id)


async def _stream(request: Request, track_id: str | None) -> Response:
    context = context_of(request)
    settings, feed = context.settings, context.feed
    if feed is None:
        raise problems.broker_unavailable()
    if feed.subscribers >= settings.max_streams:
        raise problems.too_many_streams(settings.max_streams)
    seen = _seen(request)
    try:
        await feed.ready(settings.broker_timeout)
    except BrokerUnavailableError:
        raise problems.broker_unavailable() from None
    subscription = feed.subscribe(track_id)
    events = _events(feed, subscription, seen)
    return EventStream(
        events,
        closing=context.closing,
        on_end=lambda why: _ended(context, subscription, why),
        ping=settings.stream_ping,
        stall=settings.stream_stall,
    )


def _ended(context: Context, subscription: Subscription, why: str) -> None:
    assert context.feed is not None
    context.feed.unsubscribe(subscription)
    context.metrics.streams_ended.labels(why).inc()


def _seen(request: Request) -> dict[int, int]:
    given = request.headers.get("last-event-id", "").strip()
    if not given:
        return {}
    try:
        return read_positions(given)
    except ValueError as error:
        raise problems.invalid_parameters([("Last-Event-ID", str(error))]) from None


async def _events(feed: ChangeFeed, subscription: Subscription, seen: dict[int, int]) -> AsyncIterator[bytes]:
    """The stream's events: where it begins, what came since `seen`, then what comes.

    Raises:
        End: When there will be no more.
    """
    track_id = subscription.wanted
    # What the subscription does not have comes before these positions; nothing may happen in between.
    now = {partition: offset - 1 for partition, offset in feed.positions.items()}
    place = _Place(now | {p: min(at, now[p]) for p, at in seen.items() if p in now}, feed, track_id)
    yield format_sse_event(event="open", data_str=orjson.dumps({"id": place.id}).decode(), id=place.id)
    try:
        async for change in feed.replay(seen, track_id):
            yield place.event(change)
    except BrokerUnavailableError as error:
        raise End("broker-unavailable", place.id) from error
    place.seen |= {p: max(at, now[p]) for p, at in place.seen.items()}
    while following := await subscription.next():
        yield b"".join(place.event(change) for change in following)
    raise End("too-slow", place.id)


class _Place:
    """How far a stream has come, and its events' ids."""

    def __init__(self, seen: dict[int, int], feed: ChangeFeed, track_id: str | None) -> None:
        self.seen = seen
        self._only = None if track_id is None else feed.partition_of(track_id)

    @property
    def id(self) -> str:
        """What `Last-Event-ID` is to bring back."""
        if self._only is not None:
            return f"{self._only}:{self.seen[self._only]}"
        return ",".join(f"{partition}:{offset}" for partition, offset in sorted(self.seen.items()))

    def event(self, change: Change) -> bytes:
        """The event of a change."""
        self.seen[change.partition] = change.offset
        told: dict[str, Any] = described(change, whole=self._only is not None)
        return format_sse_event(event="change", data_str=orjson.dumps(told).decode(), id=self.id)


class StreamRoute(ReadRoute):
    """A stream's route: what it waits for before it begins is bounded, the stream is not."""


def register(app: FastAPI) -> None:
    """Add this module's paths."""
    for path, endpoint, summary in (
        ("/changes", changes, "Follow every list"),
        ("/recommend/{track_id:path}/stream", track_changes, "Follow one track's list"),
    ):
        add_read(
            app,
            path,
            endpoint,
            route=StreamRoute,
            tags=["changes"],
            summary=summary,
            response_class=EventSourceResponse,
            responses=problem_responses(404, 422, 503) if "track_id" in path else problem_responses(422, 503),
        )
