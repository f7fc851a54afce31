"""`mess migrate`: bring the database to this version's schema."""

from typing import Annotated

import asyncpg
import typer
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from mess import migrate as migrations
from mess.cli.console import fail
from mess.settings import read_settings
from store.errors import StoreError
from store.settings import StoreSettings


def register(app: typer.Typer) -> None:
    """Add the database commands to `app`."""
    app.command()(migrate)


def migrate(
    down_to: Annotated[
        str | None, typer.Option(help="Go back to this older revision; `base` empties it.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Only print the revision that it is at.")] = False,
) -> None:
    """Bring the database at MESS_DATABASE_URL to this version's schema."""
    url = read_settings(StoreSettings).dsn
    try:
        if show:
            typer.echo(migrations.read_revision(url) or "base")
            return
        if down_to is None:
            migrations.upgrade_schema(url)
        else:
            migrations.downgrade_schema(url, down_to)
    except (
        CommandError,
        OSError,
        SQLAlchemyError,
        StoreError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        fail(
            f"The database cannot be migrated: {error}",
            hint="Is Postgres running, and is MESS_DATABASE_URL right?",
        )
    typer.echo(f"The database is at {down_to or 'this version'}.")
