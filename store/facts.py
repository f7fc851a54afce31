"""Reads metadata of all tracks, column by column."""

from collections.abc import Mapping, Sequence
from typing import Any

from asyncpg.pool import PoolConnectionProxy

from store.columns import METADATA_FIELDS

_EXTRA = "extra."


async def read_facts(connection: PoolConnectionProxy, fields: Sequence[str]) -> dict[int, Mapping[str, Any]]:
    """The values of `fields` for every track, by its key. Call it inside a transaction.

    Args:
        connection: In a transaction, which a cursor needs.
        fields: Of `store.columns.METADATA_FIELDS`, or `extra.<key>`, which is read as text.

    Raises:
        ValueError: There is no such field.
    """
    plain = [name for name in fields if not name.startswith(_EXTRA)]
    inner = [name.removeprefix(_EXTRA) for name in fields if name.startswith(_EXTRA)]
    unknown = set(plain) - set(METADATA_FIELDS)
    if unknown:
        raise ValueError(f"no such fields: {', '.join(sorted(unknown))}")
    chosen = ["key", *plain, *(f"extra ->> ${number}" for number in range(1, len(inner) + 1))]
    query = f"SELECT {', '.join(chosen)} FROM tracks"  # noqa: S608 -- checked names and placeholders
    cursor = await connection.cursor(query, *inner)
    names = [*plain, *(f"{_EXTRA}{name}" for name in inner)]
    found: dict[int, Mapping[str, Any]] = {}
    while rows := await cursor.fetch(2048):
        for row in rows:
            key, *values = row
            found[key] = dict(zip(names, values, strict=True))
    return found
