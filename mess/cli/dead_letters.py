"""`mess dead-letters`: lists, shows, replays and drops dead letters."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer

from mess.cli.connections import kafka_settings, run_command, store_settings, with_store
from mess.cli.console import INCOMPLETE, fail, out
from mess.cli.options import DEFAULT_DATA_DIR, DataDir
from mess.dead_letters import selection as letters
from mess.dead_letters import views
from mess.dead_letters.selection import DeadLetterSelection, SelectedDeadLetters, count_by_reason, parse_place
from mess.dead_letters.topic import DeadLetter, read_dead_letter
from mess.moments import parse_moment
from store.dead_letters import fetch_handled, only_operator
from streams.settings import KafkaSettings

Result = TypeVar("Result")

Places = Annotated[
    list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]...", help="As `list` shows them.")
]
Place = Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `list` shows it.")]
Reason = Annotated[str | None, typer.Option(help="Only those refused for this reason: wrong_dimension, ...")]
Topic = Annotated[str | None, typer.Option(help="Only those that came from this topic.")]
Since = Annotated[
    str | None, typer.Option(help="Only those refused since: a time, or an age as 30m, 12h, 7d.")
]
Until = Annotated[str | None, typer.Option(help="Only those refused before: likewise.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="Look at what was refused, send it back, or put it aside.", no_args_is_help=True)
    group.command("list")(list_letters)
    for command in (show, replay, drop):
        group.command()(command)
    app.add_typer(group, name="dead-letters")


def list_letters(
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    state: Annotated[
        str, typer.Option(help="What has been done about them: open, replayed, dropped or any.")
    ] = "open",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List dead letters, the oldest first, without those that have been replayed or dropped."""
    if state not in ("open", "replayed", "dropped", "any"):
        fail(f"--state is open, replayed, dropped or any, not {state!r}")
    wanted = _wanted((), reason, topic, since, until, state)
    found = _run(data_dir, lambda kafka, pool: letters.find_dead_letters(kafka, pool, wanted))
    shown = found[-limit:]
    if as_json:
        for each in shown:
            typer.echo(views.dead_letter_line(each))
    elif shown:
        out().print(views.dead_letter_table(shown))
    else:
        typer.echo("There are no such dead letters.", err=True)
    if len(found) > len(shown):
        typer.echo(f"and {len(found) - len(shown):,} older ones: --limit", err=True)


def show(
    place: Place,
    as_hex: Annotated[bool, typer.Option("--hex", help="Show the value as it is, in hexadecimal.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Write the value's bytes and nothing else.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show one dead letter: why it was refused, its own headers, its key and its value."""
    where = _placed(place)

    async def look(kafka: KafkaSettings, pool: asyncpg.Pool) -> tuple[DeadLetter, SelectedDeadLetters]:
        letter = await read_dead_letter(kafka, *where)
        size = None if letter.value is None else len(letter.value)
        return letter, letters.SelectedDeadLetters(letter, size, (await fetch_handled(pool)).get(letter.id))

    letter, found = _run(data_dir, look)
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        sys.stdout.buffer.flush()
        return
    typer.echo(views.dead_letter_description(found, as_hex=as_hex))


def replay(  # noqa: PLR0913, PLR0917 - a command's options
    places: Places = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that were replayed or dropped before.")
    ] = False,
    over_newer: Annotated[
        bool, typer.Option("--over-newer", help="Also events whose track has had a later one since.")
    ] = False,
    yes: Yes = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Send dead letters back to their source topics, with bytes, key and headers as received.

    One that is still wrong becomes a dead letter again. Exits with 1 if some could not be sent back.
    """
    wanted = _wanted(places, reason, topic, since, until, "any" if again else "open")
    _require_choice(wanted, everything=everything)
    left: list[str] = []

    sent = _run(
        data_dir,
        lambda kafka, pool: _replay(
            kafka, pool, wanted, left, over_newer=over_newer, ask=not yes and not wanted.places
        ),
    )
    for line in left:
        typer.echo(f"left {line}", err=True)
    if not sent and not left:
        _nothing(wanted)
    typer.echo(f"{sent:,} sent back{f', {len(left):,} left' if left else ''}")
    if left:
        raise typer.Exit(INCOMPLETE)


async def _replay(
    kafka: KafkaSettings,
    pool: asyncpg.Pool,
    wanted: DeadLetterSelection,
    left: list[str],
    *,
    over_newer: bool,
    ask: bool,
) -> int:
    """Replay the selected dead letters and return how many were sent; `left` gets a line for each that was not."""
    async with only_operator(pool):
        found = await letters.find_dead_letters(kafka, pool, wanted)
        newer = set() if over_newer else await letters.find_overtaken(pool, found)
        left.extend(
            f"{each.letter.place}: its track has had a later event since (--over-newer)"
            for each in found
            if each.letter.id in newer
        )
        found = [each for each in found if each.letter.id not in newer]
        if not found:
            return 0
        await asyncio.to_thread(_confirm, "Send back", found, asked=ask)
        return await letters.replay_dead_letters(
            kafka, pool, found, lambda letter, why: left.append(f"{letter.place}: {why}")
        )


def drop(
    places: Places = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    yes: Yes = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Mark dead letters as done without a replay. The topic keeps them for its retention time."""
    wanted = _wanted(places, reason, topic, since, until, "open")
    _require_choice(wanted, everything=everything)

    async def work(kafka: KafkaSettings, pool: asyncpg.Pool) -> int:
        async with only_operator(pool):
            found = await letters.find_dead_letters(kafka, pool, wanted)
            if found:
                await asyncio.to_thread(_confirm, "Drop", found, asked=not yes and not wanted.places)
                await letters.drop_dead_letters(pool, found)
            return len(found)

    if not (dropped := _run(data_dir, work)):
        _nothing(wanted)
    typer.echo(f"{dropped:,} dropped")


def _nothing(wanted: DeadLetterSelection) -> NoReturn:
    """Exit if nothing is selected; with an error only if dead letters were named."""
    if wanted.places:
        fail(
            "Something was done about these before.", hint="`mess dead-letters show` tells; --again replays."
        )
    typer.echo("There are no such dead letters.")
    raise typer.Exit


def _placed(place: str) -> tuple[int, int]:
    try:
        return parse_place(place)
    except ValueError as error:
        fail(str(error))


def _wanted(
    places: list[str] | tuple[()] | None,
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    state: Any,
) -> DeadLetterSelection:
    now = datetime.now(UTC)
    try:
        return DeadLetterSelection(
            tuple(_placed(place) for place in places or ()),
            reason,
            topic,
            None if since is None else parse_moment(since, now),
            None if until is None else parse_moment(until, now),
            state,
        )
    except ValueError as error:
        fail(str(error))


def _require_choice(wanted: DeadLetterSelection, *, everything: bool) -> None:
    if wanted.everything != everything:
        problem = "--all means all of them" if everything else "nothing says which dead letters"
        fail(f"{problem}: name some, or give filters, or --all alone.")


def _confirm(verb: str, found: list[SelectedDeadLetters], *, asked: bool) -> None:
    """Ask for confirmation; without a terminal, --yes is required."""
    if not asked:
        return
    if not sys.stdin.isatty():
        fail(f"{len(found):,} dead letters are meant ({count_by_reason(found)}).", hint="Give --yes.")
    if not typer.confirm(f"{verb} {len(found):,} dead letters ({count_by_reason(found)})?", err=True):
        raise typer.Exit(INCOMPLETE)


def _run(
    data_dir: Path, work: Callable[[KafkaSettings, asyncpg.Pool], Coroutine[Any, Any, Result]]
) -> Result:
    """Run `work` with the broker's settings and a pool; a failure is one line."""
    kafka = kafka_settings(data_dir)
    store = store_settings(data_dir)
    return run_command(with_store(store, "dead-letters", lambda pool: work(kafka, pool)))
