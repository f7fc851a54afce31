"""Records what the change feed holds: the last published list of each track, and up to which offset this record is complete.

A new message has the difference to the track's previous message, so the previous one must survive the worker that published
it. The worker records each message after its delivery, and then the feed's offsets below which every message is recorded. Its
successor reads messages that were delivered but not recorded from the feed itself.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from asyncpg.pool import PoolConnectionProxy

from store.owner_offsets import TOLD

# All lists of a large catalogue are compared with its tracks.
_PATIENT_SECONDS = 600.0
# Ids hold no control characters.
_SEPARATOR = b"\0"


@dataclass(frozen=True, slots=True)
class ToldList:
    """A message of the change feed.

    Attributes:
        key: The track's key.
        partition: Partition of the feed.
        offset: Offset in that partition.
        version: The list's version.
        neighbours: The ids in the list, most similar first; None for a tombstone.
    """

    key: int
    partition: int
    offset: int
    version: int
    neighbours: Sequence[str] | None


_READ = "SELECT key, feed_partition, feed_offset, version, neighbours FROM told_lists WHERE key = ANY($1::bigint[])"
# Tracks that moved here from a partition whose owner has not absorbed the move: its last messages must come first.
_HELD = """
SELECT DISTINCT w.key FROM unnest($1::bigint[], $2::int[]) AS w (key, owner)
JOIN moves AS m ON m.key = w.key AND m.from_partition <> w.owner
LEFT JOIN owner_progress AS o ON o.owner_partition = m.from_partition
WHERE coalesce(o.absorbed[m.to_partition + 1], 0) <= m.to_offset
"""
# Ordered by key, so that two workers cannot deadlock.
_RECORD = """
INSERT INTO told_lists AS t (key, feed_partition, feed_offset, version, neighbours)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::bytea[]) AS n (key) ORDER BY n.key
ON CONFLICT (key) DO UPDATE
SET feed_partition = excluded.feed_partition, feed_offset = excluded.feed_offset, version = excluded.version,
    neighbours = excluded.neighbours
WHERE t.feed_partition <> excluded.feed_partition OR t.feed_offset < excluded.feed_offset
"""
_FORGET = """
DELETE FROM told_lists AS t USING unnest($1::bigint[], $2::int[], $3::bigint[]) AS d (key, partition, at)
WHERE t.key = d.key AND (t.feed_partition <> d.partition OR t.feed_offset < d.at)
"""
_POSITIONS = "SELECT owner_partition, next_offsets FROM told_offsets WHERE owner_partition = ANY($1::int[])"


async def read_told(connection: PoolConnectionProxy, keys: npt.NDArray[np.int64]) -> dict[int, ToldList]:
    """The last published message of each of these tracks, by key; tracks without one are left out."""
    rows = await connection.fetch(_READ, keys.tolist())
    return {
        row["key"]: ToldList(
            row["key"], row["feed_partition"], row["feed_offset"], row["version"], _ids(row["neighbours"])
        )
        for row in rows
    }


async def read_held(connection: PoolConnectionProxy, keys: Sequence[int], owners: Sequence[int]) -> set[int]:
    """Keys of the tracks whose former owner may still publish their list."""
    return {row[0] for row in await connection.fetch(_HELD, keys, owners)}


async def record_told(connection: PoolConnectionProxy, told: Iterable[ToldList]) -> None:
    """Record published messages; the last one of a track counts, and one older than the record changes nothing."""
    last = {one.key: one for one in told}
    lists = [(one, one.neighbours) for one in last.values() if one.neighbours is not None]
    gone = [one for one in last.values() if one.neighbours is None]
    if lists:
        keys, partitions, offsets = _places(one for one, _ in lists)
        packed = [_SEPARATOR.join([name.encode() for name in names]) for _, names in lists]
        versions = [one.version for one, _ in lists]
        await connection.execute(_RECORD, keys, partitions, offsets, versions, packed)
    if gone:
        await connection.execute(_FORGET, *_places(gone))


async def told_without_track(connection: PoolConnectionProxy) -> dict[tuple[int, int], int]:
    """The place in the feed of each list whose track is not there, and the track's key."""
    rows = await connection.fetch(
        "SELECT feed_partition, feed_offset, key FROM told_lists AS l"
        " WHERE NOT EXISTS (SELECT FROM tracks AS t WHERE t.key = l.key)",
        timeout=_PATIENT_SECONDS,
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def told_positions(
    connection: PoolConnectionProxy, owners: Collection[int]
) -> dict[int, dict[int, int]]:
    """By owner and feed partition, the offset below which every message about the owner's lists is recorded."""
    found: dict[int, dict[int, int]] = {owner: {} for owner in owners}
    return found | {
        owner: dict(enumerate(offsets)) for owner, offsets in await connection.fetch(_POSITIONS, list(owners))
    }


async def move_told_positions(
    connection: PoolConnectionProxy, owners: Collection[int], upto: Mapping[int, int]
) -> None:
    """Advance these offsets, by feed partition, for each of `owners`."""
    await TOLD.advance(connection, owners, upto)


async def forget_feed_partition(connection: PoolConnectionProxy, partition: int) -> None:
    """Forget what was published in this feed partition, because another log has replaced it."""
    await connection.execute("DELETE FROM told_lists WHERE feed_partition = $1", partition)
    await TOLD.forget(connection, [partition])


async def begin_new_feed(connection: PoolConnectionProxy) -> None:
    """Forget everything published, because the feed's topic has just been created."""
    await connection.execute("DELETE FROM told_lists")
    await connection.execute("DELETE FROM told_offsets")


def _places(told: Iterable[ToldList]) -> tuple[list[int], list[int], list[int]]:
    columns = [(one.key, one.partition, one.offset) for one in told]
    keys, partitions, offsets = (list(column) for column in zip(*columns, strict=True))
    return keys, partitions, offsets


def _ids(packed: bytes) -> list[str]:
    return [name.decode() for name in packed.split(_SEPARATOR)] if packed else []
