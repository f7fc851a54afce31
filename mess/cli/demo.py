"""`mess demo`: the demo catalogue, published to whatever services are configured."""

import asyncio
from typing import Annotated
from urllib.parse import quote

import typer

from mess.cli.connections import run_command
from mess.cli.console import fail
from mess.demo.catalogue import CatalogueError
from mess.settings import read_settings
from mess.stack.demo import DemoPublisher, DemoWatcher
from store.settings import StoreSettings
from streams.settings import KafkaSettings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(demo)


def demo(
    wait: Annotated[bool, typer.Option("--wait", help="Until every work has its neighbours.")] = False,
) -> None:
    """Publish the demo catalogue, unless the store holds as many tracks already. Needs the worker's settings."""
    kafka, store = read_settings(KafkaSettings), read_settings(StoreSettings)
    try:
        run_command(_bring(kafka, store, wait=wait))
    except CatalogueError as error:
        fail(str(error))


async def _bring(kafka: KafkaSettings, store: StoreSettings, *, wait: bool) -> None:
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
