"""`mess export`: what the store holds at one point, as a file."""

import sys
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

from mess.cli.connections import run_command, store_settings, with_generation
from mess.cli.console import INCOMPLETE, fail, progress_bar
from mess.cli.options import DEFAULT_DATA_DIR, DataDir, Of
from mess.export.files import ExportFileError, MissingLibraryError
from mess.export.names import ExportFormat, ExportKind
from mess.export.point import PointNotReachedError
from mess.export.run import ExportOrder, export_store


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("export")(export_command)


def export_command(
    kind: Annotated[ExportKind, typer.Argument(help="What to export.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE|-", help="Where to; - is standard output, for jsonl."),
    ],
    form: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="How to write it; if not given, as the file's name ends."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="PARTITION:OFFSET,...",
            help="Events that must be in: of track-ingest or the generation's own topic, for popularity of track-interactions.",
        ),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for one point, and for --at.")] = 30.0,
    unsettled: Annotated[
        bool,
        typer.Option(
            "--unsettled", help="Take lists that have not absorbed all that is consumed; the file says so."
        ),
    ] = False,
    of: Of = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Export all lists, tracks or popularity of one snapshot, and say which point of the log it is of.

    Exits with 0 if the file is written, 1 if the store did not come to the point in time, 2 if it could not run.
    """
    path = None if str(output) == "-" else output
    order = ExportOrder(kind, _format(path, form), path, _offsets(at), wait, unsettled)

    async def run(pool: asyncpg.Pool) -> dict[str, Any]:
        doing = f"exporting {kind}"
        with progress_bar(doing) as show:
            return await export_store(pool, order, lambda done, total: show(doing, done, total))

    try:
        told = run_command(with_generation(store_settings(data_dir), "export", run, of))
    except MissingLibraryError as error:
        fail(str(error))
    except ExportFileError as error:
        if error.reader_gone:
            # It has seen enough; nothing more can be written, not even at exit.
            sys.stdout = None
            raise typer.Exit(0) from None
        fail(str(error))
    except PointNotReachedError as error:
        fail(
            f"{error}.",
            hint="Nothing was written. Wait longer with --wait, or take the lists as they are with --unsettled.",
            code=INCOMPLETE,
        )
    typer.echo(_said(told), err=True)


def _format(path: Path | None, form: ExportFormat | None) -> ExportFormat:
    if path is None:
        if form not in (None, ExportFormat.JSONL):
            fail(f"Standard output takes jsonl; {form} needs --output FILE.")
        return ExportFormat.JSONL
    if form is not None:
        return form
    try:
        return ExportFormat(path.suffix.removeprefix(".").lower())
    except ValueError:
        fail(f"{path.name} does not say how to write it.", hint=f"Use --format {'|'.join(ExportFormat)}.")


def _offsets(text: str | None) -> dict[int, int]:
    try:
        pairs = [part.split(":") for part in text.split(",")] if text else []
        at = {int(partition): int(offset) for partition, offset in pairs}
    except ValueError:
        at = {-1: -1}
    if any(partition < 0 or offset < 0 for partition, offset in at.items()):
        fail(f"--at {text} is not partition:offset, several separated by commas.")
    return at


def _said(told: dict[str, Any]) -> str:
    offsets = ",".join(f"{partition}:{offset}" for partition, offset in told["next_offsets"].items())
    unsettled = "" if told.get("settled", True) else "; the lists are not all at this point"
    return f"{told['rows']:,} {told['kind']}; {told['topic']} up to {offsets or 'nothing'}{unsettled}"
