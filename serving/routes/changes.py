"""`/changes` and `/recommend/{track_id}/stream`: lists as they change, pushed as server-sent events."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Annotated, Final

import orjson
import structlog
from fastapi import FastAPI, Header, Query, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.responses import Response

from serving import problems
from serving.context import context_of
from serving.kafka.broker import BrokerUnavailableError
from serving.kafka.change_subscriber import ChangeSubscriber, ChangeSubscription
from serving.kafka.changes import (
    POSITIONS,
    FeedChange,
    UnreadableChangeError,
    described_change,
    event_id,
    read_positions,
)
from serving.kafka.replay import ReplayBusyError, ReplayPart
from serving.kafka.streaming import End, EventStream
from serving.metrics import ApiMetrics
from serving.models import SpaceQuery, problem_responses
from serving.reading import add_read
from serving.routes.recommend import TrackIdPath
from store import reads

logger = structlog.get_logger("serving")

# A reader that is further behind than so many offsets gets no live events until it has caught up.
_NEAR: Final = 256
# Missed changes that are read at a time.
_TOGETHER: Final = 32

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=POSITIONS,
        description="The `id` of the last event seen, `partition:offset`, several separated by commas, of another space than"
        " `default` with `space@` before: what has come since is told first.",
    ),
]


async def changes(
    request: Request, query: Annotated[SpaceQuery, Query()], last_event_id: LastEventId = None
) -> Response:
    """Every list of a space that changes: what was added and removed, the source event, and the offset.

    The change feed is compacted: several changes of a track since `Last-Event-ID` may be sent as one.
    """
    return await _stream(request, query.space, None)


async def track_changes(
    request: Request,
    track_id: TrackIdPath,
    query: Annotated[SpaceQuery, Query()],
    last_event_id: LastEventId = None,
) -> Response:
    """One track's list at each change, whole, with what was added and removed, the source event, and the offset."""
    if await reads.fetch_track(context_of(request).pool, track_id) is None:
        raise problems.track_not_found_problem(track_id)
    return await _stream(request, query.space, track_id)


async def _stream(request: Request, space: str, track_id: str | None) -> Response:
    context = context_of(request)
    settings, feed = context.settings, context.feed
    if feed is None:
        raise problems.broker_unavailable()
    seen = _seen(request, space)
    try:
        await feed.ready(settings.broker_timeout)
    except BrokerUnavailableError:
        raise problems.broker_unavailable() from None
    # A stream waits for nothing from here to its first event, so the limit of open streams holds.
    if context.streams.open >= settings.max_streams:
        raise problems.too_many_streams(settings.max_streams)
    return EventStream(
        _Following(feed, context.metrics, space, track_id).events(seen),
        streams=context.streams,
        closing=context.closing,
        ping=settings.stream_ping,
        stall=settings.stream_stall,
        lifetime=settings.stream_lifetime,
    )


def _seen(request: Request, space: str) -> dict[int, int]:
    try:
        return read_positions(request.headers.get("last-event-id", "").strip(), space)
    except ValueError as error:
        raise problems.invalid_parameters_problem([("Last-Event-ID", str(error))]) from None


class _Following:
    """One reader of the change feed.

    Args:
        feed: The change feed.
        metrics: Counts messages that cannot be read.
        space: The feed's.
        track_id: The only track to follow; None for all.
    """

    def __init__(self, feed: ChangeSubscriber, metrics: ApiMetrics, space: str, track_id: str | None) -> None:
        self._feed = feed
        self._metrics = metrics
        self._space = space
        self._track_id = track_id
        self._only = None if track_id is None else feed.partition_of(track_id)
        self._seen: dict[int, int] = {}

    async def events(self, seen: Mapping[int, int]) -> AsyncGenerator[bytes, None]:
        """The stream's events: its beginning, the changes since `seen`, then new changes.

        Raises:
            End: The stream is over.
        """
        feed = self._feed
        now = {partition: offset - 1 for partition, offset in feed.positions.items()}
        read = now if self._only is None else {self._only: now[self._only]}
        # An offset beyond the end is another log's: the topic has been created anew, and nothing of it has been seen.
        self._seen = {p: at if (at := seen.get(p, end)) <= end else -1 for p, end in read.items()}
        subscription, ends = self._subscribed()
        try:
            yield format_sse_event(
                event="open", data_str=orjson.dumps({"id": self._id}).decode(), id=self._id
            )
            while subscription is None or any(at + 1 < ends.get(p, 0) for p, at in self._seen.items()):
                part = await self._missed(ends)
                while part.changes:
                    yield self._told(part.changes[:_TOGETHER])
                    del part.changes[:_TOGETHER]
                self._seen |= part.seen
                if subscription is None:
                    subscription, ends = self._subscribed()
            while following := await subscription.next():
                yield self._told(following)
        finally:
            if subscription is not None:
                feed.unsubscribe(subscription)
        raise End("unserved" if feed.ended else "too-slow", self._id)

    def _subscribed(self) -> tuple[ChangeSubscription | None, dict[int, int]]:
        """A subscription, and the positions where it begins; None for a reader that is far behind.

        Nothing is buffered for such a reader: it reads from the log until it has nearly caught up.
        """
        near = self._feed.behind(self._seen) <= _NEAR
        # No await may come in between.
        return (self._feed.subscribe(self._track_id) if near else None), dict(self._feed.positions)

    async def _missed(self, ends: Mapping[int, int]) -> ReplayPart:
        """The next page of missed changes."""
        try:
            return await self._feed.replayer.read(self._seen, ends, self._track_id)
        except BrokerUnavailableError as error:
            raise End("broker-unavailable", self._id) from error
        except ReplayBusyError as error:
            raise End("busy", self._id) from error

    @property
    def _id(self) -> str:
        """The event id, which a client returns as `Last-Event-ID`."""
        seen = self._seen if self._only is None else {self._only: self._seen[self._only]}
        return event_id(seen, self._space)

    def _told(self, changes: Iterable[FeedChange]) -> bytes:
        return b"".join(map(self._event, changes))

    def _event(self, change: FeedChange) -> bytes:
        """The event of a change; None if it cannot be read, as an error would end the stream at each attempt."""
        self._seen[change.partition] = change.offset
        try:
            told = described_change(change, whole=self._only is not None)
        except UnreadableChangeError as error:
            place = {"partition": change.partition, "offset": change.offset}
            logger.warning("a change cannot be told", **place, error=str(error))
            self._metrics.feed_unreadable.inc()
            return b""
        return format_sse_event(event="change", data_str=orjson.dumps(told).decode(), id=self._id)


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
            tags=["changes"],
            summary=summary,
            response_class=EventSourceResponse,
            responses=problem_responses(404, 422, 503),
        )
