"""`mess migrate`: bring the database to this version's schema."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the database commands to `app`."""
    app.command()(migrate)


def migrate(
    down_to: Annotated[
        str | None, typer.Option(help="Go back to this older revision; `base` empties it.")
    ] = None,
) -> None:
    """Bring the database at MESS_DATABASE_URL to this version's schema."""
    from pydantic import ValidationError  # noqa: PLC0415 -- `mess --help` must not wait for SQLAlchemy
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from mess import migrate as migrations  # noqa: PLC0415
    from mess.cli.console import fail  # noqa: PLC0415
    from store.settings import StoreSettings  # noqa: PLC0415

    try:
        url = StoreSettings().dsn
    except ValidationError:
        fail(
            "No database is configured.",
            hint="Set MESS_DATABASE_URL=postgresql://user:password@host:5432/name",
        )
    try:
        if down_to is None:
            migrations.upgrade(url)
        else:
            migrations.downgrade(url, down_to)
    except (OSError, DBAPIError) as error:
        fail(
            f"The database cannot be migrated: {error}",
            hint="Is Postgres running, and is MESS_DATABASE_URL right?",
        )
    typer.echo(f"The database is at {down_to or 'this version'}.")
