"""Reads that serve requests about tracks, and what a catalogue holds.

Every function takes one connection of the pool for one round trip (`list_tracks` two), computes no similarity,
and raises `StoreUnavailableError` where Postgres cannot be reached.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from store.columns import METADATA_FIELDS
from store.pool import translated

Metadata = dict[str, Any]

_METADATA = ", ".join(f"t.{name}" for name in METADATA_FIELDS)
_WIDTH = len(METADATA_FIELDS)

_TRACK = f"""
SELECT
    t.track_id, {_METADATA},
    t.source_partition, t.source_offset, t.event_time, t.created_at, t.updated_at,
    l.version, cardinality(l.neighbours) AS length, l.generated_at
FROM tracks AS t LEFT JOIN neighbour_lists AS l USING (key)
WHERE t.track_id = $1
"""  # noqa: S608

_EQUAL = ("composer", "era", "form")

_COMPOSERS = """
SELECT composer AS name, count(*) AS count, count(*) OVER () AS total
FROM tracks WHERE composer IS NOT NULL
GROUP BY composer ORDER BY count DESC, name LIMIT $1
"""
_TAGS = """
SELECT tag AS name, count(*) AS count, count(*) OVER () AS total
FROM tracks CROSS JOIN unnest(tags) AS tag
GROUP BY tag ORDER BY count DESC, name LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """A track's id and its metadata: every field of the contract, None where the catalogue says nothing."""

    track_id: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """A track with where it came from, and the state of its list.

    Attributes:
        track: Id and metadata.
        source_partition: Partition of the event that wrote it.
        source_offset: That event's offset.
        event_time: That event's own time.
        created_at: When the store first held it.
        updated_at: When the store last wrote it.
        list_version: Version of its neighbour list, None where it has none yet.
        list_length: Neighbours in that list.
        list_generated_at: When that list was computed.
    """

    track: StoredTrack
    source_partition: int
    source_offset: int
    event_time: datetime
    created_at: datetime
    updated_at: datetime
    list_version: int | None
    list_length: int | None
    list_generated_at: datetime | None


@dataclass(frozen=True, slots=True)
class TrackFilter:
    """Which tracks to list: exact composer, era and form, and words that begin words of their texts."""

    composer: str | None = None
    era: str | None = None
    form: str | None = None
    search: str | None = None


@dataclass(frozen=True, slots=True)
class TrackPage:
    """One page of tracks by track id, and how many there are on all pages."""

    tracks: list[StoredTrack]
    total: int
    more: bool


@dataclass(frozen=True, slots=True)
class Names:
    """Names with how many tracks bear them, the most frequent first, and how many names there are."""

    counts: list[tuple[str, int]]
    total: int


def _stored(row: asyncpg.Record) -> StoredTrack:
    return StoredTrack(row[0], dict(zip(METADATA_FIELDS, row[1 : 1 + _WIDTH], strict=True)))


async def fetch_track(pool: asyncpg.Pool, track_id: str) -> TrackRecord | None:
    """One track, or None where there is no such track."""
    with translated():
        row = await pool.fetchrow(_TRACK, track_id)
    return None if row is None else TrackRecord(_stored(row), *row[1 + _WIDTH :])


def _prefix_query(words: str) -> str:
    """A text-search query for tracks that have, for each of `words`, a word that begins with it."""
    quoted = ("'" + word.replace("\\", "\\\\").replace("'", "''") + "':*" for word in words.split())
    return " & ".join(quoted)


def _conditions(wanted: TrackFilter) -> tuple[list[str], list[str]]:
    """SQL conditions and their values: only those that are asked for, so that each has its own plan."""
    where: list[str] = []
    values: list[str] = []
    for name in _EQUAL:
        if (value := getattr(wanted, name)) is not None:
            values.append(value)
            where.append(f"t.{name} = ${len(values)}")
    if wanted.search is not None:
        values += [_prefix_query(wanted.search), wanted.search]
        where.append(f"(t.search @@ to_tsquery('simple', ${len(values) - 1}) OR t.track_id = ${len(values)})")
    return where, values


def _all(conditions: list[str]) -> str:
    return " AND ".join(conditions) or "true"


async def list_tracks(pool: asyncpg.Pool, wanted: TrackFilter, *, limit: int, after: str | None) -> TrackPage:
    """One page of the tracks that `wanted` describes.

    Args:
        pool: Where to read.
        wanted: Which tracks.
        limit: Tracks on the page, at most.
        after: The last track id of the page before, None for the first page. The total is counted afresh
            for each page, so it may differ between pages of a catalogue that changes.
    """
    where, values = _conditions(wanted)
    page = [*where, f"t.track_id > ${len(values) + 1}"] if after is not None else where
    page_values = [*values, after] if after is not None else values
    with translated():
        async with pool.acquire() as connection:
            rows = await connection.fetch(
                f"SELECT t.track_id, {_METADATA} FROM tracks AS t WHERE {_all(page)}"  # noqa: S608
                f" ORDER BY t.track_id LIMIT {int(limit) + 1}",
                *page_values,
            )
            total: int = await connection.fetchval(
                f"SELECT count(*) FROM tracks AS t WHERE {_all(where)}",  # noqa: S608
                *values,
            )
    return TrackPage([_stored(row) for row in rows[:limit]], total, more=len(rows) > limit)


async def count_composers(pool: asyncpg.Pool, *, limit: int) -> Names:
    """The composers with the most tracks."""
    return await _names(pool, _COMPOSERS, limit)


async def count_tags(pool: asyncpg.Pool, *, limit: int) -> Names:
    """The tags on the most tracks."""
    return await _names(pool, _TAGS, limit)


async def _names(pool: asyncpg.Pool, query: str, limit: int) -> Names:
    with translated():
        rows = await pool.fetch(query, limit)
    return Names([(row["name"], row["count"]) for row in rows], rows[0]["total"] if rows else 0)
