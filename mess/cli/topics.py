"""`mess topics`: creates, checks, dumps and loads topics."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from mess import settings
from mess.cli.connections import kafka_settings, run_command, store_settings
from mess.cli.console import INCOMPLETE, OK, fail, progress_bar
from mess.cli.options import DEFAULT_DATA_DIR, DataDir
from mess.topics import check_topics, make_topics
from store.settings import StoreSettings
from streams.kafka import topic_copies
from streams.kafka.topic_mirror import Mirrored, mirror_topic
from streams.settings import KafkaSettings, StreamSettings

Topic = Annotated[str, typer.Argument(help="For example track-ingest.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    topics = typer.Typer(
        help="Make the topics, check them, copy what one holds, to a file or another topic.",
        no_args_is_help=True,
    )
    for command in (create, check, dump, load, copy):
        topics.command()(command)
    app.add_typer(topics, name="topics")


def create(
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying while no broker answers.")
    ] = 0.0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create the missing topics; existing ones stay as they are.

    With MESS_DATABASE_URL, those of its generations and spaces are made, too, and a newly created one is read from its start.
    """
    kafka, store = kafka_settings(data_dir), _store_settings(data_dir)
    created = run_command(make_topics(kafka, settings.read_settings(StreamSettings), store, wait=wait))
    typer.echo(f"created: {', '.join(created)}" if created else "All topics are there.")


def check(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Compare the broker's topics with the configured ones; exits with 1 if they differ.

    Says, too, by which rule the producers of track-ingest have placed its recent keys.
    """
    differences, placement = run_command(
        check_topics(
            kafka_settings(data_dir), settings.read_settings(StreamSettings), _store_settings(data_dir)
        )
    )
    for line in (*differences, *placement):
        typer.echo(line)
    if differences:
        raise typer.Exit(INCOMPLETE)
    typer.echo("All topics are there.")


def dump(topic: Topic, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Write every message of a topic to standard output, a JSON line each, byte for byte."""
    count = run_command(topic_copies.dump_topic(kafka_settings(data_dir), topic, sys.stdout.buffer.write))
    sys.stdout.buffer.flush()
    typer.echo(f"{count:,} messages of {topic} copied", err=True)


def load(
    topic: Topic,
    file: Annotated[Path, typer.Argument(metavar="FILE|-", help="What `mess topics dump` wrote.")],
    into_used: Annotated[
        bool, typer.Option("--into-used", help="Also where the topic has been written to before.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Write a copy back: each message to the partition that it was in, in order, with its time."""
    with _opened(file) as lines:
        count = run_command(
            topic_copies.load_topic(kafka_settings(data_dir), topic, lines, into_used=into_used)
        )
    typer.echo(f"{count:,} messages written to {topic}")


def copy(
    source: Annotated[str, typer.Argument(help="The topic to copy, such as track-ingest.")],
    target: Annotated[str, typer.Argument(help="An empty one, such as track-embeddings.default.2.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Copy a topic to another: each message to its partition, in order, with its time, up to those that come meanwhile.

    A copy that was broken off goes on where it was.
    """
    kafka = kafka_settings(data_dir)
    done = run_command(copied(kafka, source, target, follow=follow), stopped=OK if follow else None)
    typer.echo(f"{done.messages:,} messages of {source} copied to {target}")


async def copied(kafka: KafkaSettings, source: str, target: str, *, follow: bool = False) -> Mirrored:
    """Copy a topic, with a bar that shows how far."""
    with progress_bar(f"copying {source}") as show:
        return await mirror_topic(
            kafka,
            source,
            target,
            follow=follow,
            show=lambda done, total: show(f"copying {source}", done, total),
        )


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        lines = file.open("rb")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    with lines:
        yield lines


def _store_settings(data_dir: Path) -> StoreSettings | None:
    """The configured database, or that of the local stack whose broker is used; None if there is neither."""
    if os.environ.get("MESS_DATABASE_URL") or not os.environ.get("MESS_KAFKA_BOOTSTRAP_SERVERS"):
        return store_settings(data_dir)
    return None
