"""Two generations side by side: statements that read both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from store.generations import shared_schema
from store.pool import translated_errors
from streams.generations import GenerationName


@dataclass(frozen=True, slots=True)
class GenerationList:
    """A track's list in one generation: keys, most similar first, of tracks that both generations have."""

    key: int
    neighbours: list[int]


_BOTH: Final = """
FROM {left}.neighbour_lists AS a JOIN {right}.neighbour_lists AS b USING (key)
"""
_OF_BOTH: Final = f"""
SELECT a.key, a.neighbours AS one, b.neighbours AS other {_BOTH}
ORDER BY hashint8extended(a.key, $2), a.key LIMIT $1
"""


async def read_lists_of_both(
    pool: asyncpg.Pool, left: GenerationName, right: GenerationName, limit: int, seed: int
) -> tuple[int, list[tuple[GenerationList, GenerationList]]]:
    """How many tracks have a list in both generations, and both lists of some of them, drawn by `seed`."""
    with translated_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            shared = await shared_schema(connection)
            names = {"left": left.schema or shared, "right": right.schema or shared}
            common = await connection.fetchval(f"SELECT count(*) {_BOTH}".format(**names))
            rows = await connection.fetch(_OF_BOTH.format(**names), limit, seed)
    return common, [(GenerationList(row[0], row[1]), GenerationList(row[0], row[2])) for row in rows]


async def read_names_and_labels(
    pool: asyncpg.Pool, keys: Sequence[int], labels: Sequence[str]
) -> tuple[dict[int, str], dict[int, tuple[Any, ...]]]:
    """By key, the ids of the catalogue's tracks, and some of their columns."""
    with translated_errors():
        shared = await shared_schema(pool)
        rows = await pool.fetch(
            f"SELECT key, track_id, {', '.join(labels)} FROM {shared}.tracks WHERE key = ANY($1::bigint[])",  # noqa: S608
            list(keys),
        )
    return {row[0]: row[1] for row in rows}, {row[0]: tuple(row[2:]) for row in rows}


@dataclass(frozen=True, slots=True)
class DifferingLists:
    """How far two generations that should hold the same lists do not.

    Attributes:
        equal: Tracks whose lists name the same neighbours in the same order.
        different: Tracks with another list in each.
        left_only: Tracks with a list in one alone.
        right_only: Tracks with a list in the other alone.
        first: The first few tracks that are not equal.
    """

    equal: int
    different: int
    left_only: int
    right_only: int
    first: list[str]


_EITHER: Final = "FROM {left}.neighbour_lists AS a FULL JOIN {right}.neighbour_lists AS b USING (key)"
_UNEQUAL: Final = f"""
SELECT count(*) FILTER (WHERE a.neighbours = b.neighbours), count(*) FILTER (WHERE a.neighbours <> b.neighbours),
    count(*) FILTER (WHERE b.neighbours IS NULL), count(*) FILTER (WHERE a.neighbours IS NULL)
{_EITHER}
"""
_FIRST: Final = f"""
SELECT coalesce(t.track_id, key::text) {_EITHER} LEFT JOIN {{shared}}.tracks AS t USING (key)
WHERE a.neighbours IS DISTINCT FROM b.neighbours ORDER BY 1 LIMIT $1
"""  # noqa: S608 -- own names


async def compare_lists(
    pool: asyncpg.Pool, left: GenerationName, right: GenerationName, *, named: int = 5
) -> DifferingLists:
    """Compare every list of one generation with the other's, in one snapshot."""
    with translated_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            shared = await shared_schema(connection)
            names = {"left": left.schema or shared, "right": right.schema or shared, "shared": shared}
            counts = await connection.fetchrow(_UNEQUAL.format(**names))
            first = await connection.fetch(_FIRST.format(**names), named)
    assert counts is not None
    equal, different, left_only, right_only = counts
    return DifferingLists(equal, different, left_only, right_only, [row[0] for row in first])
