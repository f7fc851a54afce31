"""Client options for aiokafka and Faust, and the one way their connections fail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, codec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NoBrokersAvailable,
    NodeNotReadyError,
    for_code,
)
from aiokafka.partitioner import murmur2
from aiokafka.producer.transaction_manager import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, PidAndEpoch
from aiokafka.protocol.produce import ProduceRequest

from streams.errors import BrokerUnavailable
from streams.kafka.credentials import login_options, ssl_context
from streams.kafka.header_names import tolerate_foreign_header_names
from streams.settings import KafkaSettings

# The largest message. Above the limit of validation (4 MiB), so that a message which is too
# large becomes a dead letter with a reason and does not vanish in its producer.
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
# Room for the headers of a dead letter around the largest message.
MAX_REQUEST_BYTES: Final = MAX_MESSAGE_BYTES + 1024 * 1024


# What is in a transaction that was aborted has never happened, and what is in an open one may never do. For every
# consumer of ours.
READ_COMMITTED: Final = "read_committed"


# aiokafka compresses gzip and lz4 at level 9 and has no setting for it: ten times the work of level 1 for a quarter fewer
# bytes. Source: aiokafka 0.14, codec.py.
_LEVEL: Final = 1
codec.gzip_encode.__defaults__ = (_LEVEL,)
codec.lz4_encode.__defaults__ = (_LEVEL,)

# What `auto` means for text; the compression that every client of Kafka reads without a further library.
_READ_BY_ALL: Final = "gzip"


def aiokafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the connection options that aiokafka's producer, consumer and admin client share."""
    return {
        "bootstrap_servers": kafka.servers,
        "client_id": kafka.client_id,
        "request_timeout_ms": kafka.request_timeout_ms,
        "security_protocol": kafka.security_protocol,
        "ssl_context": ssl_context(kafka),
        **login_options(kafka),
    }


def faust_broker_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return `broker` and `broker_credentials` as `faust.App` takes them.

    Faust takes a list of URLs, and the protocol from the kind of credentials.
    """
    from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials  # noqa: PLC0415 - not for producers

    credentials: OAuthCredentials | SASLCredentials | SSLCredentials | None = None
    context, login = ssl_context(kafka), login_options(kafka)
    if "sasl_oauth_token_provider" in login:
        credentials = OAuthCredentials(oauth_cb=login["sasl_oauth_token_provider"], ssl_context=context)
    elif login:
        credentials = SASLCredentials(
            username=login["sasl_plain_username"],
            password=login["sasl_plain_password"],
            mechanism=login["sasl_mechanism"],
            ssl_context=context,
        )
    elif context is not None:
        credentials = SSLCredentials(context)
    return {"broker": [f"kafka://{server}" for server in kafka.servers], "broker_credentials": credentials}


def kafka_unavailable(kafka: KafkaSettings, exc: Exception) -> BrokerUnavailable:
    """Return the one-line error for a connection that failed."""
    why = "" if isinstance(exc, KafkaConnectionError | NoBrokersAvailable) else f" ({type(exc).__name__})"
    return BrokerUnavailable(f"no Kafka broker answers at {kafka.bootstrap_servers}{why}")


@asynccontextmanager
async def admin_client(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a started admin client, closed afterwards.

    Raises:
        BrokerUnavailable: no broker answers or accepts the credentials.
    """
    client = AIOKafkaAdminClient(**aiokafka_options(kafka))
    try:
        with _one_error(kafka):
            await client.start()
            yield client
    finally:
        await client.close()


@asynccontextmanager
async def group_less_consumer(
    kafka: KafkaSettings, *, offsets_of: str | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a started consumer that is no group's member, closed afterwards: assign and seek it yourself.

    Args:
        kafka: how to reach the broker.
        offsets_of: a group whose committed offsets it reads and commits; no consumer may join it.

    Raises:
        BrokerUnavailable: no broker answers or accepts the credentials.
    """
    tolerate_foreign_header_names()
    consumer = AIOKafkaConsumer(
        **aiokafka_options(kafka),
        group_id=offsets_of,
        enable_auto_commit=False,
        isolation_level=READ_COMMITTED,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_REQUEST_BYTES,
    )
    try:
        with _one_error(kafka):
            await consumer.start()
            yield consumer
    finally:
        await consumer.stop()


async def fetched_ends(kafka: KafkaSettings, topic: str, starts: Mapping[int, int]) -> dict[int, int]:
    """Where partitions end, as fetches tell it.

    Args:
        kafka: how to reach the broker.
        topic: the topic.
        starts: by partition, an offset not beyond its end: from there is fetched.

    Raises:
        BrokerUnavailable: no broker answers.
    """
    async with group_less_consumer(kafka) as consumer:
        places = {TopicPartition(topic, partition): offset for partition, offset in starts.items()}
        consumer.assign(list(places))
        for place, offset in places.items():
            consumer.seek(place, offset)
        try:
            async with asyncio.timeout(kafka.request_timeout_ms / 1000):
                while any(consumer.highwater(place) is None for place in places):
                    await consumer.getmany(timeout_ms=100)
        except TimeoutError as exc:
            raise kafka_unavailable(kafka, exc) from exc
        return {place.partition: consumer.highwater(place) for place in places}


@contextmanager
def _one_error(kafka: KafkaSettings) -> Iterator[None]:
    try:
        yield
    except (KafkaConnectionError, KafkaTimeoutError, NoBrokersAvailable, TimeoutError) as exc:
        raise kafka_unavailable(kafka, exc) from exc
    except KafkaError as exc:
        raise BrokerUnavailable(f"the broker at {kafka.bootstrap_servers} refuses: {exc}") from exc


def write_only_while(producer: AIOKafkaProducer, allowed: Callable[[], bool]) -> None:
    """Let a started producer write only while `allowed` says so; until then it keeps what it has and tries again.

    Asked when a request goes out, not when a message is sent: a process that was frozen in between, and has been
    replaced, must not write what it still had in its buffers. Kafka itself can only fence off producers that write
    in transactions.
    """
    send = producer.client.send

    async def send_if_allowed(node_id: int, request: object, **options: Any) -> Any:
        if isinstance(request, ProduceRequest) and not allowed():
            raise NodeNotReadyError("this process may have been replaced")
        return await send(node_id, request, **options)

    producer.client.send = send_if_allowed


def _renew_id_when_refused(producer: AIOKafkaProducer) -> None:
    """Let an idempotent producer take a new id when the broker refuses a batch of it for good.

    aiokafka 0.14 numbers a batch before it is accepted. One that is refused leaves a gap, and behind a gap the broker takes
    nothing more from the same id.
    """
    manager = producer._txn_manager  # noqa: SLF001 -- there is no public way
    if manager is None:
        return
    send = producer.client.send

    async def send_watching(node_id: int, request: object, **options: Any) -> Any:
        response = await send(node_id, request, **options)
        if isinstance(request, ProduceRequest) and manager.has_pid():
            codes = {part[1] for _, parts in getattr(response, "topics", ()) for part in parts} - {0}
            if any(not for_code(code).retriable for code in codes):
                manager._pid_and_epoch = PidAndEpoch(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)  # noqa: SLF001
                manager._pid_waiter = asyncio.get_running_loop().create_future()  # noqa: SLF001
                manager._sequence_numbers.clear()  # noqa: SLF001
        return response

    producer.client.send = send_watching


def sendable_key(key: bytes | None, value: bytes | None) -> bytes | None:
    """The key to send a message of others under: aiokafka's `send` takes none that has neither key nor value."""
    return b"" if key is None and value is None else key


# What tells where a batch has arrived, and how many records it has.
_Delivery = tuple[asyncio.Future[Any], int]


async def deliver_in_batches(
    producer: AIOKafkaProducer, topic: str, messages: Sequence[tuple[bytes, bytes | None]]
) -> list[tuple[int, int]]:
    """Deliver messages, keys and values, each to the partition of its key; those of one partition stay in order.

    For thousands at a time: whole batches are handed over, where `send` would cost a future for each message.

    Returns:
        The partition and offset of each.

    Raises:
        KafkaError: some may not have been delivered.
    """
    count = len(await producer.partitions_for(topic))
    sorted_out: dict[int, list[int]] = {}
    for at, (key, _) in enumerate(messages):
        sorted_out.setdefault(_partition_of(key, count), []).append(at)
    outcomes = await asyncio.gather(
        *(
            _deliver_part(producer, topic, partition, [messages[at] for at in part])
            for partition, part in sorted_out.items()
        ),
        return_exceptions=True,
    )
    places = [(0, 0)] * len(messages)
    for (partition, part), outcome in zip(sorted_out.items(), outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        for at, offset in zip(part, outcome, strict=True):
            places[at] = partition, offset
    return places


async def _deliver_part(
    producer: AIOKafkaProducer, topic: str, partition: int, messages: list[tuple[bytes, bytes | None]]
) -> list[int]:
    """Deliver messages to one partition, in order; the offset of each."""
    under_way: list[_Delivery] = []
    try:
        await _hand_over(producer, topic, partition, messages, under_way)
    finally:
        # All come to their end before any failure is raised: who tries again looks at what has arrived first.
        outcomes = await asyncio.gather(*(delivery for delivery, _ in under_way), return_exceptions=True)
    offsets: list[int] = []
    for outcome, (_, records) in zip(outcomes, under_way, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome.offset < 0:
            # The broker had the batch already, and does not say where.
            raise KafkaError("the offsets of what was delivered are not known")
        offsets += range(outcome.offset, outcome.offset + records)
    return offsets


async def _hand_over(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    messages: list[tuple[bytes, bytes | None]],
    under_way: list[_Delivery],
) -> None:
    """Give the producer messages in batches, and add each batch's delivery and number of records to `under_way`."""
    batch = producer.create_batch()

    async def send() -> None:
        batch.close()
        under_way.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))

    for key, value in messages:
        if batch.append(key=key, value=value, timestamp=None) is not None:
            continue
        await send()
        batch = producer.create_batch()
        if batch.append(key=key, value=value, timestamp=None) is None:  # larger than a batch may be
            under_way.append((await producer.send(topic, key=key, value=value, partition=partition), 1))
            batch = producer.create_batch()
    if batch.record_count():
        await send()


@lru_cache(maxsize=1 << 17)
def _partition_of(key: bytes, partitions: int) -> int:
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def start_producer(kafka: KafkaSettings, **overrides: Any) -> AIOKafkaProducer:
    """Return a started producer: acknowledged by all replicas, compressed, idempotent where that exists.

    A broker without idempotent producers refuses the start; unless the settings insist, the producer
    then starts without, and a retried batch may be written twice. Every event here is applied once in
    effect, so a duplicate costs work, not truth.

    Args:
        kafka: how to reach the broker.
        overrides: further options of aiokafka's producer.

    Raises:
        BrokerUnavailable: no broker answers, or it refuses this client.
    """
    options = aiokafka_options(kafka) | {
        "acks": "all",
        "compression_type": {"auto": _READ_BY_ALL, "none": None}.get(kafka.compression, kafka.compression),
        "max_request_size": MAX_REQUEST_BYTES,
        **overrides,
    }
    for idempotent in [True, False] if kafka.idempotence is None else [kafka.idempotence]:
        producer = AIOKafkaProducer(enable_idempotence=idempotent, **options)
        try:
            await producer.start()
        except (KafkaConnectionError, KafkaTimeoutError, NoBrokersAvailable, TimeoutError) as exc:
            await producer.stop()
            raise kafka_unavailable(kafka, exc) from exc
        except KafkaError as exc:
            await producer.stop()
            if not idempotent or kafka.idempotence:
                raise BrokerUnavailable(f"the broker at {kafka.bootstrap_servers} refuses: {exc}") from exc
        except BaseException:
            await producer.stop()
            raise
        else:
            _renew_id_when_refused(producer)
            return producer
    raise AssertionError("every attempt returns or raises")
