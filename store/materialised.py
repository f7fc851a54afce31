"""Materialised responses: recommendations as bytes to send, by (track, strategy, mode, variant).

A body is never served for a withdrawn track and never names one: the transaction that withdraws a track deletes both kinds,
and it waits for a lock that every writer of bodies holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store.pool import transaction, translated_errors

# Primary key: the track's key, strategy, mode ("" for none), variant.
Place = tuple[int, str, str, int]
Connection = asyncpg.Pool | asyncpg.Connection | PoolConnectionProxy

# An advisory lock, exclusive to withdraw tracks, shared to write bodies; the number is arbitrary and unique here.
_WITHDRAWAL_LOCK: Final = 0x6D657373_6D617401
_REFRESH_LOCK: Final = 0x6D657373_6D617402
# The number of a lock, for the tables of one schema: those of another generation have locks of their own.
_OWN: Final = "$1::bigint # hashtext(current_schema())::bigint"

# Bodies written together wait so long for a row that another transaction holds: that one may be waiting for theirs.
_TOGETHER_WAIT: Final = "100ms"

# Whether a newer body would differ: a newer list, new candidates beyond it, another popularity, another time window, or
# changed metadata.
_STALE = """
m.outdated OR l.version IS DISTINCT FROM m.list_version OR coalesce(m.expires_at <= now(), false)
OR (coalesce(m.popularity_due <= now(), false)
    AND m.popularity_version < (SELECT last_value + is_called::int FROM popularity_version))
OR coalesce(
    m.searched_due <= now()
    AND m.searched <> (SELECT coalesce(jsonb_object_agg(partition, consumed_offset), '{}') FROM ingest_partitions
                       WHERE consumed_offset > 0),
    false)
"""
_READ = f"""
SELECT m.body, m.tag, m.generated_at, m.list_version, l.version AS newest_version, m.searched, ({_STALE}) AS stale
FROM materialised_recommendations AS m LEFT JOIN neighbour_lists AS l USING (key)
WHERE m.key = $1 AND m.strategy = $2 AND m.mode = $3 AND m.variant = $4
"""  # noqa: S608 -- this module's own text

_WANTED = """
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS w (key, strategy, mode, variant)
JOIN materialised_recommendations AS m
    ON m.key = w.key AND m.strategy = w.strategy AND m.mode = w.mode AND m.variant = w.variant
LEFT JOIN neighbour_lists AS l ON l.key = w.key
"""
_READ_MANY = f"""
SELECT m.key, m.strategy, m.mode, m.variant,
    m.body, m.tag, m.generated_at, m.list_version, l.version AS newest_version, m.searched, ({_STALE}) AS stale
{_WANTED}
"""
_CHECK_MANY = f"SELECT m.key, m.strategy, m.mode, m.variant, m.tag, ({_STALE}) AS stale {_WANTED}"


# The body that was made from more stays, whatever the workers' clocks say: a newer list, a later catalogue, a newer
# popularity. Of two that were made from the same, the last one stays.
_WRITE = """
INSERT INTO materialised_recommendations AS m
    (key, strategy, mode, variant, question, body, tag, members, list_version, popularity_version, popularity_due,
     searched, searched_due, expires_at, generated_at, hits, heat)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::bigint, $17::float8)
ON CONFLICT (key, strategy, mode, variant) DO UPDATE
SET body = excluded.body, tag = excluded.tag, members = excluded.members, list_version = excluded.list_version,
    popularity_version = excluded.popularity_version, popularity_due = excluded.popularity_due,
    searched = excluded.searched, searched_due = excluded.searched_due, expires_at = excluded.expires_at,
    outdated = false, generated_at = excluded.generated_at
WHERE (
    coalesce(m.list_version, -1),
    (SELECT coalesce(sum(value::numeric), 0) FROM jsonb_each_text(coalesce(m.searched, excluded.searched))),
    coalesce(m.popularity_version, excluded.popularity_version, -1)
) <= (
    coalesce(excluded.list_version, -1),
    (SELECT coalesce(sum(value::numeric), 0) FROM jsonb_each_text(coalesce(excluded.searched, m.searched))),
    coalesce(excluded.popularity_version, m.popularity_version, -1)
)
"""

# The logarithm of a sum, from two logarithms.
_HIT = """
UPDATE materialised_recommendations AS m
SET hits = m.hits + h.hits, last_hit = now(),
    heat = greatest(m.heat, h.heat) + ln(1 + power(2::float8, -least(abs(m.heat - h.heat), 100))) / ln(2::float8)
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::float8[])
    AS h (key, strategy, mode, variant, hits, heat)
WHERE m.key = h.key AND m.strategy = h.strategy AND m.mode = h.mode AND m.variant = h.variant
"""

_STALE_ONES = f"""
SELECT t.track_id, m.strategy, m.mode, m.variant, m.question
FROM materialised_recommendations AS m JOIN tracks AS t USING (key) LEFT JOIN neighbour_lists AS l USING (key)
WHERE {_STALE}
ORDER BY m.heat DESC LIMIT $1
"""  # noqa: S608

_EVICT = """
DELETE FROM materialised_recommendations WHERE (key, strategy, mode, variant) IN (
    SELECT key, strategy, mode, variant FROM materialised_recommendations ORDER BY heat DESC OFFSET $1
)
"""


# One index lookup for each track. For all at once (members && tracks) Postgres expects nearly every body, and reads the
# whole table.
_NAMING = """
WHERE (m.key, m.strategy, m.mode, m.variant) IN (
    SELECT found.key, found.strategy, found.mode, found.variant FROM unnest($1::bigint[]) AS track
    CROSS JOIN LATERAL (
        SELECT o.key, o.strategy, o.mode, o.variant FROM materialised_recommendations AS o
        WHERE o.members @> ARRAY[track] OFFSET 0
    ) AS found
)
"""
_MARK = f"UPDATE materialised_recommendations AS m SET outdated = true {_NAMING} AND NOT m.outdated"  # noqa: S608
_DROP_NAMING = f"DELETE FROM materialised_recommendations AS m {_NAMING}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A stored body.

    Attributes:
        body: JSON object without the members of its delivery, such as `cached`;
            `streams.contracts.finished_body` puts these behind it.
        tag: Entity tag of `body`, weak, quoted: as an ETag header has it.
        generated_at: When it was computed.
        list_version: Version of the neighbour list that it was made from; None where there was none yet.
        newest_version: Version of the neighbour list as of now.
        searched: By partition of track-ingest, the offset below which it accounts for every event; None if it
            was made from the neighbour list alone.
        stale: Whether something that it was made from has changed since.
    """

    body: bytes
    tag: str
    generated_at: datetime
    list_version: int | None
    newest_version: int | None
    searched: Mapping[str, int] | None
    stale: bool

    def has(self, partition: int, offset: int) -> bool:
        """Whether it accounts for an event that the neighbour list has absorbed."""
        return not self.stale and (self.searched is None or self.searched.get(str(partition), 0) > offset)


@dataclass(frozen=True, slots=True)
class NewBody:
    """A body to store; fields as the columns of `materialised_recommendations`."""

    key: int
    strategy: str
    mode: str | None
    variant: int
    question: Mapping[str, Any]
    body: bytes
    tag: str
    members: Sequence[int]
    list_version: int | None
    generated_at: datetime
    popularity_version: int | None = None
    popularity_due: datetime | None = None
    searched: Mapping[str, int] | None = None
    searched_due: datetime | None = None
    expires_at: datetime | None = None
    hits: int = 0
    heat: float = field(default=0.0)


@dataclass(frozen=True, slots=True)
class BodyKey:
    """The primary key of a body, and the question that it answers."""

    track_id: str
    strategy: str
    mode: str | None
    variant: int
    question: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BodyHits:
    """How often a body was read, and the binary logarithm of its decayed hit count."""

    key: int
    strategy: str
    mode: str | None
    variant: int
    hits: int
    heat: float


class _RowsHeldError(Exception):
    """Another transaction holds a row that must be written."""


async def read_body(
    connection: Connection, key: int, strategy: str, mode: str | None = None, variant: int = 0
) -> StoredBody | None:
    """One body by its primary key, in one round trip; None if there is none.

    Args:
        connection: A pool or a connection; the API's role may do this.
        key: The track's 64-bit key.
        strategy: Its own name, no alias.
        mode: Its mode, the default one included; None if the strategy has none.
        variant: As `RecommendationQuery.variant` says.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        row = await connection.fetchrow(_READ, key, strategy, mode or "", variant)
    return None if row is None else StoredBody(*row)


async def read_bodies(connection: Connection, places: Sequence[Place]) -> dict[Place, StoredBody]:
    """Bodies by their primary keys, in one round trip; missing ones are left out.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        rows = await connection.fetch(_READ_MANY, *(list(column) for column in zip(*places, strict=True)))
    return {tuple(row[:4]): StoredBody(*row[4:]) for row in rows}


async def check_bodies(connection: Connection, places: Sequence[Place]) -> dict[Place, tuple[str, bool]]:
    """For bodies by their primary keys: the entity tag, and whether it is stale; missing ones are left out.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        rows = await connection.fetch(_CHECK_MANY, *(list(column) for column in zip(*places, strict=True)))
    return {tuple(row[:4]): (row[4], row[5]) for row in rows}


async def write_bodies(pool: asyncpg.Pool, new: Sequence[NewBody]) -> list[bool]:
    """Store bodies, each unless one that was made from more is stored.

    Returns:
        For each whether it is stored; it is not if it names a withdrawn track.

    Raises:
        StoreUnavailableError: Postgres cannot be reached; some may have been stored.
        PostgresError: Postgres refuses one of them; some may have been stored.
    """
    try:
        return await _write(pool, new)
    except _RowsHeldError:
        # Only a transaction that holds rows can be part of a deadlock. One at a time, each body waits as long as it takes.
        return [stored for one in new for stored in await _write(pool, [one])]


async def _write(pool: asyncpg.Pool, new: Sequence[NewBody]) -> list[bool]:
    members = [sorted({body.key, *body.members}) for body in new]
    async with transaction(pool) as connection:
        wait = _TOGETHER_WAIT if len(new) > 1 else "0"
        await connection.execute(
            f"SELECT pg_advisory_xact_lock_shared({_OWN}), set_config('lock_timeout', $2, true)",
            _WITHDRAWAL_LOCK,
            wait,
        )
        every = sorted({key for keys in members for key in keys})
        rows = await connection.fetch("SELECT key FROM tracks WHERE key = ANY($1)", every)
        there = {row[0] for row in rows}
        whole = [there.issuperset(keys) for keys in members]
        values = [_values(body, keys) for body, keys, fine in zip(new, members, whole, strict=True) if fine]
        try:
            await connection.executemany(_WRITE, values)
        except asyncpg.LockNotAvailableError as error:
            raise _RowsHeldError from error
    return whole


def _values(new: NewBody, members: list[int]) -> tuple[Any, ...]:
    return (
        new.key,
        new.strategy,
        new.mode or "",
        new.variant,
        dict(new.question),
        new.body,
        new.tag,
        members,
        new.list_version,
        new.popularity_version,
        new.popularity_due,
        None if new.searched is None else dict(new.searched),
        new.searched_due,
        new.expires_at,
        new.generated_at,
        new.hits,
        new.heat,
    )


async def count_hits(pool: asyncpg.Pool, hits: Sequence[BodyHits]) -> None:
    """Count reads of bodies. A body that is no longer stored is ignored."""
    if not hits:
        return
    ordered = sorted(hits, key=lambda one: (one.key, one.strategy, one.mode or "", one.variant))
    columns = zip(
        *((h.key, h.strategy, h.mode or "", h.variant, h.hits, h.heat) for h in ordered), strict=True
    )
    with translated_errors():
        await pool.execute(_HIT, *(list(column) for column in columns))


async def stale_bodies(connection: Connection, limit: int) -> list[BodyKey]:
    """The most requested stale bodies, most requested first."""
    with translated_errors():
        rows = await connection.fetch(_STALE_ONES, limit)
    return [BodyKey(row[0], row[1], row[2] or None, row[3], row[4]) for row in rows]


async def evict_bodies(pool: asyncpg.Pool, keep: int) -> int:
    """Delete all but the `keep` most requested bodies; returns how many."""
    with translated_errors():
        status: str = await pool.execute(_EVICT, keep)
    return int(status.rpartition(" ")[2])


async def drop_body(pool: asyncpg.Pool, key: int, strategy: str, mode: str | None, variant: int) -> None:
    """Delete this body."""
    with translated_errors():
        await pool.execute(
            "DELETE FROM materialised_recommendations "
            "WHERE key = $1 AND strategy = $2 AND mode = $3 AND variant = $4",
            key,
            strategy,
            mode or "",
            variant,
        )


async def mark_bodies_outdated(connection: Connection, keys: Sequence[int]) -> None:
    """Mark bodies stale that show outdated metadata of these tracks."""
    if keys:
        with translated_errors():
            await connection.execute(_MARK, list(keys))


async def forget_progress(connection: PoolConnectionProxy) -> None:
    """Reset what bodies were made from: offsets of track-ingest start again and cannot be compared with the old ones."""
    await connection.execute(
        "UPDATE materialised_recommendations SET searched = '{}' WHERE searched IS NOT NULL"
    )


async def lock_withdrawals(connection: PoolConnectionProxy, *, shared: bool = False) -> None:
    """Before tracks are withdrawn: let no body and no track be written until this transaction ends.

    Args:
        connection: Inside a transaction.
        shared: Only let no track be withdrawn meanwhile.
    """
    lock = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    await connection.execute(f"SELECT {lock}({_OWN})", _WITHDRAWAL_LOCK)


async def drop_bodies_naming(connection: PoolConnectionProxy, keys: Sequence[int]) -> None:
    """Delete the bodies of these tracks and all that name one. Call it in the transaction that withdraws them."""
    await connection.execute(_DROP_NAMING, list(keys))


async def begin_refreshing(connection: PoolConnectionProxy) -> bool:
    """Try to become the one session that refreshes, until it ends or calls `end_refreshing`; whether it did."""
    with translated_errors():
        mine: bool = await connection.fetchval(f"SELECT pg_try_advisory_lock({_OWN})", _REFRESH_LOCK)
    return mine


async def end_refreshing(connection: PoolConnectionProxy) -> None:
    """Let another session refresh."""
    with translated_errors():
        await connection.execute(f"SELECT pg_advisory_unlock({_OWN})", _REFRESH_LOCK)
