"""The topics, their configuration, and their creation."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from streams.errors import BrokerUnavailable, TopicError
from streams.generations import GenerationName
from streams.kafka.clients import MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, admin_client
from streams.kafka.partitioners import murmur2_partition
from streams.kafka.topic_configs import APPEND_TIME, TIMESTAMP_TYPE, read_topic_config
from streams.settings import KafkaSettings, StreamSettings

TRACK_INGEST: Final = GenerationName().topic
TRACK_INTERACTIONS: Final = "track-interactions"
RECOMMENDATION_REQUESTS: Final = "recommendation-requests"
RECOMMENDATION_REPLIES: Final = "recommendation-replies"
RECOMMENDATIONS: Final = "recommendations"
DEAD_LETTERS: Final = "dead-letters"

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_TELLING: Final = 10.0  # seconds in which a broker tells of a topic that its controller has made
# For how long a compacted topic keeps its tombstones at least.
TOMBSTONE_MS: Final = 30 * _DAY_MS

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it is to be.

    Attributes:
        name: its name.
        partitions: how many partitions.
        config: Kafka's own topic configuration.
        purpose: one line for people.
    """

    name: str
    partitions: int
    purpose: str
    config: dict[str, str] = field(default_factory=dict)


def topic_specs(kafka: KafkaSettings, streams: StreamSettings) -> list[TopicSpec]:
    """Return every topic of the pipeline as these settings want it."""
    # A write must survive one broker wherever there are enough of them to lose one.
    least = kafka.min_insync_replicas or (2 if kafka.replication_factor > 2 else 1)
    shared = {"min.insync.replicas": str(least)}
    compacted = shared | {
        "cleanup.policy": "compact",
        # A worker that resumes from its stored offset must still meet every tombstone after it.
        "delete.retention.ms": str(TOMBSTONE_MS),
        "min.cleanable.dirty.ratio": "0.3",
    }
    by_track = streams.ingest_partitions

    def timed(milliseconds: int) -> dict[str, str]:
        return shared | {"cleanup.policy": "delete", "retention.ms": str(milliseconds)}

    # The one clock by which the age of a request is judged, and which of two events in different partitions is the later one.
    broker_time = {TIMESTAMP_TYPE: APPEND_TIME}
    vectors = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    ingest = compacted | vectors | broker_time
    letters = {"max.message.bytes": str(MAX_REQUEST_BYTES)}
    return [
        TopicSpec(TRACK_INGEST, by_track, "tracks: a value upserts, null deletes", ingest),
        TopicSpec(TRACK_INTERACTIONS, by_track, "plays, likes and skips", timed(30 * _DAY_MS)),
        TopicSpec(RECOMMENDATION_REQUESTS, 8, "requests that need computing", timed(_HOUR_MS) | broker_time),
        TopicSpec(RECOMMENDATION_REPLIES, 8, "their replies", timed(_HOUR_MS) | vectors),
        TopicSpec(RECOMMENDATIONS, by_track, "each track's list as it changes", compacted),
        TopicSpec(DEAD_LETTERS, 1, "what was refused, and why", timed(30 * _DAY_MS) | letters),
    ]


async def ensure_topics(kafka: KafkaSettings, streams: StreamSettings, *, wait: float = 0.0) -> list[str]:
    """Create the topics that do not exist yet, and return their names once the broker tells clients of them.

    An existing topic is left as it is; one with another number of partitions is warned about.

    Args:
        kafka: how to reach the broker.
        streams: how many partitions are wanted.
        wait: seconds to go on trying while no broker answers.

    Raises:
        BrokerUnavailable: no broker answers, or it refuses this client.
        TopicError: a topic cannot be created as it is wanted.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(BrokerUnavailable),
        stop=stop_after_delay(wait),
        wait=wait_exponential(multiplier=0.1, max=1.0),
        reraise=True,
    )
    created: list[str] = []
    async for attempt in retrying:
        with attempt:
            async with admin_client(kafka) as client:
                created = await _create_missing(client, topic_specs(kafka, streams), kafka.replication_factor)
    return created


async def create_generation_topics(
    kafka: KafkaSettings, streams: StreamSettings, names: Iterable[GenerationName]
) -> list[str]:
    """Create the topics of generations and of their spaces' feeds that do not exist yet, and return their names.

    They have as many partitions as `track-ingest` and `recommendations`, and their configuration.

    Raises:
        BrokerUnavailable: no broker answers, or it refuses this client.
        TopicError: one cannot be created, or there are no topics of the catalogue.
    """
    async with admin_client(kafka) as client:
        there = await partition_counts(client)
        specs = generation_topic_specs(kafka, streams, names)
        missing = [(like, spec) for like, spec in specs if spec.name not in there]
        for like, _ in missing:
            if like not in there:
                raise TopicError(f"there is no topic {like}; `mess topics create` makes it")
        wanted = [replace(spec, partitions=there[like]) for like, spec in missing]
        return await _create_missing(client, wanted, kafka.replication_factor)


def generation_topic_specs(
    kafka: KafkaSettings, streams: StreamSettings, names: Iterable[GenerationName]
) -> list[tuple[str, TopicSpec]]:
    """The topics of generations' vectors and of their spaces' feeds as they are to be, each with its like in the catalogue."""
    likes = {spec.name: spec for spec in topic_specs(kafka, streams)}
    found = {}
    for name in names:
        for like, own in ((TRACK_INGEST, name.topic), (RECOMMENDATIONS, name.feed_topic(RECOMMENDATIONS))):
            if own != like:
                found[own] = like, replace(likes[like], name=own)
    return list(found.values())


async def delete_topics(kafka: KafkaSettings, topics: Iterable[str]) -> None:
    """Delete those of these topics that are there, until the broker tells of none. The offsets of groups expire by themselves.

    Raises:
        BrokerUnavailable: no broker answers, or it refuses this client.
        TopicError: a topic cannot be deleted.
    """
    async with admin_client(kafka) as client:
        there = await partition_counts(client)
        if going := [topic for topic in topics if topic in there]:
            response = await client.delete_topics(going)
            for topic, code in response.topic_error_codes:
                if code and for_code(code) is not UnknownTopicOrPartitionError:
                    raise TopicError(f"topic {topic} cannot be deleted: {for_code(code).__name__}")
            await _wait_until_told(client, going, there=False)


async def _create_missing(client: AIOKafkaAdminClient, specs: list[TopicSpec], replicas: int) -> list[str]:
    existing = await partition_counts(client)
    missing = [spec for spec in specs if spec.name not in existing]
    for spec in specs:
        if (found := existing.get(spec.name, spec.partitions)) != spec.partitions:
            log.warning(
                "topic has another number of partitions", topic=spec.name, found=found, wanted=spec.partitions
            )
    if not missing:
        return []
    wanted = [NewTopic(spec.name, spec.partitions, replicas, topic_configs=spec.config) for spec in missing]
    response = await client.create_topics(wanted)
    created = []
    for name, code, *message in response.topic_errors:
        error: type[Exception] = for_code(code)
        if code == 0:
            created.append(name)
        elif error is not TopicAlreadyExistsError:
            reason = next((str(m) for m in message if m), error.__name__)
            raise TopicError(f"topic {name} cannot be created: {reason}")
    await _wait_until_told(client, {spec.name for spec in missing})
    return created


async def _wait_until_told(client: AIOKafkaAdminClient, names: Iterable[str], *, there: bool = True) -> None:
    """Wait for the broker that answers clients, which learns of a topic's making or end some milliseconds later."""
    deadline = asyncio.get_running_loop().time() + _TELLING
    while True:
        told = await partition_counts(client)
        untold = [name for name in names if (name in told) != there]
        if not untold:
            return
        if asyncio.get_running_loop().time() > deadline:
            done = "made, but not known" if there else "deleted, but still known"
            raise TopicError(f"{done} to the broker after {_TELLING:g} s: {', '.join(sorted(untold))}")
        await asyncio.sleep(0.05)


async def topic_differences(
    kafka: KafkaSettings, streams: StreamSettings, names: Iterable[GenerationName] = ()
) -> list[str]:
    """Say, in a line each, what of the topics is not as these settings want it: missing, of other partitions, or clocks.

    Args:
        kafka: how to reach the broker.
        streams: how many partitions are wanted.
        names: generations whose topics are wanted, too.

    Raises:
        BrokerUnavailable: no broker answers, or it refuses this client.
    """
    lines = []
    async with admin_client(kafka) as client:
        existing = await partition_counts(client)
        for spec in (
            *topic_specs(kafka, streams),
            *(spec for _, spec in generation_topic_specs(kafka, streams, names)),
        ):
            if spec.name not in existing:
                lines.append(f"{spec.name} is missing")
                continue
            if existing[spec.name] != spec.partitions:
                lines.append(
                    f"{spec.name} has {existing[spec.name]} partitions; {spec.partitions} are wanted"
                )
            wanted = spec.config.get(TIMESTAMP_TYPE)
            found, _ = (await read_topic_config(client, spec.name)).get(TIMESTAMP_TYPE, (wanted, False))
            if wanted is not None and found != wanted:
                lines.append(
                    f"{spec.name} has {TIMESTAMP_TYPE}={found}; {wanted} is wanted: kafka-configs --alter "
                    f"--topic {spec.name} --add-config {TIMESTAMP_TYPE}={wanted}"
                )
    return lines


async def partition_counts(client: AIOKafkaAdminClient) -> dict[str, int]:
    """Return the number of partitions of every topic that the broker knows."""
    topics: list[dict[str, Any]] = await client.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in topics if topic["error_code"] == 0}


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that a key belongs to: Kafka's own rule, murmur2 of the key's bytes.

    Java clients, aiokafka and `mess` follow it by default. librdkafka clients (kcat among them) do so with
    `partitioner=murmur2_random`; with their default, the events of one track part ways.
    """
    return murmur2_partition(key, partitions)
