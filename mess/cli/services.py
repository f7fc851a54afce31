"""`mess worker` and `mess api`: one process of each, configured by the environment."""

import asyncio
import os

import typer

from mess.cli.check_env import refuse_unfit
from mess.cli.options import Generation, Space


def register(app: typer.Typer) -> None:
    """Add the service commands to `app`."""
    app.command()(worker)
    app.command()(api)


def worker(space: Space = None, generation: Generation = None) -> None:
    """Run one worker: consumes track-ingest and keeps the neighbour lists. Needs MESS_DATABASE_URL and a broker.

    With --generation, it consumes the vectors of another generation and keeps its lists beside; `mess spaces create` makes one.
    """
    from mess import settings  # noqa: PLC0415 -- `mess --help` must not wait for Faust
    from mess import worker as process  # noqa: PLC0415
    from mess.cli.console import fail  # noqa: PLC0415
    from mess.spaces.settings import of_generation  # noqa: PLC0415
    from store.errors import StoreError  # noqa: PLC0415
    from store.settings import StoreSettings  # noqa: PLC0415
    from streams.settings import KafkaSettings, StreamSettings  # noqa: PLC0415

    refuse_unfit()
    streams, store = settings.read_settings(StreamSettings), settings.read_settings(StoreSettings)
    try:
        streams, store = asyncio.run(of_generation(streams, store, space, generation))
    except (StoreError, ValueError) as error:
        fail(str(error), hint="See `mess spaces list`.")
    process.main(settings.read_settings(KafkaSettings), streams, store)


def api() -> None:
    """Run one API process: serves what the store holds, and asks the workers for the rest. Needs MESS_DATABASE_URL."""
    from mess import collecting, settings, tracing  # noqa: PLC0415 -- `mess --help` must not wait for FastAPI
    from mess.cli.console import fail  # noqa: PLC0415
    from serving.server import serve_api  # noqa: PLC0415
    from serving.settings import ServingSettings  # noqa: PLC0415
    from store.errors import StoreError  # noqa: PLC0415
    from store.settings import StoreSettings  # noqa: PLC0415
    from streams.kafka.clients import aiokafka_options  # noqa: PLC0415
    from streams.settings import KafkaSettings  # noqa: PLC0415

    refuse_unfit()
    # Stored answers need no broker: without one, health reports say so, and nothing is computed on demand.
    has_broker = bool(os.environ.get("MESS_KAFKA_BOOTSTRAP_SERVERS"))
    options = aiokafka_options(settings.read_settings(KafkaSettings)) if has_broker else None
    send_traces = tracing.start_tracing("mess-api")
    collecting.keep_short()
    try:
        serve_api(
            settings.read_settings(ServingSettings),
            settings.read_settings(StoreSettings),
            options,
        )
    except StoreError as error:
        fail(str(error), hint="Check MESS_DATABASE_URL, and run `mess migrate` once.", code=1)
    finally:
        send_traces()
