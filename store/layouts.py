"""The layout of the catalogue's vectors: fixed once, by its first track."""

from typing import NamedTuple

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store.pool import translated_errors

_READ = "SELECT dimension, aspects, model FROM {schema}catalogue"


class StoredLayout(NamedTuple):
    """The layout as the store has it.

    Attributes:
        dimension: The length of the vectors.
        aspects: Name, size and weight of each named part, in the order of the components; none: there are no parts.
        model: The name of the model that makes them; None where no event has said.
    """

    dimension: int
    aspects: list[tuple[str, int, float]] = []  # noqa: RUF012 -- never changed
    model: str | None = None


async def fix_layout(connection: PoolConnectionProxy, layout: StoredLayout) -> StoredLayout:
    """Make `layout` the catalogue's unless it has one; return the one it has."""
    await connection.execute(
        "INSERT INTO catalogue (dimension, aspects, model) VALUES ($1, $2, $3) ON CONFLICT (only_row) DO NOTHING",
        layout.dimension,
        layout.aspects or None,
        layout.model,
    )
    found = await read_layout(connection)
    assert found is not None
    return found


async def read_layout(
    connection: PoolConnectionProxy | asyncpg.Pool, *, schema: str | None = None
) -> StoredLayout | None:
    """The layout of the catalogue, or of the generation with this schema; None before the first track."""
    row = await connection.fetchrow(_READ.format(schema="" if schema is None else f"{schema}."))
    if row is None:
        return None
    return StoredLayout(
        row["dimension"],
        [(name, size, weight) for name, size, weight in row["aspects"] or []],
        row["model"],
    )


async def name_model(connection: PoolConnectionProxy, model: str) -> None:
    """Give the catalogue's model a name, if there is a catalogue and its model has none."""
    await connection.execute("UPDATE catalogue SET model = $1 WHERE model IS NULL", model)


async def read_dimension(connection: PoolConnectionProxy) -> int | None:
    """The length of the catalogue's vectors, or None before the first track."""
    layout = await read_layout(connection)
    return None if layout is None else layout.dimension


async def fetch_layout(pool: asyncpg.Pool) -> StoredLayout | None:
    """The catalogue's layout, which never changes; None before the first track.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        return await read_layout(pool)
