"""`mess asyncapi`: the contract of the topics as a document."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from mess.cli.console import fail
from streams.kafka.asyncapi import asyncapi_document, to_yaml


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(asyncapi)


def asyncapi(
    output: Annotated[Path | None, typer.Option(help="Write to this file; by default print.")] = None,
) -> None:
    """Generate the AsyncAPI document of the topics from the event models."""
    text = to_yaml(asyncapi_document(version("mess-ai")))
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        fail(f"{exc.filename} cannot be written: {exc.strerror}")
