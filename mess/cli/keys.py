"""`mess keys`: creates, lists and revokes API keys."""

import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import orjson
import typer
from rich.table import Table
from rich.text import Text

from mess.cli.connections import run_command, store_settings, with_store
from mess.cli.console import INCOMPLETE, fail, out
from mess.cli.options import DEFAULT_DATA_DIR, DataDir
from mess.moments import parse_moment
from serving.rates import RequestRate
from store import keys
from store.keys import ApiKey

Result = TypeVar("Result")

# A name is shown in tables and logs.
_NAME_CHARACTERS = 100


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="Make, list and revoke the keys of the API's callers.", no_args_is_help=True)
    group.command("create")(create_key)
    group.command("list")(list_all)
    group.command()(revoke)
    app.add_typer(group, name="keys")


def create_key(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for; shown in the list.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may be used for; repeat for several. read: the catalogue, strategies and the change feed;"
            " recommend: recommendations, comparisons and explanations. Both, if not given."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: an age as 90d or 12h, or a time. Never, if not given.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="What it may ask for, as 100/minute; else MESS_API_KEY_RATE_LIMIT holds."),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a key and print it on standard output, this once: only its digest is stored."""
    if not name.strip() or len(name) > _NAME_CHARACTERS or not name.isprintable():
        fail(f"A name is 1 to {_NAME_CHARACTERS} printable characters.")
    scopes = set(scope or keys.SCOPES)
    if unknown := scopes - set(keys.SCOPES):
        fail(f"There is no scope {min(unknown)!r}; known: {', '.join(keys.SCOPES)}.")
    _check_rate(rate)
    expires_at = _ending(expires)
    key = keys.new_key()
    _run(
        data_dir,
        lambda pool: keys.add_key(
            pool, key, name=name, scopes=scopes, rate_limit=rate, expires_at=expires_at
        ),
    )
    typer.echo(key)
    until = f"until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "until it is revoked"
    typer.echo(f"{name}: {' and '.join(sorted(scopes))}, {until}. It is not shown again.", err=True)


def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List every key by its prefix, the oldest first."""
    rows = [_facts(key) for key in _run(data_dir, keys.list_keys)]
    if as_json:
        for row in rows:
            typer.echo(orjson.dumps(row, option=orjson.OPT_UTC_Z).decode())
        return
    if not rows:
        typer.echo("There are no keys.", err=True)
        return
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    out().print(table)


def revoke(
    prefixes: Annotated[
        list[str], typer.Argument(metavar="PREFIX...", help="As `mess keys list` shows them.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Revoke keys for good. Running API processes refuse them within MESS_API_KEY_REFRESH seconds."""
    if not yes:
        if not sys.stdin.isatty():
            fail(f"{len(prefixes)} keys are meant.", hint="Give --yes.")
        if not typer.confirm(f"Revoke {', '.join(prefixes)}?", err=True):
            raise typer.Exit(INCOMPLETE)

    async def work(pool: asyncpg.Pool) -> None:
        for prefix in prefixes:
            # A key may be named by its prefix or in full, as people copy either.
            named = prefix.removeprefix("mess_").split("_", 1)[0]
            now = await keys.revoke_key(pool, named)
            typer.echo(f"{named} {'is revoked' if now else 'was revoked before'}")

    _run(data_dir, work)


def _facts(key: ApiKey) -> dict[str, Any]:
    expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return {
        "prefix": key.prefix,
        "name": key.name,
        "state": "revoked" if key.revoked_at else "expired" if expired else "usable",
        "scopes": sorted(key.scopes),
        "rate": key.rate_limit,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else f"{value:%Y-%m-%d %H:%M}"


def _check_rate(rate: str | None) -> None:
    try:
        if rate is not None:
            RequestRate.parse(rate)
    except ValueError as error:
        fail(str(error))


def _ending(text: str | None) -> datetime | None:
    """The time that `text` names, which must be in the future."""
    if text is None:
        return None
    now = datetime.now(UTC)
    try:
        moment = parse_moment(text, now, ahead=True)
    except ValueError as error:
        fail(str(error))
    if moment <= now:
        fail(f"{text} is not to come.")
    return moment


def _run(data_dir: Path, work: Callable[[asyncpg.Pool], Coroutine[Any, Any, Result]]) -> Result:
    try:
        return run_command(with_store(store_settings(data_dir), "keys", work))
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
        fail("This role may not change keys.", hint="MESS_DATABASE_URL must be the schema owner's.")
