"""`mess up`: the whole pipeline on this machine."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mess.cli.console import CANNOT_RUN, fail
from mess.cli.options import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from streams.settings import KafkaSettings


class BrokerOption(StrEnum):
    """Which broker to run."""

    AUTO = "auto"
    KAFKA = "kafka"
    TANSU = "tansu"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(up)


def up(
    data_dir: Annotated[
        Path, typer.Option(help="Where the database, the topics and the logs are kept.")
    ] = DEFAULT_DATA_DIR,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the API on 127.0.0.1; 0 takes a free one.")
    ] = 8000,
    workers: Annotated[
        int,
        typer.Option(min=1, max=64, help="How many workers, which share the partitions and the lists."),
    ] = 1,
    demo: Annotated[bool, typer.Option("--demo/--no-demo", help="Publish the demo catalogue, once.")] = True,
    generation: Annotated[
        list[str] | None,
        typer.Option(metavar="SPACE/N", help="Run a worker for this generation, too; repeat it for several."),
    ] = None,
    broker: Annotated[
        BrokerOption,
        typer.Option(help="auto: Apache Kafka if Java 17 and its jars can be had, else Tansu."),
    ] = BrokerOption.AUTO,
) -> None:
    """Run Postgres, a broker, workers and the API on this machine until Ctrl-C.

    Prints `ready URL` once the API answers; the demo catalogue follows, like any other producer's tracks. With
    MESS_DATABASE_URL or MESS_KAFKA_BOOTSTRAP_SERVERS set, those are used instead of embedded ones.
    """
    from mess.cli.running import run_up  # noqa: PLC0415 - `mess --help` must not wait for it
    from mess.stack.broker import BrokerChoice  # noqa: PLC0415
    from mess.stack.errors import ServiceFailedError, StackError  # noqa: PLC0415
    from mess.stack.stack import StackOptions  # noqa: PLC0415
    from streams.generations import GenerationName  # noqa: PLC0415

    try:
        named = {GenerationName.parse(each) for each in generation or ()}
    except ValueError as error:
        fail(str(error), hint="See `mess spaces list`.")
    options = StackOptions(
        data_dir=data_dir,
        port=port,
        workers=workers,
        broker=BrokerChoice(broker.value),
        database_url=_own_database(),
        kafka=_own_broker(),
        demo=demo,
        generations=tuple(sorted(named - {GenerationName()})),
    )
    try:
        run_up(options)
    except ServiceFailedError as error:
        for line in error.log_tail:
            typer.echo(f"  {error.name} | {line}", err=True)
        fail(str(error), code=CANNOT_RUN)
    except StackError as error:
        fail(str(error), code=CANNOT_RUN)


def _own_database() -> str | None:
    """The URL of the database that is configured; None where there is none."""
    if not os.environ.get("MESS_DATABASE_URL"):
        return None
    from mess import settings  # noqa: PLC0415 - a stack of its own services is small without them
    from store.settings import StoreSettings  # noqa: PLC0415

    return settings.read_settings(StoreSettings).dsn


def _own_broker() -> "KafkaSettings | None":
    """The settings of the broker that is configured; None where there is none."""
    if not os.environ.get("MESS_KAFKA_BOOTSTRAP_SERVERS"):
        return None
    from mess import settings  # noqa: PLC0415 - likewise
    from streams.settings import KafkaSettings  # noqa: PLC0415

    return settings.read_settings(KafkaSettings)
