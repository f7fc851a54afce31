"""`mess asyncapi`: the contract of the topics as a document."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from mess.cli.console import INCOMPLETE, fail
from streams.kafka.asyncapi import asyncapi_document, to_yaml


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(asyncapi)


def asyncapi(
    output: Annotated[Path | None, typer.Option(help="Write to this file; by default print.")] = None,
    check: Annotated[Path | None, typer.Option(help="Only tell whether this file is current.")] = None,
) -> None:
    """Generate the AsyncAPI document of the topics from the event models."""
    text = to_yaml(asyncapi_document(version("mess-ai")))
    try:
        if check is not None:
            if check.read_text(encoding="utf-8") != text:
                fail(f"{check} is not current.", hint=f"mess asyncapi --output {check}", code=INCOMPLETE)
        elif output is not None:
            output.write_text(text, encoding="utf-8")
        else:
            typer.echo(text, nl=False)
    except OSError as exc:
        fail(f"{exc.filename} cannot be used: {exc.strerror}")
