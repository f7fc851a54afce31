"""Reads of tracks, for requests about single tracks, searches and the catalogue.

Every function takes one connection of the pool for one round trip (`read_track_page` two), computes no similarity,
and raises `StoreUnavailableError` if Postgres cannot be reached.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from store.columns import METADATA_FIELDS
from store.pool import translated_errors
from store.search_text import SearchWords, beginning_of, deletion_variants, is_correctable, one_typo

Metadata = dict[str, Any]
Connection = asyncpg.pool.PoolConnectionProxy

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

# Maximum number of hits that are counted: a full count would take longer than the page.
MOST_COUNTED = 10_000
_SHORTEST_PART = 3
_MOST_ALIKE = 50
_KNOWN = "SELECT EXISTS (SELECT FROM tracks WHERE search @@ $1::text::tsquery)"
_ALIKE = """
(SELECT word FROM search_words WHERE word = ANY($1::text[]) OR deletions && $1::text[] LIMIT $3)
UNION
(SELECT word FROM search_words WHERE word LIKE '%' || $2 || '%' LIMIT $3)
"""

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
    """A track's id and its metadata: every field of the contract, None where unknown."""

    track_id: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """A track with its source event and the state of its list.

    Attributes:
        track: Id and metadata.
        source_partition: Partition of the event that wrote it.
        source_offset: That event's offset.
        event_time: That event's own time.
        created_at: When the store first held it.
        updated_at: When the store last wrote it.
        list_version: Version of its neighbour list, None if it has none yet.
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
    """Which tracks to list: exact composer, era and form, and words to search for."""

    composer: str | None = None
    era: str | None = None
    form: str | None = None
    search: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The last track of a page, and its tier in the search: see `_Search`."""

    track_id: str
    tier: int = 0


@dataclass(frozen=True, slots=True)
class TrackPage:
    """One page of tracks.

    Attributes:
        tracks: By track id; those of a search by tier first.
        total: Number of tracks on all pages.
        total_exact: Whether `total` is exact; the count of a search ends at `MOST_COUNTED`.
        next: Where the next page begins; None on the last.
    """

    tracks: list[StoredTrack]
    total: int
    total_exact: bool
    next: Place | None


@dataclass(frozen=True, slots=True)
class NameCounts:
    """Names with the number of their tracks, the most frequent first, and the number of names."""

    counts: list[tuple[str, int]]
    total: int


def _stored(row: asyncpg.Record) -> StoredTrack:
    return StoredTrack(row[0], dict(zip(METADATA_FIELDS, row[1 : 1 + _WIDTH], strict=True)))


async def fetch_track(pool: asyncpg.Pool, track_id: str) -> TrackRecord | None:
    """One track, or None where there is no such track."""
    with translated_errors():
        row = await pool.fetchrow(_TRACK, track_id)
    return None if row is None else TrackRecord(_stored(row), *row[1 + _WIDTH :])


def _conditions(wanted: TrackFilter) -> tuple[list[str], list[str]]:
    """SQL conditions and their values: only those asked for, so that each combination has its own plan."""
    where: list[str] = []
    values: list[str] = []
    for name in _EQUAL:
        if (value := getattr(wanted, name)) is not None:
            values.append(value)
            where.append(f"t.{name} = ${len(values)}")
    return where, values


def _all(conditions: list[str]) -> str:
    return " AND ".join(conditions) or "true"


async def read_track_page(
    pool: asyncpg.Pool, wanted: TrackFilter, *, limit: int, after: Place | None
) -> TrackPage:
    """One page of the tracks that `wanted` describes.

    Args:
        pool: The store.
        wanted: Which tracks.
        limit: Maximum number of tracks.
        after: `next` of the page before, None for the first page. Each page counts the total anew, so it may change
            between pages.
    """
    where, values = _conditions(wanted)
    with translated_errors():
        async with pool.acquire() as connection:
            if wanted.search is not None:
                return await _Search(connection, where, values, wanted.search).page(limit, after)
            following = None if after is None else after.track_id
            rows = await _page(connection, where, values, limit + 1, following)
            total: int = await connection.fetchval(
                f"SELECT count(*) FROM tracks AS t WHERE {_all(where)}",  # noqa: S608
                *values,
            )
    tracks = [_stored(row) for row in rows[:limit]]
    return TrackPage(tracks, total, True, Place(tracks[-1].track_id) if len(rows) > limit else None)


async def _page(
    connection: Connection, where: list[str], values: list[str], limit: int, after: str | None
) -> list[asyncpg.Record]:
    """Up to `limit` tracks that meet `where`, behind the track id `after`, by track id."""
    if after is not None:
        where, values = [*where, f"t.track_id > ${len(values) + 1}"], [*values, after]
    rows: list[asyncpg.Record] = await connection.fetch(
        f"SELECT t.track_id, {_METADATA} FROM tracks AS t WHERE {_all(where)}"  # noqa: S608
        f" ORDER BY t.track_id LIMIT {int(limit)}",
        *values,
    )
    return rows


class _Search:
    """One search: tiers of hits, the best first. A track is in the first tier whose condition it meets.

    Tier 0 is the track with exactly this id. Then come tracks that have all words: whole in their names, whole anywhere, as
    beginnings of words. Only if there are none, words may have a typo or be parts of others. Only if there are none again,
    one word may be missing, then two, and so on.
    """

    def __init__(self, connection: Connection, where: list[str], values: list[str], search: str) -> None:
        self._connection = connection
        self._where = where
        self._values = values
        self._search = search
        self._words = SearchWords(search)

    async def page(self, limit: int, after: Place | None) -> TrackPage:
        tiers = await self._tiers()
        found: list[tuple[int, asyncpg.Record]] = []
        start = Place("", -1) if after is None else after
        for tier in range(max(start.tier, 0), len(tiers)):
            missing = limit + 1 - len(found)
            if missing <= 0:
                break
            where, values = self._with(tiers[:tier], tiers[tier])
            rows = await _page(
                self._connection, where, values, missing, start.track_id if tier == start.tier else None
            )
            found += [(tier, row) for row in rows]
        total = await self._count(tiers)
        tracks = [_stored(row) for _, row in found[:limit]]
        more = Place(tracks[-1].track_id, found[limit - 1][0]) if len(found) > limit else None
        return TrackPage(tracks, min(total, MOST_COUNTED), total <= MOST_COUNTED, more)

    async def _tiers(self) -> list[str]:
        """The text-search query of each tier, empty for the track's id; tiers that must be empty are left out."""
        if not self._words.words:
            return [""]
        strict = self._words.strict()
        # Whole words cost Postgres far less to find than beginnings do, and are mostly there.
        if await self._holds(strict[-2]) or await self._holds(strict[-1]):
            return ["", *strict]
        for level in self._words.forgiving(*await self._known_and_alike()):
            if await self._holds(level[-1]):
                return ["", *level]
        return [""]

    async def _holds(self, query: str) -> bool:
        where, values = self._with([], query)
        found: bool = await self._connection.fetchval(
            f"SELECT EXISTS (SELECT FROM tracks AS t WHERE {_all(where)})",  # noqa: S608
            *values,
        )
        return found

    def _with(self, without: list[str], query: str) -> tuple[list[str], list[str]]:
        """Conditions and values of the tracks that meet the filters and `query`, and none of `without`."""
        where, values = list(self._where), list(self._values)
        for sign, each in (("", query), *(("NOT ", other) for other in without)):
            # The empty query means the track with exactly this id.
            values.append(each or self._search)
            column = f"t.search @@ ${len(values)}::text::tsquery" if each else f"t.track_id = ${len(values)}"
            where.append(sign + column)
        return where, values

    async def _count(self, tiers: list[str]) -> int:
        """Number of tracks in all tiers, up to one more than are counted."""
        counts = [self._with([], "")]
        if tiers[-1]:
            counts.append(self._with([""], tiers[-1]))
        total = 0
        for where, values in counts:
            total += await self._connection.fetchval(
                f"SELECT count(*) FROM (SELECT FROM tracks AS t WHERE {_all(where)} LIMIT {MOST_COUNTED + 1}) AS counted",  # noqa: S608
                *values,
            )
        return total

    async def _known_and_alike(self) -> tuple[set[str], dict[str, list[str]]]:
        """The words that begin any track's, and for each the catalogue's that are one typo away or have it in the middle."""
        known, alike = set[str](), dict[str, list[str]]()
        for word in self._words.words:
            if await self._connection.fetchval(_KNOWN, beginning_of(word)):
                known.add(word)
            if len(word) >= _SHORTEST_PART and word.isalpha():
                near = [word, *deletion_variants(word)] if is_correctable(word) else []
                rows = await self._connection.fetch(_ALIKE, near, word, _MOST_ALIKE)
                alike[word] = [each for (each,) in rows if word in each or one_typo(word, each)]
        return known, alike


async def count_composers(pool: asyncpg.Pool, *, limit: int) -> NameCounts:
    """The composers with the most tracks."""
    return await _names(pool, _COMPOSERS, limit)


async def count_tags(pool: asyncpg.Pool, *, limit: int) -> NameCounts:
    """The tags on the most tracks."""
    return await _names(pool, _TAGS, limit)


async def _names(pool: asyncpg.Pool, query: str, limit: int) -> NameCounts:
    with translated_errors():
        rows = await pool.fetch(query, limit)
    return NameCounts([(row["name"], row["count"]) for row in rows], rows[0]["total"] if rows else 0)
