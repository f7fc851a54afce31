"""Runs Alembic from Python, without an alembic.ini."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from pydantic import SecretStr

import migrations
from store.pool import current_revision, open_pool
from store.settings import StoreSettings


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for the database at `database_url`."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["settings"] = StoreSettings(database_url=SecretStr(database_url))
    return config


def read_revision(database_url: str) -> str | None:
    """The revision of the schema at `database_url`; None if there is none.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """

    async def read() -> str | None:
        settings = StoreSettings(database_url=SecretStr(database_url), pool_max_size=1)
        async with await open_pool(settings, application_name="mess-migrate", read_only=True) as pool:
            return await current_revision(pool)

    return asyncio.run(read())


def upgrade_schema(database_url: str, revision: str = "head") -> None:
    """Upgrade the schema at `database_url` to `revision`. Do not call it from a running event loop."""
    command.upgrade(alembic_config(database_url), revision)


def downgrade_schema(database_url: str, revision: str) -> None:
    """Downgrade the schema at `database_url` to `revision`. Do not call it from a running event loop."""
    command.downgrade(alembic_config(database_url), revision)


def check_migrations(database_url: str) -> None:
    """Raise if the migrations and the tables in `store.schema` differ."""
    command.check(alembic_config(database_url))
