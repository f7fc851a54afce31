"""What a generation beside the first takes from the catalogue: statements that read both."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncpg.pool import PoolConnectionProxy

from store.columns import METADATA_FIELDS
from store.generations import shared_schema
from store.rows import metadata_row

# A comparison with all tracks of a large catalogue takes long.
_PATIENT_SECONDS: Final = 600.0


async def read_catalogue_metadata(
    connection: PoolConnectionProxy, track_ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The catalogue's metadata of these tracks, by id; tracks that it does not have are left out."""
    shared = await shared_schema(connection)
    names = ", ".join(METADATA_FIELDS)
    rows = await connection.fetch(
        f"SELECT track_id, {names} FROM {shared}.tracks WHERE track_id = ANY($1::text[])",  # noqa: S608 -- own names
        list(track_ids),
    )
    return {row[0]: dict(zip(METADATA_FIELDS, row[1:], strict=True)) for row in rows}


async def catalogue_offsets(connection: PoolConnectionProxy) -> dict[int, int]:
    """By partition of `track-ingest`, the next offset that the catalogue reads."""
    shared = await shared_schema(connection)
    rows = await connection.fetch(f"SELECT partition, consumed_offset FROM {shared}.ingest_partitions")  # noqa: S608
    return {row[0]: row[1] for row in rows}


_FIELDS: Final = (*METADATA_FIELDS, "search")
_REFRESH: Final = f"""
UPDATE tracks AS t SET {", ".join(f"{name} = c.{name}" for name in _FIELDS)}, updated_at = now()
FROM {{shared}}.tracks AS c
WHERE t.key = c.key AND {{which}}
    AND ({", ".join(f"t.{name}" for name in _FIELDS)}) IS DISTINCT FROM ({", ".join(f"c.{name}" for name in _FIELDS)})
RETURNING t.key
"""  # noqa: S608


async def refresh_batch(connection: PoolConnectionProxy, keys: Sequence[int]) -> list[int]:
    """Give tracks of a generation the catalogue's metadata; returns the keys of those that had another.

    Args:
        connection: Inside a transaction that holds `materialised.lock_withdrawals`, shared or not.
        keys: The tracks.
    """
    shared = await shared_schema(connection)
    rows = await connection.fetch(
        _REFRESH.format(shared=shared, which="c.key = ANY($1::bigint[])"), list(keys)
    )
    return [row[0] for row in rows]


async def refresh_changed(connection: PoolConnectionProxy, since: dict[int, int]) -> list[int]:
    """As `refresh_batch`, of the tracks that the catalogue has changed since.

    Args:
        connection: Inside a transaction that alone holds `materialised.lock_withdrawals`: a track that is being written
            would not be seen.
        since: By partition of `track-ingest`, an offset; tracks with an earlier event are left out.
    """
    shared = await shared_schema(connection)
    changed = "EXISTS (SELECT FROM unnest($1::int[], $2::bigint[]) AS s (partition, first) "
    changed += "WHERE c.source_partition = s.partition AND c.source_offset >= s.first)"
    rows = await connection.fetch(
        _REFRESH.format(shared=shared, which=changed),
        list(since),
        list(since.values()),
        timeout=_PATIENT_SECONDS,
    )
    return [row[0] for row in rows]


def unseen(seen: Mapping[int, int], now: Mapping[int, int]) -> dict[int, int]:
    """By partition of `track-ingest`, where begins what has not been seen; -1 in a log that has taken another's place."""
    return {p: seen[p] if p in seen and seen[p] <= offset else -1 for p, offset in now.items()}


@dataclass(frozen=True, slots=True)
class DescribedTracks:
    """Metadata of some tracks of a generation.

    Attributes:
        keys: Of the tracks.
        metadata: Of each, from `store.rows.metadata_row`.
        upto: By partition of `track-ingest`, the offset below which every track that the catalogue has an event of is among
            these, or was before.
    """

    keys: list[int]
    metadata: list[tuple[Hashable, ...]]
    upto: dict[int, int]


_DESCRIBED: Final = f"""
SELECT c.source_partition, c.source_offset, t.key, {", ".join(f"t.{name}" for name in METADATA_FIELDS)}
FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS s (partition, first, beyond), LATERAL (
    SELECT key, source_partition, source_offset FROM {{shared}}.tracks
    WHERE source_partition = s.partition AND source_offset >= s.first AND source_offset < s.beyond
    ORDER BY source_offset LIMIT $4
) AS c LEFT JOIN tracks AS t ON t.key = c.key
ORDER BY c.source_partition, c.source_offset
"""  # noqa: S608 -- own names


async def read_described(
    connection: PoolConnectionProxy, since: Mapping[int, int], until: Mapping[int, int], limit: int
) -> DescribedTracks:
    """A generation's metadata of tracks whose last event in the catalogue is within some offsets.

    Args:
        connection: Of the generation.
        since: By partition of `track-ingest`, where to begin.
        until: Where to end, by partition.
        limit: How many tracks at most, about.
    """
    first = {p: at for p, at in unseen(since, until).items() if at < until[p]}
    each = max(1, limit // max(1, len(first)))
    shared = await shared_schema(connection)
    rows = await connection.fetch(
        _DESCRIBED.format(shared=shared), list(first), list(first.values()), [until[p] for p in first], each
    )
    counts = Counter(row[0] for row in rows)
    last = {row[0]: row[1] for row in rows}
    full = {p: last[p] + 1 for p, count in counts.items() if count == each}
    there = [row for row in rows if row[2] is not None]
    return DescribedTracks(
        [row[2] for row in there], [metadata_row(row[3:]) for row in there], {**until, **full}
    )


@dataclass(frozen=True, slots=True)
class CatalogueTrackState:
    """What the catalogue says of a track of which a generation may have a vector.

    Attributes:
        there: Whether it has the track.
        withdrawn: When the broker appended its last deletion, milliseconds since 1970; 0 where none is remembered.
        vector: When the broker appended the event of the stored vector; 0 where there is none.
    """

    there: bool
    withdrawn: int
    vector: int


_LAST_DELETION: Final = (
    "coalesce((SELECT max(d.appended_at) FROM {shared}.departures AS d WHERE d.key = t.key), 0)"
)


async def withdrawn_from_catalogue(
    connection: PoolConnectionProxy, partitions: Sequence[int], limit: int
) -> list[str]:
    """Tracks of a generation that the catalogue does not have any more, or has withdrawn since their vector came.

    Only those of some partitions of the generation.
    """
    shared = await shared_schema(connection)
    deleted = _LAST_DELETION.format(shared=shared)
    rows = await connection.fetch(
        f"SELECT t.track_id FROM tracks AS t WHERE t.source_partition = ANY($1::int[])"  # noqa: S608
        f" AND (NOT EXISTS (SELECT FROM {shared}.tracks AS c WHERE c.key = t.key) OR {deleted} > t.appended_at)"
        f" LIMIT $2",
        list(partitions),
        limit,
        timeout=_PATIENT_SECONDS,
    )
    return [row[0] for row in rows]


async def read_catalogue_states(
    connection: PoolConnectionProxy, keys: Sequence[int]
) -> dict[int, CatalogueTrackState]:
    """By key, what the catalogue says of tracks, and what this generation has of them."""
    shared = await shared_schema(connection)
    rows = await connection.fetch(
        f"SELECT t.key, EXISTS (SELECT FROM {shared}.tracks AS c WHERE c.key = t.key),"  # noqa: S608
        f" {_LAST_DELETION.format(shared=shared)}, coalesce(own.appended_at, 0)"
        f" FROM unnest($1::bigint[]) AS t (key) LEFT JOIN tracks AS own ON own.key = t.key",
        list(keys),
    )
    return {row[0]: CatalogueTrackState(*row[1:]) for row in rows}
