"""`mess tail`: prints the messages of a topic, a JSON line each."""

import sys
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from mess.cli.connections import kafka_settings, run_command
from mess.cli.console import OK
from mess.cli.messages import print_message
from mess.cli.options import DEFAULT_DATA_DIR, DataDir
from streams.errors import TopicError
from streams.kafka.clients import admin_client, group_less_consumer
from streams.kafka.topics import partition_counts
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
    kafka = kafka_settings(data_dir)
    shorten = sys.stdout.isatty() and not full
    # It follows until it is stopped, by Ctrl-C or by a reader such as head.
    run_command(
        _tail(kafka, topic, from_beginning=from_beginning, limit=limit, follow=follow, shorten=shorten),
        stopped=OK,
    )


async def _tail(
    kafka: KafkaSettings,
    topic: str,
    *,
    from_beginning: bool,
    limit: int | None,
    follow: bool,
    shorten: bool,
) -> None:
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
    reader: AIOKafkaConsumer, ends: dict[Any, int] | None, limit: int | None, *, shorten: bool
) -> None:
    """Print messages until `limit` is reached or, with `ends`, every partition is read up to its end."""
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
