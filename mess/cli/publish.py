"""`mess publish` and `mess delete`: producers of `track-ingest`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mess.cli.broker import DEFAULT_DATA_DIR, DataDir
from mess.cli.console import fail

if TYPE_CHECKING:
    from streams.producers.items import Source

Dimension = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=16_384,
        envvar="MESS_EMBEDDING_DIMENSION",
        help="The catalogue's dimension; if not given, that of the first track.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, send nothing; needs no broker.")]
Rejects = Annotated[Path | None, typer.Option(help="Write what is refused to this file, a JSON line each.")]


class EncodingOption(StrEnum):
    """How vectors travel."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    JSON = "json"


class LayoutOption(StrEnum):
    """Which of the seed project's layouts to read."""

    AGGREGATED = "aggregated"
    SEGMENTS = "segments"
    RAW = "raw"


def register(app: typer.Typer) -> None:
    """Add the producers' commands to `app`."""
    app.command()(publish)
    app.command()(delete)


def publish(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.jsonl|-", help="Track events, a JSON line each; - is standard input."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of .npy features instead of a file.")
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(metavar="CSV|JSON", help="Metadata of the features, joined by track_id or file name."),
    ] = None,
    pool: Annotated[
        str,
        typer.Option(metavar="mean|flatten|layer N", help="How the layers of features become one vector."),
    ] = "mean",
    layout: Annotated[LayoutOption | None, typer.Option(help="Read this layout of features only.")] = None,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the features.")] = 13,
    width: Annotated[int, typer.Option(min=1, help="Width of a layer.")] = 768,
    dimension: Dimension = None,
    encoding: Annotated[
        EncodingOption, typer.Option(help="How vectors travel: packed, or as JSON numbers.")
    ] = EncodingOption.FLOAT32,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="State file of --resume; by default one beside the input.")
    ] = None,
    rejects: Rejects = None,
    dry_run: DryRun = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Publish tracks from JSON lines, or from a folder of features.

    Exits with 0 if all were published, 1 if some were refused, 2 if it could not run, 130 if interrupted.
    """
    from mess.cli.publishing import Run  # noqa: PLC0415 - `mess --help` must not wait for Kafka
    from streams.producers.items import SourceError  # noqa: PLC0415

    if (file is None) == (features is None):
        fail("Give either a file of JSON lines (or -), or --features DIR.", hint="See `mess publish --help`.")
    if metadata is not None and features is None:
        fail("--metadata belongs to --features; a JSON line carries its own metadata.")
    standard_input = file is not None and str(file) == "-"
    if resume and standard_input and state is None:
        fail("--resume of standard input needs --state FILE.")
    try:
        source: Source
        if features is not None:
            source = _features(features, metadata, pool, layout, (layers, width), encoding)
        else:
            from streams.producers.jsonl import JsonLines  # noqa: PLC0415

            source = JsonLines(None if standard_input else file, dimension=dimension, encoding=encoding.value)
    except (SourceError, ValueError) as exc:
        fail(str(exc))
    beside = None if standard_input else features or file
    Run(source, rejects=rejects, state=state or _beside(beside), resume=resume, dry_run=dry_run).execute(
        data_dir
    )


def delete(
    track_ids: Annotated[
        list[str] | None, typer.Argument(metavar="TRACK_ID...", help="Tracks to withdraw.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a track id a line.")
    ] = None,
    rejects: Rejects = None,
    dry_run: DryRun = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Withdraw tracks: publish a null value for each.

    A track that does not exist is no error: its delete has nothing to do.
    """
    from mess.cli.publishing import Run  # noqa: PLC0415 - `mess --help` must not wait for Kafka
    from streams.producers.deletes import Deletes  # noqa: PLC0415
    from streams.producers.items import SourceError  # noqa: PLC0415

    if not track_ids and from_file is None:
        fail("Give one track id or more, or --from-file FILE.")
    try:
        source = Deletes(track_ids or [], from_file)
    except SourceError as exc:
        fail(str(exc))
    Run(source, rejects=rejects, verb="deleted", dry_run=dry_run).execute(data_dir)


def _features(
    folder: Path,
    metadata: Path | None,
    pool: str,
    layout: LayoutOption | None,
    shape: tuple[int, int],
    encoding: EncodingOption,
) -> "Source":
    from streams.producers.features import FeatureFolder, Pooling  # noqa: PLC0415
    from streams.producers.tables import MetadataTable  # noqa: PLC0415

    pooling = Pooling.parse(pool, layers=shape[0], width=shape[1])
    table = MetadataTable.read(metadata) if metadata is not None else None
    return FeatureFolder(
        folder, table, pooling=pooling, encoding=encoding.value, layout=layout.value if layout else None
    )


def _beside(path: Path | None) -> Path | None:
    """Return the state file's place beside an input; None for one without a place."""
    return None if path is None else path.resolve().parent / f".{path.resolve().name}.mess-publish.json"
