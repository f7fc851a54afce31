"""Generations: one row each in the catalogue's schema, and a schema of its own for each but the first.

A connection whose `search_path` begins with a generation's schema reads and writes that generation's tables, and the
catalogue's where a table is shared; every statement of the other modules works so. This module names the catalogue's schema,
wherever a statement is about both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store import layouts
from store.errors import StoreError
from store.layouts import StoredLayout
from store.lives import IS_ALIVE
from store.pool import translated_errors
from streams.generations import DEFAULT_SPACE, FIRST_GENERATION, GenerationName

# What every generation has of its own. The rest is shared: interactions, popularity, words, keys, dead letters, sequences.
OWN_TABLES: Final = (
    "tracks",
    "neighbour_lists",
    "list_history",
    "told_lists",
    "told_offsets",
    "map_positions",
    "ingest_partitions",
    "owner_progress",
    "departures",
    "moves",
    "withdrawals",
    "catalogue",
    "materialised_recommendations",
    "worker_lives",
)
# Views of these.
OWN_VIEWS: Final = ("absorbed_offsets",)
_SHARED_SCHEMA = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'generations'::regclass"
# Constraints are named after the columns where a table is made like another; `store.tracks` knows this one by its name.
_RENAME: Final = "ALTER TABLE {schema}.tracks RENAME CONSTRAINT tracks_key_key TO uq_tracks_key"
_LIST = """
SELECT space, number, model, weights, serving, created_at, retired_at, served_until FROM generations ORDER BY space, number
"""


class GenerationError(StoreError):
    """A generation is not there, or not in the state that is asked of it."""


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """A generation.

    Attributes:
        name: Its name.
        model: The model that makes its vectors, if that was said.
        weights: The weights of their aspects, as `name:weight,...`, if that was said.
        serving: Whether readers get its lists.
        created_at: When it was created.
        retired_at: When it was retired: it has no tables any more.
        served_until: When it last ceased to serve; None: it never has.
    """

    name: GenerationName
    model: str | None
    weights: str | None
    serving: bool
    created_at: datetime
    retired_at: datetime | None
    served_until: datetime | None

    @property
    def state(self) -> str:
        """`serving`, `beside` or `retired`."""
        if self.retired_at is not None:
            return "retired"
        return "serving" if self.serving else "beside"


@dataclass(frozen=True, slots=True)
class GenerationCounts:
    """A generation beside the catalogue.

    Attributes:
        tracks: Tracks of the catalogue.
        vectors: Tracks with a vector in the generation.
        missing: Tracks of the catalogue without one.
        first_missing: The first few of them.
        lists: Lists in the generation.
        full_lists: Lists as long as the generation allows.
        dimension: Length of its vectors; None before the first.
        model: The model that its vectors name.
        consumed: By partition of its topic, the next offset to read.
        workers: Workers that have been seen within the last 15 seconds.
        answering: Those of them that can answer questions.
    """

    tracks: int
    vectors: int
    missing: int
    first_missing: list[str]
    lists: int
    full_lists: int
    dimension: int | None
    model: str | None
    consumed: dict[int, int]
    workers: int
    answering: int


async def list_generations(connection: PoolConnectionProxy | asyncpg.Pool) -> list[StoredGeneration]:
    """Every generation, retired ones too, by name."""
    with translated_errors():
        rows = await connection.fetch(_LIST)
    return [StoredGeneration(GenerationName(*row[:2]), *row[2:]) for row in rows]


async def live_generations(connection: PoolConnectionProxy | asyncpg.Pool) -> list[GenerationName]:
    """The generations that are not retired, by name."""
    return [each.name for each in await list_generations(connection) if each.retired_at is None]


async def find_generation(
    connection: PoolConnectionProxy | asyncpg.Pool, name: GenerationName
) -> StoredGeneration:
    """A generation that is not retired.

    Raises:
        GenerationError: There is none of this name.
    """
    every = await list_generations(connection)
    found = next((each for each in every if each.name == name), None)
    if found is None:
        there = ", ".join(str(each.name) for each in every if each.retired_at is None)
        raise GenerationError(f"there is no generation {name}; there are {there}")
    if found.retired_at is not None:
        raise GenerationError(f"generation {name} was retired on {found.retired_at:%Y-%m-%d %H:%M} UTC")
    return found


async def serving_generations(connection: PoolConnectionProxy | asyncpg.Pool) -> dict[str, GenerationName]:
    """By space, the generation whose lists readers get; spaces that none serves are left out."""
    with translated_errors():
        rows = await connection.fetch("SELECT space, number FROM generations WHERE serving ORDER BY space")
    return {row["space"]: GenerationName(row["space"], row["number"]) for row in rows}


async def require_serving(
    connection: PoolConnectionProxy | asyncpg.Pool, space: str = DEFAULT_SPACE
) -> GenerationName:
    """The generation of a space whose lists readers get.

    Raises:
        GenerationError: None serves it.
    """
    serving = await serving_generations(connection)
    if space not in serving:
        raise GenerationError(
            f"no generation of space {space} serves; spaces that serve: {', '.join(sorted(serving))}"
        )
    return serving[space]


async def generation_layout(pool: asyncpg.Pool, name: GenerationName) -> StoredLayout | None:
    """The layout of a generation's vectors; None before the first."""
    with translated_errors():
        own = name.schema or await shared_schema(pool)
        return await layouts.read_layout(pool, schema=own)


async def require_own_schema(pool: asyncpg.Pool, name: GenerationName) -> None:
    """Check that the tables that a generation's worker would write to are its own.

    Raises:
        GenerationError: Something between it and Postgres, such as a pooler, passes the URL's `search_path` over.
        StoreUnavailableError: Postgres cannot be reached.
    """
    if name.schema is None:
        return
    with translated_errors():
        found = await pool.fetchval("SELECT current_schema()")
    if found != name.schema:
        raise GenerationError(
            f"the tables of generation {name} are in schema {name.schema}, and this connection writes to {found}: "
            "does a pooler ignore the startup parameter search_path?"
        )


async def require_readable(pool: asyncpg.Pool, name: GenerationName) -> None:
    """Check that this role may read of a generation what it may read of the catalogue.

    Raises:
        GenerationError: It may not, or the schema is not there.
        StoreUnavailableError: Postgres cannot be reached.
    """
    if name.schema is None:
        return
    with translated_errors():
        shared = await shared_schema(pool)
        row = await pool.fetchrow(_HIDDEN, name.schema, shared)
    assert row is not None
    if row["usable"] is None:
        raise GenerationError(f"there is no schema {name.schema}")
    hidden = ", ".join(row["hidden"]) if row["usable"] else f"schema {name.schema}"
    if hidden:
        raise GenerationError(
            f"the database role {row['role']} may not read {hidden} of generation {name}: "
            f"`mess roles grant --role {row['role']}` grants that"
        )


_HIDDEN: Final = """
SELECT current_user AS role, has_schema_privilege(own, 'USAGE') AS usable, ARRAY(
    SELECT t.relname::text FROM pg_class AS t JOIN pg_class AS c USING (relname)
    WHERE t.relnamespace = own AND c.relnamespace = to_regnamespace($2) AND t.relkind = 'r'
        AND has_table_privilege(c.oid, 'SELECT') AND NOT has_table_privilege(t.oid, 'SELECT')
    ORDER BY t.relname
) AS hidden
FROM to_regnamespace($1) AS own
"""


async def create_generation(
    connection: PoolConnectionProxy, space: str, model: str | None, weights: str | None = None
) -> StoredGeneration:
    """Create the next generation of a space, with empty tables. Must run inside a transaction.

    Raises:
        GenerationError: This role may not create schemas.
    """
    await connection.execute("LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE")
    number = await connection.fetchval(
        "SELECT coalesce(max(number), 0) + 1 FROM generations WHERE space = $1", space
    )
    name = GenerationName(space, number)
    assert name.schema is not None
    await connection.execute(
        "INSERT INTO generations (space, number, model, weights) VALUES ($1, $2, $3, $4)",
        space,
        number,
        model,
        weights,
    )
    try:
        await connection.execute(f"CREATE SCHEMA {name.schema}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise GenerationError(f"this database role may not create a schema: {error}") from error
    shared = await shared_schema(connection)
    for table in OWN_TABLES:
        await _copy_table(connection, shared, name.schema, table)
    await connection.execute(_RENAME.format(schema=name.schema))
    for view in OWN_VIEWS:
        await _copy_view(connection, name, view)
    return await find_generation(connection, name)


async def _copy_table(connection: PoolConnectionProxy, shared: str, schema: str, table: str) -> None:
    await connection.execute(f"CREATE TABLE {schema}.{table} (LIKE {shared}.{table} INCLUDING ALL)")
    # LIKE leaves storage parameters of tables out.
    options = await connection.fetchval(
        "SELECT reloptions FROM pg_class WHERE oid = $1::text::regclass", f"{shared}.{table}"
    )
    for option in options or ():
        await connection.execute(f"ALTER TABLE {schema}.{table} SET ({option})")


async def _copy_view(connection: PoolConnectionProxy, name: GenerationName, view: str) -> None:
    # Names of tables that the path finds are without a schema, and then mean those of the other one.
    async with tables_of(connection, FIRST_GENERATION):
        said = await connection.fetchval("SELECT pg_get_viewdef($1::text::regclass)", view)
    async with tables_of(connection, name):
        await connection.execute(f"CREATE VIEW {name.schema}.{view} AS {said}")


@asynccontextmanager
async def tables_of(connection: PoolConnectionProxy, name: GenerationName) -> AsyncIterator[None]:
    """Within the block, statements of this transaction are about a generation's tables."""
    shared = await shared_schema(connection)
    before = await connection.fetchval("SELECT current_setting('search_path')")
    path = shared if name.schema is None else f"{name.schema}, {shared}"
    await connection.execute(f"SET LOCAL search_path = {path}")
    yield
    # After an error the transaction is over, and its settings with it.
    await connection.execute("SELECT set_config('search_path', $1, true)", before)


async def drop_generation(connection: PoolConnectionProxy, name: GenerationName) -> None:
    """Drop a generation's tables, and remember that it is retired. Must run inside a transaction.

    Raises:
        GenerationError: It serves or did a moment ago, it is the first, it is not there, or one of its workers runs.
    """
    schema = await _require_retirable(connection, await find_generation(connection, name))
    if await seconds_in_use(connection, name) > 0:
        raise GenerationError(
            f"generation {name} served until a moment ago: answers of it may be on their way"
        )
    await connection.execute(f"DROP SCHEMA {schema} CASCADE")
    await connection.execute(
        "UPDATE generations SET retired_at = now() WHERE space = $1 AND number = $2", name.space, name.number
    )


async def end_service(connection: PoolConnectionProxy, name: GenerationName) -> None:
    """Let the last generation of a further space serve no more: then none does. Must run inside a transaction.

    Raises:
        GenerationError: The space has others, of which one could serve, or the generation cannot be retired.
    """
    await connection.execute("LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE")
    await _require_retirable(connection, await find_generation(connection, name), serving=True)
    await stop_serving(connection, name)


async def stop_serving(connection: PoolConnectionProxy, name: GenerationName) -> None:
    """Note that a generation serves no more, if it did. Must run inside a transaction that has the table locked."""
    await connection.execute(
        "UPDATE generations SET serving = false, served_until = clock_timestamp() WHERE space = $1 AND number = $2 AND serving",
        name.space,
        name.number,
    )


async def seconds_in_use(connection: PoolConnectionProxy | asyncpg.Pool, name: GenerationName) -> float:
    """For how many more seconds answers of a generation may be on their way that serves no more; 0: none can be."""
    left = await connection.fetchval(_IN_USE, name.space, name.number)
    return max(0.0, left or 0.0)


async def _require_retirable(
    connection: PoolConnectionProxy, found: StoredGeneration, *, serving: bool = False
) -> str:
    """The schema of a generation that may be dropped, or, with `serving`, may be once it has ceased to serve."""
    name = found.name
    if name.schema is None:
        raise GenerationError(f"generation {name} holds the metadata of the catalogue, and cannot be retired")
    if found.serving:
        others = [
            str(other)
            for other in await live_generations(connection)
            if other.space == name.space and other != name
        ]
        if name.space == DEFAULT_SPACE:
            raise GenerationError(
                f"generation {name} serves, and cannot be retired: promote another one first"
            )
        if others:
            raise GenerationError(
                f"generation {name} serves, and cannot be retired: promote or retire {', '.join(others)} first"
            )
        if not serving:
            raise GenerationError(f"generation {name} serves")
    alive = await connection.fetchval(_ALIVE.format(schema=name.schema))
    if alive:
        raise GenerationError(f"{alive} worker(s) of generation {name} still run; stop them first")
    return name.schema


# A request that began before a generation ceased to serve may read its tables for so long.
_IN_USE: Final = """
SELECT extract(epoch FROM served_until + interval '1 minute' - clock_timestamp())::float8
FROM generations WHERE space = $1 AND number = $2 AND NOT serving AND retired_at IS NULL
"""
_ALIVE: Final = f"SELECT count(*) FROM {{schema}}.worker_lives WHERE {IS_ALIVE}"  # noqa: S608 -- own names


async def shared_schema(connection: PoolConnectionProxy | asyncpg.Pool) -> str:
    """The catalogue's schema, quoted for a statement."""
    found: str = await connection.fetchval(_SHARED_SCHEMA)
    return found


async def count_generation(
    pool: asyncpg.Pool, name: GenerationName, *, length: int, named: int = 5
) -> GenerationCounts:
    """Count a generation's vectors and lists beside the catalogue.

    Args:
        pool: Of the catalogue.
        name: The generation.
        length: Neighbours of a full list in a large catalogue.
        named: How many missing tracks are named.
    """
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        shared = await shared_schema(connection)
        own = name.schema or shared
        row = await connection.fetchrow(_COUNT.format(shared=shared, own=own), length)
        first = await connection.fetch(_MISSING.format(shared=shared, own=own), named)
        consumed = await connection.fetch(f"SELECT partition, consumed_offset FROM {own}.ingest_partitions")  # noqa: S608
    assert row is not None
    return GenerationCounts(
        tracks=row["tracks"],
        vectors=row["vectors"],
        missing=row["missing"],
        first_missing=[each[0] for each in first],
        lists=row["lists"],
        full_lists=row["full_lists"],
        dimension=row["dimension"],
        model=row["model"],
        consumed={each[0]: each[1] for each in consumed},
        workers=row["workers"],
        answering=row["answering"],
    )


_ABSENT = "FROM {shared}.tracks AS c WHERE NOT EXISTS (SELECT FROM {own}.tracks AS t WHERE t.key = c.key)"
_MISSING: Final = f"SELECT c.track_id {_ABSENT} ORDER BY c.track_id LIMIT $1"
_COUNT: Final = f"""
WITH size AS (SELECT count(*) AS vectors FROM {{own}}.tracks)
SELECT (SELECT count(*) FROM {{shared}}.tracks) AS tracks, size.vectors,
    (SELECT count(*) {_ABSENT}) AS missing, lists.lists, lists.full_lists,
    (SELECT dimension FROM {{own}}.catalogue) AS dimension, (SELECT model FROM {{own}}.catalogue) AS model,
    workers.*
FROM size, (
    SELECT count(*) AS workers, count(questions_url) AS answering FROM {{own}}.worker_lives WHERE {IS_ALIVE}
) AS workers, LATERAL (
    SELECT count(*) AS lists,
        count(*) FILTER (WHERE cardinality(neighbours) >= least($1::bigint, size.vectors - 1)) AS full_lists
    FROM {{own}}.neighbour_lists
) AS lists
"""  # noqa: S608
