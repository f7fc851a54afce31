"""Offsets that each owner has in each partition of a log: one row an owner, with an array that the log's partition indexes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from asyncpg.pool import PoolConnectionProxy

_ADVANCE = """
INSERT INTO {table} AS t (owner_partition, {column})
SELECT owner, $2::bigint[] FROM unnest($1::int[]) AS owner ORDER BY owner
ON CONFLICT (owner_partition) DO UPDATE SET {column} = ARRAY(
    SELECT greatest(s.before, s.after)
    FROM unnest(t.{column}, excluded.{column}) WITH ORDINALITY AS s (before, after, place) ORDER BY s.place
)
"""
# Rows are locked in the order in which they are advanced: another order would deadlock.
_FORGET = """
WITH held AS (SELECT owner_partition FROM {table} ORDER BY owner_partition FOR NO KEY UPDATE)
UPDATE {table} AS t SET {column} = ARRAY(
    SELECT CASE WHEN s.place - 1 = ANY($1::int[]) THEN 0 ELSE s.value END
    FROM unnest(t.{column}) WITH ORDINALITY AS s (value, place) ORDER BY s.place
)
FROM held WHERE t.owner_partition = held.owner_partition
"""


@dataclass(frozen=True, slots=True)
class OwnerOffsets:
    """The offsets in one table.

    Attributes:
        table: Its name.
        column: That of the arrays.
    """

    table: str
    column: str

    async def advance(
        self, connection: PoolConnectionProxy, owners: Collection[int], upto: Mapping[int, int]
    ) -> None:
        """Advance the offsets, by partition of the log, of each of `owners`; none goes back."""
        offsets = [upto.get(partition, 0) for partition in range(max(upto, default=-1) + 1)]
        await connection.execute(_ADVANCE.format(table=self.table, column=self.column), list(owners), offsets)

    async def forget(self, connection: PoolConnectionProxy, partitions: Sequence[int]) -> None:
        """Forget every owner's offsets in these partitions of the log, as another log has replaced them."""
        await connection.execute(_FORGET.format(table=self.table, column=self.column), list(partitions))


# Below which offset of each partition of `track-ingest` the owner's lists hold the effect of everything.
ABSORBED = OwnerOffsets("owner_progress", "absorbed")
# Below which offset of each partition of the change feed every message about the owner's lists is recorded.
TOLD = OwnerOffsets("told_offsets", "next_offsets")
