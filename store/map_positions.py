"""Positions of tracks on the map: written by the workers, read by the API.

Every function raises `StoreUnavailableError` if Postgres cannot be reached. Each change of a position gets the next number
of a sequence, under a lock that all writers take: a reader that has read up to a number has missed none below it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from store.pool import snapshot, transaction, translated_errors
from streams.metadata_fields import LIST_FIELDS

Pool = asyncpg.Pool

# Names the map among the advisory locks of this database.
_LOCK = 0x6D6170
_LOCKED = f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(current_schema()))"

# A newcomer's position is the weighted mean of so many neighbours.
_NEAREST = 15
# A neighbour's weight grows e-fold for 0.05 of cosine similarity.
_STEEPNESS = 20
# A re-embedded track keeps its position unless its neighbours are further away than this, in the map's units.
_MOVED = 1.0

_PLACE = f"""
WITH homeless AS MATERIALIZED (
    SELECT l.key, l.neighbours[1:{_NEAREST}] AS neighbours, l.scores[1:{_NEAREST}] AS scores
    FROM tracks AS t
    JOIN neighbour_lists AS l USING (key)
    LEFT JOIN map_positions AS p USING (key)
    WHERE cardinality(l.neighbours) > 0
        AND (p.key IS NULL OR (p.placed_at < t.updated_at AND l.generated_at >= t.updated_at))
    LIMIT $1
)
INSERT INTO map_positions AS m (key, x, y, change, settled, placed_at)
SELECT h.key, sum(p.x * w.weight) / sum(w.weight), sum(p.y * w.weight) / sum(w.weight), nextval('map_change'), false, now()
FROM homeless AS h
CROSS JOIN LATERAL unnest(h.neighbours, h.scores) AS u (key, score)
CROSS JOIN LATERAL (SELECT exp({_STEEPNESS} * (u.score - h.scores[1])) AS weight) AS w
JOIN map_positions AS p ON p.key = u.key
GROUP BY h.key
ON CONFLICT (key) DO UPDATE SET
    x = CASE WHEN (excluded.x - m.x) ^ 2 + (excluded.y - m.y) ^ 2 > {_MOVED**2} THEN excluded.x ELSE m.x END,
    y = CASE WHEN (excluded.x - m.x) ^ 2 + (excluded.y - m.y) ^ 2 > {_MOVED**2} THEN excluded.y ELSE m.y END,
    change = excluded.change,
    placed_at = excluded.placed_at
"""  # noqa: S608 -- numbers of this module's own

_STATE = """
SELECT
    (SELECT count(*) FROM tracks) AS tracks,
    (SELECT count(*) FROM neighbour_lists WHERE cardinality(neighbours) > 0) AS lists,
    (SELECT count(*) FROM map_positions WHERE settled) AS settled,
    (SELECT count(*) FROM map_positions AS m WHERE NOT EXISTS (SELECT FROM tracks AS t WHERE t.key = m.key)) AS gone
"""

_PAGE = """
SELECT m.change, t.track_id, m.x, m.y, {value} AS value
FROM map_positions AS m JOIN tracks AS t USING (key)
WHERE m.change > $1 ORDER BY m.change LIMIT $2
"""


class MapState(NamedTuple):
    """How far the map has come.

    Attributes:
        tracks: Tracks in the catalogue.
        lists: Tracks that have neighbours.
        settled: Places that a layout has found.
        gone: Places of tracks that are gone.
    """

    tracks: int
    lists: int
    settled: int
    gone: int


class MapGraph(NamedTuple):
    """What a layout is computed from; rows are in one order.

    Attributes:
        keys: (n,) int64.
        neighbours: (n, k) int64 keys, 0 where a list is shorter.
        scores: (n, k) float32.
        places: (n, 2) float32, zeros where there is none yet.
        placed: (n,) whether there is one.
    """

    keys: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    placed: npt.NDArray[np.bool_]


class MapPoint(NamedTuple):
    """A track on the map: `value` is the field that was asked for, as text."""

    change: int
    track_id: str
    x: float
    y: float
    value: str | None


async def fetch_version(pool: asyncpg.Pool) -> int:
    """What moves with every list that is written: one look at a sequence."""
    with translated_errors():
        version: int = await pool.fetchval("SELECT last_value FROM list_version")
    return version


async def fetch_state(pool: asyncpg.Pool) -> MapState:
    """How far the map has come: counts whole tables."""
    with translated_errors():
        row = await pool.fetchrow(_STATE)
    assert row is not None
    return MapState(*row)


async def place_newcomers(pool: asyncpg.Pool, limit: int) -> int:
    """Put up to `limit` tracks without a place at the weighted place of their neighbours; return how many were."""
    async with transaction(pool) as connection:
        await connection.execute(_LOCKED)
        status: str = await connection.execute(_PLACE, limit)
    return int(status.rpartition(" ")[2])


async def read_graph(pool: asyncpg.Pool, width: int) -> MapGraph:
    """The lists, up to `width` neighbours each, and the places that there are."""
    async with snapshot(pool) as connection:
        rows = await connection.fetch(
            "SELECT l.key, l.neighbours[1:$1], l.scores[1:$1], p.x, p.y FROM neighbour_lists AS l"
            " JOIN tracks AS t USING (key) LEFT JOIN map_positions AS p USING (key)"
            " WHERE cardinality(l.neighbours) > 0 ORDER BY l.key",
            width,
        )
    count = len(rows)
    neighbours = np.zeros((count, width), np.int64)
    scores = np.zeros((count, width), np.float32)
    for at, row in enumerate(rows):
        length = len(row[1])
        neighbours[at, :length], scores[at, :length] = row[1], row[2]
    placed = np.array([row[3] is not None for row in rows], dtype=np.bool_)
    places = np.array([(row[3] or 0.0, row[4] or 0.0) for row in rows], dtype=np.float32).reshape(count, 2)
    return MapGraph(np.array([row[0] for row in rows], np.int64), neighbours, scores, places, placed)


async def read_vectors(pool: asyncpg.Pool, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The embeddings of these tracks, in their order, zeros for one that is gone."""
    with translated_errors():
        rows = await pool.fetch(
            "SELECT k.at, t.embedding FROM unnest($1::bigint[]) WITH ORDINALITY AS k (key, at) JOIN tracks AS t USING (key)",
            keys.tolist(),
        )
    if not rows:
        return np.zeros((len(keys), 1), np.float32)
    vectors = np.zeros((len(keys), len(rows[0][1]) // 4), np.float32)
    for at, embedding in rows:
        vectors[at - 1] = np.frombuffer(embedding, dtype="<f4")
    return vectors


async def write_layout(
    pool: asyncpg.Pool, keys: npt.NDArray[np.int64], places: npt.NDArray[np.float32]
) -> None:
    """Put all these tracks where a layout has found them, and forget the places of tracks that are gone."""
    async with transaction(pool) as connection:
        await connection.execute(_LOCKED)
        await connection.execute("CREATE TEMP TABLE laid_out (key bigint, x real, y real) ON COMMIT DROP")
        records = zip(keys.tolist(), places[:, 0].tolist(), places[:, 1].tolist(), strict=True)
        await connection.copy_records_to_table("laid_out", records=records, columns=("key", "x", "y"))
        await connection.execute(
            "INSERT INTO map_positions (key, x, y, change, settled, placed_at)"
            " SELECT key, x, y, nextval('map_change'), true, now() FROM laid_out"
            " ON CONFLICT (key) DO UPDATE SET x = excluded.x, y = excluded.y, change = excluded.change, settled = true,"
            " placed_at = excluded.placed_at"
        )
        await connection.execute(
            "DELETE FROM map_positions AS m WHERE NOT EXISTS (SELECT FROM tracks AS t WHERE t.key = m.key)"
        )


async def read_points(
    pool: asyncpg.Pool, *, after: int, limit: int, column: str | None, extra: str | None
) -> list[MapPoint]:
    """Places that have changed since the change `after`, in the order of their changes.

    Args:
        pool: Where to read.
        after: 0 for all.
        limit: Points, at most.
        column: A field of metadata, in `store.columns.METADATA_FIELDS`, whose value each point brings.
        extra: Else a key of `extra`.
    """
    value, values = "NULL", list[str]()
    if column is not None:
        # Of a list, its first.
        value = f"t.{column}[1]" if column in LIST_FIELDS else f"t.{column}::text"
    elif extra is not None:
        value, values = "t.extra ->> $3", [extra]
    with translated_errors():
        rows = await pool.fetch(_PAGE.format(value=value), after, limit, *values)
    return [MapPoint(*row) for row in rows]


def rows_of(keys: npt.NDArray[np.int64], neighbours: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each neighbour stands among the sorted `keys`, -1 for one that is not there."""
    at = np.searchsorted(keys, neighbours)
    at = np.minimum(at, max(len(keys) - 1, 0))
    return np.where(keys[at] == neighbours, at, -1)


def described_map(points: Sequence[MapPoint]) -> dict[str, object]:
    """Points as columns, values as numbers of a list of names: a third of the size that an object a point would have."""
    names: dict[str | None, int] = {}
    codes = [names.setdefault(point.value, len(names)) for point in points]
    return {
        "ids": [point.track_id for point in points],
        "x": [round(point.x, 4) for point in points],
        "y": [round(point.y, 4) for point in points],
        "values": codes,
        "names": list(names),
    }
