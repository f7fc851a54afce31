"""`mess demo`: the demo catalogue, published to whatever services are configured."""

import asyncio
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from mess.cli.console import INTERRUPTED, fail, quiet_libraries

if TYPE_CHECKING:
    from store.settings import StoreSettings
    from streams.settings import KafkaSettings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(demo)


def demo(
    wait: Annotated[bool, typer.Option("--wait", help="Until every work has its neighbours.")] = False,
) -> None:
    """Publish the demo catalogue, unless the store holds as many tracks already. Needs the worker's settings."""
    from mess import settings  # noqa: PLC0415 - `mess --help` must not wait for it
    from mess.demo.catalogue import CatalogueError  # noqa: PLC0415
    from store.errors import StoreError  # noqa: PLC0415
    from store.settings import StoreSettings  # noqa: PLC0415
    from streams.errors import StreamsError  # noqa: PLC0415
    from streams.settings import KafkaSettings  # noqa: PLC0415

    quiet_libraries()
    try:
        asyncio.run(
            _bring(settings.read_settings(KafkaSettings), settings.read_settings(StoreSettings), wait=wait)
        )
    except (CatalogueError, StoreError, StreamsError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


async def _bring(kafka: "KafkaSettings", store: "StoreSettings", *, wait: bool) -> None:
    from mess.stack.demo import DemoPublisher, DemoWatcher  # noqa: PLC0415 - `mess --help` must not wait for it

    catalogue = await asyncio.to_thread(DemoPublisher)
    async with DemoWatcher(store.dsn, kafka) as watch:
        counts = await watch.counts()
        if await watch.aspects() not in (None, catalogue.aspects):
            fail(
                f"The store's embeddings do not have the demo's aspects: {', '.join(catalogue.aspects)}.",
                hint="The demo catalogue needs a database and topics of its own.",
            )
        if counts.tracks >= len(catalogue):
            typer.echo(f"the catalogue holds {counts.tracks:,} tracks already")
        else:
            await catalogue.publish(kafka, lambda _: None)
            typer.echo(f"{len(catalogue):,} works published to track-ingest")
        if wait:
            settled = await watch.until_settled(lambda _: None, at_least=len(catalogue))
            typer.echo(f"{settled.tracks:,} works have their neighbours")
    typer.echo(f"try: GET /recommend/{quote(catalogue.example, safe='')}?top_k=5")
