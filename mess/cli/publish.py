"""`mess publish` and `mess delete`: producers of `track-ingest`."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mess.cli.console import fail
from mess.cli.options import DEFAULT_DATA_DIR, DataDir, Generation, Space
from mess.cli.publishing import PublishRun
from streams.contracts.embedding_models import check_model_name
from streams.generations import DEFAULT_SPACE, GenerationName
from streams.producers.axes import Pooling, parse_axes
from streams.producers.columns import parse_map
from streams.producers.deletes import DeleteSource
from streams.producers.items import SourceError, TrackSource
from streams.producers.sources import SourceOptions, open_source
from streams.producers.tracks import EmbeddingOptions

Dimension = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=16_384,
        envvar="MESS_EMBEDDING_DIMENSION",
        help="The catalogue's dimension; if not given, that of the first track.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the model that made the embeddings; the catalogue keeps to the first one.",
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
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH|-",
            help="Track events, a JSON line each (- is standard input); a folder of arrays, one a track; "
            "or a .npy, .npz, .h5, .parquet, .feather or .arrow file of many.",
        ),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The same as PATH.", hidden=True)
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of recordings, which are embedded; see `mess models fetch`."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A MERT model that embeds the recordings; musicnn if not given."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Recordings embedded at the same time; one a processor if not given."),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A table of metadata (CSV, JSON, Parquet), joined by id or file name."
        ),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="What a column means; repeat it for several."),
    ] = None,
    table_encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encoding of a table of text, if it is not UTF-8.")
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ids of an array's rows: .txt, .json, .npy or a table."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The array or column of embeddings, where there are several."),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(metavar="AXES", help="What the axes of arrays are, such as layers,time,width."),
    ] = None,
    pool: Annotated[
        str,
        typer.Option(
            metavar="mean|flatten|layer N", help="How the layers of features, or of MERT, become one vector."
        ),
    ] = "mean",
    layout: Annotated[LayoutOption | None, typer.Option(help="Read this layout of features only.")] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Layers of the features, to tell axes apart; 13 if not given.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Width of a layer, to tell axes apart; 768 if not given.")
    ] = None,
    dimension: Dimension = None,
    model_name: ModelName = None,
    encoding: Annotated[
        EncodingOption, typer.Option(help="How vectors travel: packed, or as JSON numbers.")
    ] = EncodingOption.FLOAT32,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a track for a metadata cell that cannot be read.")
    ] = False,
    require_metadata: Annotated[
        bool, typer.Option("--require-metadata", help="Refuse a track that has no row in the table.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what became of everything to this file, as JSON."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="State file of --resume; by default one beside the input.")
    ] = None,
    rejects: Rejects = None,
    dry_run: DryRun = False,
    space: Space = None,
    generation: Generation = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Publish tracks: from JSON lines, a folder of arrays or of recordings, or a file of many embeddings.

    With --generation, vectors of tracks that the catalogue has; their metadata is the catalogue's.

    Exits with 0 if all were published, 1 if some were refused, 2 if it could not run, 130 if interrupted.
    """
    if sum(each is not None for each in (path, features, audio)) != 1:
        fail("Give one file, one folder, or - for standard input.", hint="See `mess publish --help`.")
    given = path or features or audio
    standard_input = str(given) == "-"
    if resume and standard_input and state is None:
        fail("--resume of standard input needs --state FILE.")
    if require_metadata and metadata is None:
        fail("--require-metadata needs --metadata FILE.")
    try:
        options = SourceOptions(
            embeddings=EmbeddingOptions(
                pooling=Pooling.parse(pool),
                axes=parse_axes(axes) if axes else None,
                layers=layers,
                width=width,
                key=key,
                dimension=dimension,
                model=None if model_name is None else check_model_name(model_name),
                encoding=encoding.value,
                strict=strict,
                require_metadata=require_metadata,
            ),
            metadata=metadata,
            wanted=parse_map(maps or []),
            table_encoding=table_encoding,
            ids=ids,
            layout=layout.value if layout else None,
        )
        if audio is not None:
            source = _recordings(audio, options, model, jobs)
        else:
            if model is not None or jobs is not None:
                fail("--model and --jobs are for recordings: give their folder with --audio.")
            source = open_source(None if standard_input else given, options)
    except (SourceError, ValueError) as exc:
        fail(str(exc))
    beside = None if standard_input else given
    run = PublishRun(
        source,
        rejects=rejects,
        report=report,
        state=state or _beside(beside),
        resume=resume,
        dry_run=dry_run,
        topic=_topic(space, generation),
    )
    run.execute(data_dir)


def _recordings(folder: Path, options: SourceOptions, model: Path | None, jobs: int | None) -> TrackSource:
    # What recordings take is loaded for recordings.
    from mess.models import weights_path  # noqa: PLC0415
    from streams.producers.audio.embedding import MusicnnEmbedder  # noqa: PLC0415
    from streams.producers.audio.mert import MertEmbedder  # noqa: PLC0415
    from streams.producers.audio.recordings import RecordingFolder  # noqa: PLC0415

    embeddings = options.embeddings
    given = (
        embeddings.axes,
        embeddings.layers,
        embeddings.width,
        embeddings.key,
        options.ids,
        options.layout,
    )
    if any(each is not None for each in given):
        raise SourceError(
            "--axes, --layers, --width, --key, --ids and --layout are for embeddings, not for --audio"
        )
    if model is None and embeddings.pooling.mode != "mean":
        raise SourceError("musicnn's vectors have no layers: --pool goes with --model")
    embedder = MusicnnEmbedder(weights_path()) if model is None else MertEmbedder(model, embeddings.pooling)
    named = replace(embeddings, model=embeddings.model or embedder.model)
    return RecordingFolder(folder, embedder, options.table(), named, jobs=jobs)


def delete(
    track_ids: Annotated[
        list[str] | None, typer.Argument(metavar="TRACK_ID...", help="Tracks to withdraw.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a track id a line.")
    ] = None,
    rejects: Rejects = None,
    dry_run: DryRun = False,
    space: Space = None,
    generation: Generation = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Withdraw tracks: publish a null value for each.

    A track that does not exist is no error: its delete has nothing to do. With --generation, only the vector in that
    generation goes; without, the track goes everywhere.
    """
    if not track_ids and from_file is None:
        fail("Give one track id or more, or --from-file FILE.")
    try:
        source = DeleteSource(track_ids or [], from_file)
    except SourceError as exc:
        fail(str(exc))
    topic = _topic(space, generation)
    PublishRun(source, rejects=rejects, verb="deleted", dry_run=dry_run, topic=topic).execute(data_dir)


def _topic(space: str | None, generation: int | None) -> str:
    try:
        return GenerationName(space or DEFAULT_SPACE, generation or 1).topic
    except ValueError as error:
        fail(str(error), hint="See `mess spaces list`.")


def _beside(path: Path | None) -> Path | None:
    """Return the state file's place beside an input; None for one without a place."""
    return None if path is None else path.resolve().parent / f".{path.resolve().name}.mess-publish.json"
