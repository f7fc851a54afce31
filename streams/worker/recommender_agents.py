"""The Faust agents on recommendation-requests and track-interactions.

Requests are taken one by one and answered concurrently; interactions are applied in batches. Both are acknowledged in order,
after their effects are stored or delivered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import faust
import structlog

from streams.kafka.received import APPEND_TIME, ReceivedMessage
from streams.kafka.topics import RECOMMENDATION_REQUESTS, TRACK_INTERACTIONS
from streams.recommender.service import RecommendationService

log = structlog.get_logger(__name__)

_BATCH_EVENTS: Final = 1_000
# Popularity may be older by so many seconds; each batch costs a transaction.
_BATCH_SECONDS: Final = 0.1


def received_message(message: Any) -> ReceivedMessage:
    """A message of Faust in the agents' type."""
    headers = message.headers or ()
    return ReceivedMessage(
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        # Faust has it in seconds: exact again, for any time that is one.
        timestamp=round(message.timestamp * 1_000),
        # Pairs, as aiokafka gives them; Faust's own messages have a mapping.
        headers=tuple(headers.items() if isinstance(headers, Mapping) else headers),
        appended=message.timestamp_type == APPEND_TIME,
    )


def add_agents(app: faust.App, service: RecommendationService) -> None:
    """Let the app consume requests, and interactions if its generation counts them.

    Args:
        app: Not started.
        service: Started before the app takes its first message.
    """
    asked, listened = (
        app.topic(name, key_serializer="raw", value_serializer="raw", allow_empty=True)
        for name in (RECOMMENDATION_REQUESTS, TRACK_INTERACTIONS)
    )

    @app.agent(asked, concurrency=1, name="requests")
    async def requests(stream: Any) -> None:
        ours = stream.noack()
        async for event in ours.events():
            await _or_crash(
                app, service.handler.take, received_message(event.message), _acknowledge(app, ours, event)
            )

    if not service.counts_interactions:
        return

    @app.agent(listened, concurrency=1, name="interactions")
    async def interactions(stream: Any) -> None:
        async for events in stream.noack_take(_BATCH_EVENTS, within=_BATCH_SECONDS):
            current = [e for e in events if e.message.generation_id == app.consumer_generation_id]
            if not current:
                continue
            await _or_crash(app, service.interactions.process, [received_message(e.message) for e in current])
            for event in current:
                await stream.ack(event)


def _acknowledge(app: faust.App, stream: Any, event: Any) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        # After a rebalance another worker reads it again: its acknowledgement is not ours any more.
        if event.message.generation_id == app.consumer_generation_id:
            await stream.ack(event)

    return acknowledge


async def _or_crash(app: faust.App, work: Callable[..., Any], *arguments: Any) -> None:
    try:
        await work(*arguments)
    except Exception as error:  # noqa: BLE001 -- Faust would restart the agent and skip the message; the process must end
        await app.crash(error)
        await asyncio.Event().wait()  # until the crash cancels this agent


class PositionedTopic(Protocol):
    """A topic whose consumed offsets the store keeps: `streams.worker.app.ConsumedLog`."""

    async def replaced(self, consumed: dict[int, int]) -> list[int]:
        """The partitions that end before what was consumed: another log has taken their place."""

    def current(self) -> bool:
        """Whether there has been no further rebalance."""

    async def start_from(self, offsets: dict[int, int]) -> None:
        """Let the partitions be read from these offsets, unless a further rebalance has begun."""


async def position_interactions(
    app: faust.App, service: RecommendationService, source: PositionedTopic
) -> None:
    """Before the first message after a rebalance: read interactions from where the store says.

    To be called right before Faust seeks to the committed offsets. Does nothing where a further rebalance has come.
    """
    if not source.current():
        return
    assigned = sorted(tp.partition for tp in app.consumer.assignment() if tp.topic == TRACK_INTERACTIONS)
    if not assigned:
        return
    stored = await service.interactions.offsets()
    offsets = {partition: stored.get(partition, 0) for partition in assigned}
    replaced = await source.replaced(offsets)
    if replaced:
        log.warning("track-interactions has been replaced by a new log", partitions=replaced)
        await service.interactions.restart(replaced)
        offsets.update(dict.fromkeys(replaced, 0))
    await source.start_from(offsets)
