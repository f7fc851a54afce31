"""`mess roles`: grants and checks the rights of the API's database role."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mess.cli.broker import DEFAULT_DATA_DIR
from mess.cli.console import INCOMPLETE, fail
from mess.cli.store import HINT, store_settings

if TYPE_CHECKING:
    import asyncpg

Result = TypeVar("Result")

Role = Annotated[str, typer.Option(help="Name of the API's database role.")]
DataDir = Annotated[
    Path, typer.Option(help="The local stack's data directory, asked when MESS_DATABASE_URL is not set.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="Grant the API's database role its reads, and check it.", no_args_is_help=True)
    group.command("grant")(grant_role)
    group.command("check")(check_role)
    app.add_typer(group, name="roles")


def grant_role(role: Role = "mess_api", data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Let the API's role read what it serves and nothing else; create it if it is missing.

    MESS_API_PASSWORD, if set, becomes its password. Run it as the schema's owner, for a role of another name or after a
    restore without rights; `mess migrate` grants them to mess_api by itself.
    """
    from store.roles import grant_reads  # noqa: PLC0415 - `mess --help` must not wait for it

    password = os.environ.get("MESS_API_PASSWORD") or None
    made = _run(data_dir, lambda pool: grant_reads(pool, role, password))
    typer.echo(f"{role} {'is made and ' if made else ''}may read what the API serves, and write nothing")


def check_role(role: Role = "mess_api", data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the rights that the API's role has in excess or lacks; exits with 1 if there are any."""
    from store.roles import role_findings  # noqa: PLC0415 - `mess --help` must not wait for it

    found = _run(data_dir, lambda pool: role_findings(pool, role))
    for line in found:
        typer.echo(f"{role}: {line}")
    if found:
        raise typer.Exit(INCOMPLETE)
    typer.echo(f"{role} may read what the API serves, and write nothing")


def _run(data_dir: Path, work: "Callable[[asyncpg.Pool], Coroutine[Any, Any, Result]]") -> Result:
    """Run `work` with a pool; a failure is one line."""
    from store.errors import StoreError  # noqa: PLC0415 - `mess --help` must not wait for it
    from store.pool import open_pool  # noqa: PLC0415

    store = store_settings(data_dir).model_copy(update={"pool_min_size": 0, "pool_max_size": 1})

    async def with_pool() -> Result:
        async with await open_pool(store, application_name="mess-roles") as pool:
            return await work(pool)

    try:
        return asyncio.run(with_pool())
    except StoreError as error:
        fail(str(error), hint=HINT if "not available" in str(error) else None)
