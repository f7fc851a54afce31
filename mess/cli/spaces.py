"""`mess spaces`: generations of the catalogue's vectors, each of one model."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from mess import settings
from mess.cli.connections import kafka_settings, run_command, store_settings, with_store
from mess.cli.console import INCOMPLETE, fail, out
from mess.cli.options import DEFAULT_DATA_DIR, DataDir
from mess.cli.topics import copied
from mess.spaces import comparison, lifecycle
from mess.spaces.comparison import GenerationComparison, TrackDifference
from mess.spaces.status import generation_status
from store import generations
from streams.generations import DEFAULT_SPACE, GenerationName
from streams.settings import KafkaSettings, StreamSettings

Wait = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long it may take until nothing is on its way.")
]
Named = Annotated[str, typer.Argument(metavar="SPACE/N", help="A generation, such as default/2.")]
Space = Annotated[str, typer.Option("--space", metavar="NAME", help="What its vectors mean by similar.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(
        help="Fill, compare and promote generations: the vectors of another model, beside those that serve.",
        no_args_is_help=True,
    )
    group.command("list")(list_generations)
    for command in (create, status, compare, serving, promote, rollback, retire):
        group.command()(command)
    app.add_typer(group, name="spaces")


def list_generations(
    topics: Annotated[
        bool, typer.Option("--topics", help="Only the topics of vectors beside track-ingest, a line each.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the generations and their states."""
    work = with_store(store_settings(data_dir), "spaces", generations.list_generations, read_only=True)
    if topics:
        for each in run_command(work):
            if each.retired_at is None and not each.name.is_first:
                typer.echo(each.name.topic)
        return
    table = Table("generation", "state", "model", "topic", "created", box=box.SIMPLE_HEAD)
    for each in run_command(work):
        topic = each.name.topic if each.retired_at is None else ""
        table.add_row(
            str(each.name), each.state, each.model or "", topic, f"{each.created_at:%Y-%m-%d %H:%M}"
        )
    out().print(table)


def create(
    space: Space = DEFAULT_SPACE,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The model that makes its vectors; events that name another are refused."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="NAME:N,...", help="The aspects of its vectors, and how much each counts."),
    ] = None,
    from_log: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE/N",
            help="Fill it from the log of this generation; model and weights are as there, if they are not given.",
        ),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create the next generation of a space: its tables, and its topic. Readers notice nothing."""
    streams = settings.read_settings(StreamSettings)
    kafka, store = kafka_settings(data_dir), store_settings(data_dir)
    source = None if from_log is None else _parsed(from_log)
    made = run_command(
        with_store(
            store,
            "spaces",
            lambda pool: lifecycle.create(
                kafka, streams, pool, space=space, model=model, weights=weights, from_log=source
            ),
        )
    )
    option = f"--space {made.name.space} --generation {made.name.number}"
    typer.echo(f"created {made.name}, topic {made.name.topic}")
    typer.echo(f"  its workers: mess worker {option}", err=True)
    if source is None:
        typer.echo(f"  its vectors: mess publish FILE {option}", err=True)
    else:
        _fill(kafka, made.name, source)


def _fill(kafka: KafkaSettings, name: GenerationName, source: GenerationName) -> None:
    """Copy the log of another generation."""
    again = f"mess topics copy {source.topic} {name.topic}"
    typer.echo(f"  if copying is broken off: {again}", err=True)
    done = run_command(copied(kafka, source.topic, name.topic))
    typer.echo(f"copied {done.messages:,} events of {source}")
    typer.echo(f"  events that come to {source.topic} from now on: {again} --follow", err=True)


def status(name: Named, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Say how far a generation is; exits with 1 while tracks or lists are missing or events wait."""
    wanted, kafka, store = _parsed(name), kafka_settings(data_dir), store_settings(data_dir)
    found = run_command(
        with_store(
            store, "spaces", lambda pool: generation_status(kafka, store, pool, wanted), read_only=True
        )
    )
    for line in found.lines():
        typer.echo(line)
    if not found.complete:
        raise typer.Exit(INCOMPLETE)


def compare(
    left: Named,
    right: Named,
    sample: Annotated[int, typer.Option(min=1, help="Tracks compared at most, drawn at random.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare the lists of two generations: what they share, and whose neighbours have more labels in common."""
    one, other = _parsed(left), _parsed(right)
    work = with_store(
        store_settings(data_dir),
        "spaces",
        lambda pool: comparison.compare(pool, one, other, sample=sample, seed=seed),
        read_only=True,
    )
    _print_comparison(run_command(work))


def serving(
    space: Space = DEFAULT_SPACE,
    every: Annotated[bool, typer.Option("--all", help="Those of all spaces, a line each.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print the generation that serves a space's readers; exits with 1 if there is none."""
    work = with_store(store_settings(data_dir), "spaces", generations.serving_generations, read_only=True)
    found = run_command(work)
    if not every and space not in found:
        fail(f"no generation of space {space} serves", hint="See `mess spaces list`.", code=INCOMPLETE)
    for name in found.values() if every else [found[space]]:
        typer.echo(name)


def promote(
    name: Named,
    allow_missing: Annotated[
        int,
        typer.Option(
            min=0, help="So many tracks may be without a vector in it; readers do not find these then."
        ),
    ] = 0,
    wait: Wait = 30.0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Let a generation serve readers, all at once; refused as long as it lacks something. The others stay as they are."""
    wanted = _parsed(name)
    _promote(wanted, data_dir, wait=wait, allow_missing=allow_missing)


def rollback(space: Space = DEFAULT_SPACE, wait: Wait = 30.0, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Let the generation of a space serve again that served before its last promotion."""
    work = with_store(
        store_settings(data_dir), "spaces", lambda pool: lifecycle.generation_before(pool, space)
    )
    _promote(run_command(work), data_dir, wait=wait, allow_missing=None)


def _promote(name: GenerationName, data_dir: Path, *, wait: float, allow_missing: int | None) -> None:
    kafka, store = kafka_settings(data_dir), store_settings(data_dir)
    done = run_command(
        with_store(
            store,
            "spaces",
            lambda pool: lifecycle.promote(
                kafka, store, pool, name, allow_missing=allow_missing, seconds=wait
            ),
        )
    )
    before = f"{done.before} did before" if done.before else f"{done.after.space} is a space of theirs"
    typer.echo(f"{done.after} serves readers now; {before}")
    if done.before is not None:
        option = "" if done.after.space == DEFAULT_SPACE else f" --space {done.after.space}"
        typer.echo(f"  back again: mess spaces rollback{option}", err=True)


def retire(
    name: Named,
    confirm: Annotated[
        str | None,
        typer.Option("--yes", metavar="SPACE/N", help="The generation again, instead of two questions."),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Drop a generation for good: its vectors, its lists, its topic. Asks twice.

    The last generation of a further space may serve: its readers are told that there is no such space, and a minute later it goes.
    """
    wanted = _parsed(name)
    if confirm is None:
        if not typer.confirm(
            f"Drop generation {wanted}: its vectors, its lists and its topic {wanted.topic}?"
        ):
            fail("Nothing was dropped.", code=INCOMPLETE)
        confirm = typer.prompt("There is no way back. Its name, to be sure")
    if confirm != str(wanted):
        fail(f"{confirm!r} is not {wanted}; nothing was dropped.", code=INCOMPLETE)
    kafka = kafka_settings(data_dir)

    def ended() -> None:
        typer.echo(
            f"{wanted} serves no more; it goes in a minute, when all answers that began before are out",
            err=True,
        )

    run_command(
        with_store(
            store_settings(data_dir),
            "spaces",
            lambda pool: lifecycle.retire(kafka, pool, wanted, ended=ended),
        )
    )
    typer.echo(f"retired {wanted}; its tables and its topic are gone")


def _print_comparison(found: GenerationComparison) -> None:
    typer.echo(
        f"{found.common:,} tracks have a list in {found.left} and {found.right}; {found.compared:,} compared"
    )
    if not found.compared:
        return
    typer.echo(f"overlap@50 {found.overlap:.3f}, rank-biased overlap {found.rank_biased:.3f}")
    if found.labels:
        table = Table(
            "same label, first 10", "tracks", str(found.left), str(found.right), box=box.SIMPLE_HEAD
        )
        for each in found.labels:
            table.add_row(each.label, f"{each.tracks:,}", f"{each.left:.3f}", f"{each.right:.3f}")
        out().print(table)
    for title, tracks in (
        (f"gain most labels in {found.right}", found.winners),
        (f"lose most labels in {found.right}", found.losers),
        ("have least in common", found.furthest),
    ):
        if tracks:
            typer.echo(f"{title}:")
        for track in tracks:
            typer.echo(f"  {_described(track)}")


def _described(track: TrackDifference) -> str:
    gained = f", {track.gained:+d} labels" if track.gained else ""
    lists = " | ".join(", ".join(names) or "nothing" for names in (track.left, track.right))
    return f"{track.track_id}  overlap {track.overlap:.2f}{gained}: {lists}"


def _parsed(name: str) -> GenerationName:
    try:
        return GenerationName.parse(name)
    except ValueError as error:
        fail(str(error), hint="See `mess spaces list`.")
