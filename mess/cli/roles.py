"""`mess roles`: grants and checks the rights of the API's database role."""

import os
from typing import Annotated

import typer

from mess.cli.connections import run_command, store_settings, with_store
from mess.cli.console import INCOMPLETE
from mess.cli.options import DEFAULT_DATA_DIR, DataDir
from store.roles import grant_reads, role_findings

Role = Annotated[str, typer.Option(help="Name of the API's database role.")]


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
    password = os.environ.get("MESS_API_PASSWORD") or None
    store = store_settings(data_dir)
    made = run_command(with_store(store, "roles", lambda pool: grant_reads(pool, role, password)))
    typer.echo(f"{role} {'is made and ' if made else ''}may read what the API serves, and write nothing")


def check_role(role: Role = "mess_api", data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the rights that the API's role has in excess or lacks; exits with 1 if there are any."""
    store = store_settings(data_dir)
    found = run_command(with_store(store, "roles", lambda pool: role_findings(pool, role)))
    for line in found:
        typer.echo(f"{role}: {line}")
    if found:
        raise typer.Exit(INCOMPLETE)
    typer.echo(f"{role} may read what the API serves, and write nothing")
