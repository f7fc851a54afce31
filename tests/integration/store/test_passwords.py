"""Passwords and tokens for Postgres are taken anew for each connection."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from mess import migrate
from store.errors import StoreUnavailableError
from store.passwords import from_iam
from store.pool import open_pool, translated_errors
from store.settings import StoreSettings
from tests.support.services import PostgresServer, unique_name

pytestmark = pytest.mark.integration


@pytest.fixture
def role(postgres_server: PostgresServer) -> Iterator[str]:
    """A role of this test, with the password `first`."""
    name = unique_name("role").replace("-", "_")
    postgres_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'first'")
    yield name
    postgres_server.execute(f"DROP ROLE {name}")


async def test_a_rotated_password_is_taken_up_without_a_restart(
    postgres_server: PostgresServer, database_url: str, role: str, tmp_path: Path
) -> None:
    """The pool's next connection logs in by what the file holds by then; the URL's password does not count."""
    url = urlsplit(database_url)
    file = tmp_path / "password"
    file.write_text("first\n")
    settings = StoreSettings(
        database_url=SecretStr(urlunsplit(url._replace(netloc=f"{role}:old@{url.hostname}:{url.port}"))),
        database_password_file=file,
        pool_max_size=1,
    )
    async with await open_pool(settings, application_name="test") as pool:
        assert await pool.fetchval("SELECT current_user") == role
        postgres_server.execute(f"ALTER ROLE {role} PASSWORD 'second'")
        assert await pool.fetchval("SELECT current_user") == role  # what is open stays
        await pool.expire_connections()
        with (
            pytest.raises(StoreUnavailableError, match="password authentication failed"),
            translated_errors(),
        ):
            await pool.fetchval("SELECT 1")
        file.write_text("second")
        assert await pool.fetchval("SELECT current_user") == role
        file.unlink()
        await pool.expire_connections()
        with pytest.raises(StoreUnavailableError), translated_errors():
            await pool.fetchval("SELECT 1")


def test_migrations_log_in_by_the_file_too(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everything does that reads these settings."""
    url = urlsplit(empty_database_url)
    file = tmp_path / "password"
    file.write_text(url.password or "")
    monkeypatch.setenv("MESS_DATABASE_PASSWORD_FILE", str(file))
    bare = urlunsplit(url._replace(netloc=f"{url.username}@{url.hostname}:{url.port}"))
    migrate.upgrade_schema(bare)
    assert migrate.read_revision(bare) is not None


async def test_a_token_of_iam_is_signed_for_the_host_and_user_of_the_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By AWS's own package and chain of credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    token = await from_iam("postgresql://mess_api@db.example:6432/mess", "eu-central-1")()
    assert token.startswith("db.example:6432/?Action=connect&DBUser=mess_api&")
    assert "eu-central-1%2Frds-db%2Faws4_request" in token
