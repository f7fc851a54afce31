"""`mess tail`: prints the messages of a topic, a JSON line each."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mess.cli.broker import DEFAULT_DATA_DIR, DataDir, kafka_settings
from mess.cli.console import fail, quiet_libraries

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import ConsumerRecord

    from streams.settings import KafkaSettings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(tail)


def tail(
    topic: Annotated[str, typer.Argument(help="For example track-ingest, recommendations or dead-letters.")],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start with the oldest message kept.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many messages.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more at the end.")] = True,
    full: Annotated[bool, typer.Option("--full", help="Show embeddings whole on a terminal, too.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show the messages of a topic, a JSON object a line; embeddings are shortened on a terminal."""
    from streams.errors import StreamsError  # noqa: PLC0415 - `mess --help` must not wait for Kafka

    quiet_libraries()
    kafka = kafka_settings(data_dir)
    shorten = sys.stdout.isatty() and not full
    try:
        asyncio.run(
            _tail(kafka, topic, from_beginning=from_beginning, limit=limit, follow=follow, shorten=shorten)
        )
    except StreamsError as exc:
        fail(str(exc))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe: nothing more can be written, not even at exit.
        sys.stdout = None
        raise typer.Exit(0) from None


async def _tail(
    kafka: "KafkaSettings",
    topic: str,
    *,
    from_beginning: bool,
    limit: int | None,
    follow: bool,
    shorten: bool,
) -> None:
    from aiokafka.structs import TopicPartition  # noqa: PLC0415

    from streams.errors import TopicError  # noqa: PLC0415
    from streams.kafka.clients import admin_client, group_less_consumer  # noqa: PLC0415
    from streams.kafka.topics import partition_counts  # noqa: PLC0415

    async with admin_client(kafka) as admin:
        topics = await partition_counts(admin)
    if topic not in topics:
        known = ", ".join(sorted(name for name in topics if not name.startswith("__"))) or "none"
        raise TopicError(f"there is no topic {topic!r}; the broker has: {known}")
    partitions = [TopicPartition(topic, number) for number in range(topics[topic])]
    async with group_less_consumer(kafka) as reader:
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        starts = await reader.beginning_offsets(partitions) if from_beginning else ends
        for partition in partitions:
            reader.seek(partition, starts[partition])
        await _print(reader, None if follow else ends, limit, shorten=shorten)


async def _print(
    reader: "AIOKafkaConsumer", ends: "dict[Any, int] | None", limit: int | None, *, shorten: bool
) -> None:
    """Print messages until `limit` is reached or, with `ends`, every partition is read up to its end."""
    from mess.cli.messages import print_message  # noqa: PLC0415

    shown = 0
    while True:
        if ends is not None and not [p for p in ends if await reader.position(p) < ends[p]]:
            return
        batches: dict[Any, list[ConsumerRecord[bytes, bytes]]] = await reader.getmany(timeout_ms=500)
        for records in batches.values():
            for record in records:
                print_message(record, shorten=shorten)
                shown += 1
                if shown == limit:
                    return
