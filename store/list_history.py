"""Lists as they were: each that a flush replaces or drops is kept for a while.

A row is a list that is no more, with the version and the time of the flush that ended it, so that one list at most was the
track's at any moment or version. The flush writes it (`store.lists`), in its own transaction; readers get the row, or the
list that stands.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

import asyncpg

from store.listed import ListHeader
from store.pool import translated_errors

_COLUMNS: Final = "key, version, replaced_by, replaced_at, generated_at, event_time, source_offset, source_partition, neighbours, scores"
_INTO: Final = f"INSERT INTO list_history ({_COLUMNS})"
# Another owner may have kept the same one: its track has just moved.
_ONCE: Final = "ON CONFLICT (key, version) DO NOTHING"


def _of(source: str, version: str, moment: str) -> str:
    return (
        f"SELECT {source}.key, {source}.version, {version}, {moment}, {source}.generated_at, {source}.event_time, "
        f"{source}.source_offset, {source}.source_partition, {source}.neighbours, {source}.scores"
    )


# Before `incoming_lists` are written: what they will replace.
KEEP_INCOMING: Final = f"""
{_INTO} {_of("l", "i.version", "i.generated_at")}
FROM incoming_lists AS i JOIN neighbour_lists AS l USING (key) WHERE l.version < i.version {_ONCE}
"""
# In front of a statement that writes a few lists: $1 has their keys, $9 their version and $10 their time.
KEEP_FEW: Final = f"""
WITH kept AS (
    {_INTO} {_of("l", "$9::bigint", "$10::timestamptz")}
    FROM neighbour_lists AS l JOIN tracks AS t USING (key) WHERE l.key = ANY($1::bigint[]) AND l.version < $9 {_ONCE}
)
"""
# Around a statement that drops lists and returns them: $2 is the version of the flush, $3 its time.
KEEP_DROPPED: Final = (
    f"WITH l AS ({{drop}} RETURNING l.*) {_INTO} {_of('l', '$2::bigint', '$3::timestamptz')} FROM l {_ONCE}"
)
# Likewise, of lists that no flush has dropped: $2 is `END_OF_ORPHANS` from before they were looked for. A list that a track
# gets that comes back after that has this version, or a later one.
KEEP_ORPHANS: Final = (
    f"WITH l AS ({{drop}} RETURNING *) {_INTO} {_of('l', '$2::bigint', 'now()')} FROM l {_ONCE}"
)
END_OF_ORPHANS: Final = "SELECT last_value + 1 FROM list_version"


_LISTS: Final = """
SELECT version, source_partition, source_offset, event_time, generated_at, NULL::timestamptz AS replaced_at,
    NULL::bigint AS replaced_by, neighbours, scores
FROM neighbour_lists WHERE key = $1
UNION ALL
SELECT version, source_partition, source_offset, event_time, generated_at, replaced_at, replaced_by, neighbours, scores
FROM list_history WHERE key = $1
"""
_AT_TIME: Final = f"""
SELECT * FROM ({_LISTS}) AS l WHERE generated_at <= $2 AND (replaced_at > $2 OR replaced_at IS NULL) ORDER BY version LIMIT 1
"""  # noqa: S608 -- this module's own text
_AT_VERSION: Final = f"""
SELECT * FROM ({_LISTS}) AS l WHERE version <= $2 AND (replaced_by > $2 OR replaced_by IS NULL) ORDER BY version DESC LIMIT 1
"""  # noqa: S608
_REACH: Final = """
SELECT replaced_at, replaced_by, EXISTS (SELECT FROM tracks WHERE key = $1) OR EXISTS (SELECT FROM list_history WHERE key = $1)
FROM (SELECT) AS one LEFT JOIN (SELECT replaced_at, replaced_by FROM list_history ORDER BY replaced_at LIMIT 1) AS h ON true
"""
# Rows that another worker is deleting are skipped.
_PRUNE: Final = """
DELETE FROM list_history WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM list_history WHERE replaced_at <= now() - $1::interval ORDER BY replaced_at LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""


class PastList(NamedTuple):
    """A track's list at a moment.

    Attributes:
        header: About it; its owner is not known.
        replaced_at: When it was replaced or dropped; None while it stands.
        keys: Of its neighbours, most similar first, whether or not they are still there.
        scores: Their cosine similarities.
    """

    header: ListHeader
    replaced_at: datetime | None
    keys: list[int]
    scores: list[float]


class HistoryReach(NamedTuple):
    """How far back lists are kept.

    Attributes:
        since: Every list that was replaced from then on is kept; None: there is none.
        version: The version that belongs to it.
        known: Whether the track is there, or a list of it is kept.
    """

    since: datetime | None
    version: int | None
    known: bool


async def read_past_list(pool: asyncpg.Pool, key: int, as_of: datetime | int) -> PastList | None:
    """The list that a track had at a time or a version; None if it had none, or it is not kept.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        row = await pool.fetchrow(_AT_VERSION if isinstance(as_of, int) else _AT_TIME, key, as_of)
    if row is None:
        return None
    version, partition, offset, event_time, generated_at, replaced_at, _, keys, scores = row
    header = ListHeader(version, partition, offset, event_time, generated_at, len(keys))
    return PastList(header, replaced_at, keys, scores)


async def read_reach(pool: asyncpg.Pool, key: int) -> HistoryReach:
    """How far back the lists of a generation are kept, and whether anything is known of a track.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        row = await pool.fetchrow(_REACH, key)
    assert row is not None
    return HistoryReach(*row)


async def prune_history(pool: asyncpg.Pool, kept: timedelta, limit: int) -> int:
    """Delete up to `limit` lists that were replaced longer ago than `kept`, the oldest first; how many those were.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        status: str = await pool.execute(_PRUNE, kept, limit)
    return int(status.rpartition(" ")[2])
