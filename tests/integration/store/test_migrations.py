"""Migrations: to head, as the tables say, down and up again."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from typer.testing import CliRunner

from mess import migrate
from mess.cli import build_cli
from store import generations
from store.columns import REVISION
from store.errors import SchemaMismatchError
from store.pool import require_schema
from streams.generations import GenerationName

pytestmark = pytest.mark.integration


def test_the_tables_are_what_the_migrations_make(empty_database_url: str) -> None:
    """After upgrading to head nothing is left to migrate, also after going down to nothing and up again."""
    migrate.upgrade_schema(empty_database_url)
    migrate.check_migrations(empty_database_url)
    migrate.downgrade_schema(empty_database_url, "base")
    migrate.upgrade_schema(empty_database_url)
    migrate.check_migrations(empty_database_url)


def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    """The revision that processes ask for at their start is Alembic's head."""
    script = ScriptDirectory.from_config(migrate.alembic_config("postgresql://u@127.0.0.1/none"))
    assert script.get_heads() == [REVISION]


async def test_tracks_are_searchable_after_the_migration(empty_database_url: str) -> None:
    """Tracks that were there before words were folded are found by folded words, and typos are corrected to theirs."""
    await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
    await asyncio.to_thread(migrate.downgrade_schema, empty_database_url, "0006")
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(
            "INSERT INTO tracks (track_id, key, title, tags, embedding, source_partition, source_offset, event_time)"
            " VALUES ('a', 1, 'Op.27 Dvořák', '{waltz}', '', 0, 0, now())"
        )
        await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
        query = "SELECT track_id FROM tracks WHERE search @@ $1::text::tsquery"
        assert await connection.fetchval(query, "'dvorak':A & '27' & 'waltz':B") == "a"
        words = await connection.fetch("SELECT word FROM search_words WHERE 'dvrak' = ANY(deletions)")
        assert [row["word"] for row in words] == ["dvorak"]
    finally:
        await connection.close()


async def test_tracks_and_deletions_of_before_are_older_than_any_other_partitions(
    empty_database_url: str,
) -> None:
    """Going down and up keeps them, with a time before all others."""
    await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(
            "INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time, appended_at,"
            " previous_partition) VALUES ('a', 1, '', 3, 7, now(), 99, 2);"
            "INSERT INTO departures (source_partition, source_offset, key, appended_at) VALUES (3, 8, 2, 99);"
            "INSERT INTO moves (to_partition, to_offset, from_partition, key) VALUES (3, 7, 2, 1)"
        )
        await asyncio.to_thread(migrate.downgrade_schema, empty_database_url, "0012")
        assert await connection.fetchval("SELECT key FROM departures") == 2
        await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
        track = await connection.fetchrow(
            "SELECT source_partition, source_offset, appended_at, previous_partition FROM tracks"
        )
        assert tuple(track) == (3, 7, 0, None)
        gone = await connection.fetchrow("SELECT appended_at, departed_at <= now() FROM departures")
        assert tuple(gone) == (0, True)
        assert await connection.fetchval("SELECT count(*) FROM moves") == 0
    finally:
        await connection.close()


async def test_absorbed_and_told_offsets_are_kept_up_and_down(empty_database_url: str) -> None:
    """One row a pair of partitions before, one an owner after, and the same rows on the way back."""
    await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
    await asyncio.to_thread(migrate.downgrade_schema, empty_database_url, "0014")
    connection = await asyncpg.connect(empty_database_url)
    read = "SELECT * FROM absorbed_offsets ORDER BY 1, 2"
    try:
        rows = [(0, 0, 5), (0, 2, 7), (3, 0, 9)]
        await connection.executemany("INSERT INTO absorbed_offsets VALUES ($1, $2, $3)", rows)
        await connection.executemany("INSERT INTO told_offsets VALUES ($1, $2, $3)", rows)
        await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
        for table in ("owner_progress", "told_offsets"):
            assert await connection.fetch(f"SELECT * FROM {table} ORDER BY 1") == [(0, [5, 0, 7]), (3, [9])]
        assert await connection.fetch(read) == [(0, 0, 5), (0, 1, 0), (0, 2, 7), (3, 0, 9)]
        await asyncio.to_thread(migrate.downgrade_schema, empty_database_url, "0014")
        assert await connection.fetch(read) == rows
        assert await connection.fetch("SELECT * FROM told_offsets ORDER BY 1, 2") == rows
    finally:
        await connection.close()


async def test_a_catalogue_of_before_is_the_first_generation(empty_database_url: str) -> None:
    """Going up moves no row of it; going down drops the other generations and leaves it as it was."""
    await asyncio.to_thread(migrate.upgrade_schema, empty_database_url, "0014")
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(
            "INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time)"
            " VALUES ('a', 1, '', 0, 0, now()); INSERT INTO catalogue (dimension) VALUES (4)"
        )
        row = await connection.fetchrow("SELECT xmin, ctid, * FROM tracks")
        await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
        (first,) = await generations.list_generations(connection)
        assert (first.name, first.state, first.model) == (GenerationName(), "serving", None)
        assert await connection.fetchrow("SELECT xmin, ctid, * FROM tracks") == row
        assert await connection.fetchval("SELECT model FROM catalogue") is None
        async with connection.transaction():
            made = await generations.create_generation(connection, "default", "m-2")
        assert await connection.fetchval(f"SELECT count(*) FROM {made.name.schema}.tracks") == 0
        await asyncio.to_thread(migrate.downgrade_schema, empty_database_url, "0014")
        assert await connection.fetchval("SELECT to_regnamespace('mess_default_2')") is None
        assert await connection.fetchrow("SELECT xmin, ctid, * FROM tracks") == row
        await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
        assert [each.name for each in await generations.list_generations(connection)] == [GenerationName()]
    finally:
        await connection.close()


async def test_generations_of_before_get_the_table_of_replaced_lists(empty_database_url: str) -> None:
    """Those that have not been retired, each with the readers that its lists have; going down keeps their lists."""
    await asyncio.to_thread(migrate.upgrade_schema, empty_database_url, "0018")
    connection = await asyncpg.connect(empty_database_url)
    readable = "SELECT has_table_privilege('pg_monitor', $1, 'SELECT')"
    try:
        await connection.execute(
            """
            INSERT INTO generations (space, number, serving, retired_at)
            VALUES ('default', 2, false, NULL), ('default', 3, false, now()), ('melody', 1, true, NULL);
            CREATE SCHEMA mess_default_2; CREATE SCHEMA mess_melody_1;
            CREATE TABLE mess_default_2.neighbour_lists (LIKE neighbour_lists INCLUDING ALL);
            CREATE TABLE mess_melody_1.neighbour_lists (LIKE neighbour_lists INCLUDING ALL);
            INSERT INTO mess_melody_1.neighbour_lists VALUES (1, '{2}', '{0.5}', 7, 0, 0, now(), now());
            GRANT SELECT ON mess_melody_1.neighbour_lists TO pg_monitor;
            """
        )
        lists = await connection.fetch("SELECT * FROM mess_melody_1.neighbour_lists")
        await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
        made = {schema: f"{schema}.list_history" for schema in ("public", "mess_default_2", "mess_melody_1")}
        assert [await connection.fetchval(readable, name) for name in made.values()] == [False, False, True]
        assert await connection.fetch("SELECT * FROM mess_melody_1.neighbour_lists") == lists
        await asyncio.to_thread(migrate.downgrade_schema, empty_database_url, "0018")
        for name in made.values():
            assert await connection.fetchval("SELECT to_regclass($1)", name) is None
        assert await connection.fetch("SELECT * FROM mess_melody_1.neighbour_lists") == lists
    finally:
        await connection.close()


async def test_a_generation_has_the_tables_of_the_catalogue(database_url: str) -> None:
    """Column by column, with their indexes, checks and storage parameters."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            made = await generations.create_generation(connection, "default", None)
        for table in generations.OWN_TABLES:
            shapes = [
                await shape_of(connection, f"{schema}.{table}") for schema in ("public", made.name.schema)
            ]
            assert shapes[0] == shapes[1], table
        found = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'",
            made.name.schema,
        )
        assert {each[0] for each in found} == set(generations.OWN_TABLES)
        views = await connection.fetch(
            "SELECT viewname FROM pg_views WHERE schemaname = $1", made.name.schema
        )
        assert {each[0] for each in views} == set(generations.OWN_VIEWS)
        taken = (
            "INSERT INTO {}.tracks (track_id, key, embedding, source_partition, source_offset, event_time)"
        )
        await connection.execute(taken.format(made.name.schema) + " VALUES ('a', 1, '', 0, 0, now())")
        with pytest.raises(asyncpg.UniqueViolationError) as clash:
            await connection.execute(taken.format(made.name.schema) + " VALUES ('b', 1, '', 0, 0, now())")
        assert clash.value.constraint_name == "uq_tracks_key"
        assert await connection.fetchval("SELECT count(*) FROM tracks") == 0
    finally:
        await connection.close()


async def shape_of(connection: asyncpg.Connection, table: str) -> list[object]:
    """What a table is made up of, without names of its schema and of its constraints."""
    columns = await connection.fetch(
        "SELECT attname, atttypid::regtype::text, attnotnull, attidentity, attstorage, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    indexes = await connection.fetch(
        "SELECT substring(pg_get_indexdef(indexrelid) FROM ' USING .*'), indisunique, indisprimary"
        " FROM pg_index WHERE indrelid = $1::text::regclass",
        table,
    )
    checks = await connection.fetch(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'c'",
        table,
    )
    options = await connection.fetchval(
        "SELECT reloptions FROM pg_class WHERE oid = $1::text::regclass", table
    )
    return [
        [tuple(row) for row in columns],
        sorted(tuple(row) for row in indexes),
        sorted(tuple(row) for row in checks),
        options,
    ]


def test_two_migrations_at_once_both_end_well(empty_database_url: str) -> None:
    """Two deployments that migrate at the same moment leave one good schema."""
    environment = os.environ | {"MESS_DATABASE_URL": empty_database_url}
    commands = [
        subprocess.Popen([sys.executable, "-m", "mess", "migrate"], env=environment) for _ in range(2)
    ]
    assert [command.wait(60) for command in commands] == [0, 0]
    migrate.check_migrations(empty_database_url)


def test_another_schema_is_refused(empty_database_url: str) -> None:
    """A process does not start on a database that has not been migrated, and the error says what to do."""

    async def start() -> None:
        async with asyncpg.create_pool(empty_database_url, min_size=1, max_size=1) as pool:
            await require_schema(pool)

    with pytest.raises(SchemaMismatchError, match="mess migrate"):
        asyncio.run(start())


async def test_the_api_role_can_read_and_not_write(api_database_url: str) -> None:
    """The API's role may select what it serves, and nothing else."""
    connection = await asyncpg.connect(api_database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM tracks") == 0
        # Without the role's own caution, so that it is its rights that are tried.
        await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        for statement in (
            "DELETE FROM tracks",
            "UPDATE neighbour_lists SET version = 0",
            "INSERT INTO catalogue (dimension) VALUES (4)",
            "CREATE TABLE mine (a int)",
            "SELECT nextval('list_version')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("mode", ["disable", "prefer", "allow"])
def test_every_part_reads_the_modes_of_tls_alike(empty_database_url: str, mode: str) -> None:
    """A URL with `sslmode` migrates, and tells of its revision, as it connects everywhere else."""
    url = f"{empty_database_url}?sslmode={mode}"
    assert migrate.read_revision(url) is None
    migrate.upgrade_schema(url)
    assert migrate.read_revision(url) == REVISION


@pytest.mark.parametrize("command", [["migrate"], ["migrate", "--show"]])
def test_a_server_without_the_tls_that_is_asked_for_is_one_line(
    empty_database_url: str, command: list[str]
) -> None:
    """`sslmode=require` on a server that has no TLS is refused by each way in, without a traceback."""
    environment = {"MESS_DATABASE_URL": f"{empty_database_url}?sslmode=require"}
    done = CliRunner().invoke(build_cli(), command, env=environment)
    assert done.exit_code == 2
    assert "The database cannot be migrated" in done.stderr
    assert "SSL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://a:secret-word@b/c", "must begin with postgresql://"),
        (
            "postgresql://a:secret-word@b/c?sslmode=yes",
            "sslmode must be one of disable, allow, prefer, require",
        ),
    ],
)
def test_a_url_that_cannot_be_meant_is_one_line_without_its_password(url: str, says: str) -> None:
    """What is wrong with it is said, and nothing of it is repeated."""
    done = CliRunner().invoke(build_cli(), ["migrate"], env={"MESS_DATABASE_URL": url})
    assert done.exit_code == 2
    assert says in done.stderr
    assert "secret-word" not in done.stderr
