"""The API's role: it reads what is served, writes nothing, and is put right where it is not so."""

import asyncio

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from mess.cli import build_cli
from store.roles import READABLE_NAMES
from tests.support.services import PostgresServer, unique_name

pytestmark = pytest.mark.integration


def roles(url: str, *arguments: str, **environment: str) -> Result:
    """Run `mess roles`."""
    return CliRunner().invoke(
        build_cli(), ["roles", *arguments], env={"MESS_DATABASE_URL": url, **environment}
    )


def test_migrations_leave_the_role_as_it_should_be(database_url: str) -> None:
    """After `mess migrate` there is nothing to find about the API's role."""
    result = roles(database_url, "check")
    assert result.exit_code == 0, result.output


def test_a_role_that_may_too_much_or_too_little_is_found_and_put_right(
    postgres_server: PostgresServer, database_url: str
) -> None:
    """Every right too many or too few is named; `grant` restores them, and makes a role that can log in."""
    role = unique_name("reader").replace("-", "_")
    admin = postgres_server.admin_url.rsplit("/", 1)[0] + "/" + database_url.rsplit("/", 1)[1]
    try:
        missing = roles(database_url, "check", "--role", role)
        assert (missing.exit_code, missing.output.strip()) == (1, f"{role}: there is no role {role}")
        made = roles(admin, "grant", "--role", role, MESS_API_PASSWORD="p'w\\")
        assert made.exit_code == 0, made.output
        assert roles(admin, "check", "--role", role).exit_code == 0

        reader = admin.replace(admin.split("@", maxsplit=1)[0], f"postgresql://{role}:p%27w%5C")
        _assert_reads_only(reader)
        _execute(admin, f"GRANT UPDATE ON tracks TO {role}; REVOKE SELECT ON api_keys FROM {role}")
        found = roles(admin, "check", "--role", role)
        assert found.exit_code == 1
        assert f"{role}: it can change tracks (UPDATE)" in found.output
        assert f"{role}: it cannot read api_keys" in found.output
        assert roles(admin, "grant", "--role", role).exit_code == 0
        assert roles(admin, "check", "--role", role).exit_code == 0
    finally:
        _execute(admin, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_an_empty_database_and_a_reader_are_told_so(empty_database_url: str, api_database_url: str) -> None:
    """Where it cannot be granted, one line says why."""
    assert "mess migrate" in roles(empty_database_url, "grant").output
    refused = roles(api_database_url, "grant", "--role", "another")
    assert refused.exit_code == 2
    assert refused.output.count("\n") == 1


def _assert_reads_only(url: str) -> None:

    async def look() -> None:
        connection = await asyncpg.connect(url)
        try:
            for name in READABLE_NAMES:
                await connection.fetch(f"SELECT * FROM {name} LIMIT 1")
            await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            for statement in ("DELETE FROM tracks", "TABLE handled_letters", "CREATE TABLE mine (a int)"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(look())


def _execute(url: str, statements: str) -> None:

    async def execute() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statements)
        await connection.close()

    asyncio.run(execute())
