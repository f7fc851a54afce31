"""`mess status`: shows processes, stored counts and consumer lag."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mess.cli.console import INCOMPLETE, fail, out, quiet_libraries
from mess.cli.options import DEFAULT_DATA_DIR
from mess.stack.errors import StackError
from mess.stack.inspection import inspect_stack
from mess.stack.statusview import render_status


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(status)


def status(
    data_dir: Annotated[Path, typer.Option(help="The local stack's data directory.")] = DEFAULT_DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the local stack: processes, broker, catalogue, lists, consumer lag, health.

    Exits with 0 if all of it runs, 1 if it does not.
    """
    quiet_libraries()
    try:
        report = asyncio.run(inspect_stack(data_dir))
    except StackError as error:
        fail(str(error), code=INCOMPLETE)
    if report is None:
        if as_json:
            typer.echo('{"running":false}')
            raise typer.Exit(INCOMPLETE)
        fail(f"no stack runs on {data_dir}", hint="Start one with `mess up`.", code=INCOMPLETE)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        out().print(render_status(report))
    if not report.running:
        raise typer.Exit(INCOMPLETE)
