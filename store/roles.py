"""The database role of the API: grants its rights, and checks them."""

from typing import Final

import asyncpg

from store import generations
from store.errors import StoreError
from store.generations import OWN_TABLES
from store.pool import transaction, translated_errors
from store.schema import READABLE
from streams.generations import GenerationName

# The tables and sequences that the API's role may read; the last holds the schema's revision.
READABLE_NAMES = (*(item.name for item in READABLE), "alembic_version")

_WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")

_TABLES = """
SELECT c.relname AS name, c.relkind = 'S' AS is_sequence
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
ORDER BY c.relname
"""
# What the API reads of a generation: beside these, what it shares with the catalogue.
_OF_GENERATIONS: Final = [name for name in OWN_TABLES if name in READABLE_NAMES]
_READERS: Final = """
SELECT DISTINCT a.grantee::regrole::text FROM pg_class AS c, aclexplode(c.relacl) AS a
WHERE c.oid = ($1::text || '.neighbour_lists')::regclass AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
"""


class RoleError(StoreError):
    """The role cannot be created, or its rights cannot be granted."""


async def grant_reads(pool: asyncpg.Pool, role: str, password: str | None = None) -> bool:
    """Let `role` read what the API serves, and nothing else of this schema; create it if it is missing.

    Args:
        pool: Connections of the schema's owner.
        role: Its name.
        password: With it the role can log in.

    Returns:
        Whether it was made.

    Raises:
        RoleError: This owner may not do so, or there is no schema yet.
        StoreUnavailableError: Postgres cannot be reached.
    """
    try:
        async with transaction(pool) as connection:
            made = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role) is None
            name = await connection.fetchval("SELECT quote_ident($1)", role)
            if made:
                await connection.execute(f"CREATE ROLE {name} LOGIN")
                await connection.execute(f"ALTER ROLE {name} SET default_transaction_read_only = on")
            if password is not None:
                # A password cannot be a parameter. Postgres quotes it, and it does not reach the log.
                await connection.execute("SET LOCAL log_statement = 'none'")
                quoted = await connection.fetchval("SELECT quote_literal($1)", password)
                await connection.execute(f"ALTER ROLE {name} LOGIN PASSWORD {quoted}")
            await _grant(connection, name)
            return made
    except asyncpg.InsufficientPrivilegeError as exc:
        raise RoleError(f"this database role may not do that: {exc}") from exc
    except asyncpg.UndefinedTableError as exc:
        raise RoleError(f"{exc}: run `mess migrate` first") from exc


async def _grant(connection: asyncpg.pool.PoolConnectionProxy, name: str) -> None:
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    schema = await connection.fetchval("SELECT quote_ident(current_schema())")
    await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {name}")
    await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
    await connection.execute(f"REVOKE CREATE ON SCHEMA {schema} FROM {name}")
    for kind in ("TABLES", "SEQUENCES"):
        await connection.execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {name}")
    await connection.execute(f"GRANT SELECT ON {', '.join(READABLE_NAMES)} TO {name}")
    for each in await generations.live_generations(connection):
        await _grant_generation(connection, each, name)


async def grant_reads_like_catalogue(
    connection: asyncpg.pool.PoolConnectionProxy, name: GenerationName
) -> None:
    """Let every role that may read the catalogue's lists read what the API serves of a generation."""
    shared = await generations.shared_schema(connection)
    for row in await connection.fetch(_READERS, shared):
        await _grant_generation(connection, name, row[0])


async def _grant_generation(
    connection: asyncpg.pool.PoolConnectionProxy, name: GenerationName, role: str
) -> None:
    if name.schema is None:
        return
    tables = ", ".join(f"{name.schema}.{table}" for table in _OF_GENERATIONS)
    await connection.execute(f"GRANT USAGE ON SCHEMA {name.schema} TO {role}")
    await connection.execute(f"GRANT SELECT ON {tables} TO {role}")


async def role_findings(pool: asyncpg.Pool, role: str) -> list[str]:
    """The rights that `role` has in excess or lacks, a line each.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        found = await pool.fetchrow("SELECT rolsuper, rolcanlogin FROM pg_roles WHERE rolname = $1", role)
        if found is None:
            return [f"there is no role {role}"]
        lines = ["it is a superuser"] if found["rolsuper"] else []
        if not found["rolcanlogin"]:
            lines.append("it cannot log in")
        if await pool.fetchval("SELECT has_schema_privilege($1, current_schema(), 'CREATE')", role):
            lines.append("it can create tables")
        missing = set(READABLE_NAMES)
        for row in await pool.fetch(_TABLES):
            missing.discard(row["name"])
            lines += await _findings_of(pool, role, row["name"], is_sequence=row["is_sequence"])
    lines += [f"{name} is not there" for name in sorted(missing)]
    for served in (await generations.serving_generations(pool)).values():
        if served.schema is not None and not await pool.fetchval(
            "SELECT has_schema_privilege($1, $2, 'USAGE') AND bool_and(has_table_privilege($1, $2 || '.' || name, 'SELECT'))"
            " FROM unnest($3::text[]) AS name",
            role,
            served.schema,
            _OF_GENERATIONS,
        ):
            lines.append(f"it cannot read {served.schema}, which serves readers")
    return lines


async def _findings_of(pool: asyncpg.Pool, role: str, name: str, *, is_sequence: bool) -> list[str]:
    what = "sequence" if is_sequence else "table"
    asked = ("SELECT", "USAGE", "UPDATE") if is_sequence else ("SELECT", *_WRITES)
    rights = {
        right
        for right in asked
        if await pool.fetchval(f"SELECT has_{what}_privilege($1, quote_ident($2), $3)", role, name, right)
    }
    lines = []
    if name in READABLE_NAMES and "SELECT" not in rights:
        lines.append(f"it cannot read {name}")
    if name not in READABLE_NAMES and "SELECT" in rights:
        lines.append(f"it can read {name}")
    if writes := sorted(rights - {"SELECT"}):
        lines.append(f"it can change {name} ({', '.join(writes)})")
    return lines
