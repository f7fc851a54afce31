"""Looks at the store all along: nothing in it may ever go back, nor be ahead of the log it comes from."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import asyncpg
from aiokafka import ConsumerRecord

from store.pool import UNAVAILABLE
from tests.faults.history import LoggedCatalogue, Meaning

INTERVAL_SECONDS = 0.2
_LOST = """
SELECT s.key, s.version FROM unnest($1::bigint[], $2::bigint[]) AS s (key, version)
WHERE NOT EXISTS (SELECT FROM list_history AS h WHERE h.key = s.key AND h.version = s.version)
    AND NOT EXISTS (SELECT FROM neighbour_lists AS l WHERE l.key = s.key AND l.version = s.version)
"""
_OVERLAPPING = """
SELECT key, version FROM (
    SELECT key, version, replaced_by, lead(version) OVER (PARTITION BY key ORDER BY version) AS next
    FROM (SELECT key, version, replaced_by FROM list_history UNION ALL SELECT key, version, NULL FROM neighbour_lists) AS l
) AS pairs WHERE replaced_by > next OR replaced_by <= version
"""


@dataclass
class Sample:
    """One snapshot of the store.

    Attributes:
        at: Seconds since the watch began.
        consumed: By partition.
        epochs: By partition.
        published: By partition, the list version that the feed has.
        absorbed: By owner and source partition.
        tracks: By track id, the offset of the event that it is from.
        versions: By key, of each list.
    """

    at: float
    consumed: dict[int, int]
    epochs: dict[int, int]
    published: dict[int, int]
    absorbed: dict[tuple[int, int], int]
    tracks: dict[str, int]
    versions: dict[int, int]


@dataclass
class Watcher:
    """Samples one database until it is stopped.

    Attributes:
        promotions: Whether other generations serve meanwhile: who serves again tells of all its lists anew.
        samples: What was seen.
        faults: What must not have been seen, in words.
    """

    database_url: str
    promotions: bool = False
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Begin to watch."""
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._watch(), name="watcher")

    async def stop(self) -> None:
        """Take a last sample and stop watching.

        Raises:
            Exception: What ended the watch before.
        """
        self._task.cancel()
        results = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _watch(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(self.database_url, timeout=5, command_timeout=10)
                try:
                    while True:
                        await self._sample(connection)
                        await asyncio.sleep(INTERVAL_SECONDS)
                finally:
                    await asyncio.shield(asyncio.create_task(_close(connection)))
            except UNAVAILABLE:
                await asyncio.sleep(INTERVAL_SECONDS)

    async def _sample(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            partitions = await connection.fetch("SELECT * FROM ingest_partitions")
            absorbed = await connection.fetch("SELECT * FROM absorbed_offsets")
            tracks = await connection.fetch("SELECT track_id, source_offset FROM tracks")
            versions = await connection.fetch("SELECT key, version FROM neighbour_lists")
        sample = Sample(
            at=time.monotonic() - self._began,
            consumed={row["partition"]: row["consumed_offset"] for row in partitions},
            epochs={row["partition"]: row["epoch"] for row in partitions},
            published={row["partition"]: row["published_version"] for row in partitions},
            absorbed={
                (row["owner_partition"], row["source_partition"]): row["absorbed_offset"] for row in absorbed
            },
            tracks=dict(tracks),
            versions=dict(versions),
        )
        self._compare(sample)
        self.samples.append(sample)

    def _compare(self, now: Sample) -> None:
        for (_, source), offset in now.absorbed.items():
            if offset > now.consumed.get(source, 0):
                self.faults.append(
                    f"at {now.at:.1f} s partition {source}: absorbed {offset} > consumed {now.consumed.get(source)}"
                )
        if not self.samples:
            return
        before = self.samples[-1]
        names = ["consumed", "epochs", "absorbed", "versions"]
        if not self.promotions:
            names.append("published")
        for name in names:
            earlier, later = getattr(before, name), getattr(now, name)
            self.faults += [
                f"at {now.at:.1f} s {name} of {key} went back from {value} to {later[key]}"
                for key, value in earlier.items()
                if later.get(key, value) < value
            ]

    async def against_history(self) -> list[str]:
        """Hold the lists that were seen against those that are kept: each is there, and no two stood at once."""
        # A promotion gives lists other versions, and those of before are not kept.
        seen = set() if self.promotions else {pair for each in self.samples for pair in each.versions.items()}
        connection = await asyncpg.connect(self.database_url)
        try:
            lost = await connection.fetch(_LOST, [key for key, _ in seen], [version for _, version in seen])
            overlapping = await connection.fetch(_OVERLAPPING)
        finally:
            await connection.close()
        return [
            *(f"list {version} of {key} stood, and is not kept" for key, version in lost[:5]),
            *(f"list {version} of {key} ended after the next one began" for key, version in overlapping[:5]),
        ]

    def against(
        self, log: list[ConsumerRecord], meanings: dict[tuple[bytes, bytes | None], Meaning]
    ) -> list[str]:
        """Hold every sample against the log: the catalogue is what the log made it up to the consumed offsets."""
        faults = []
        for sample in self.samples:
            read = [r for r in log if r.offset < sample.consumed.get(r.partition, 0)]
            wanted = {name: kept.offset for name, kept in LoggedCatalogue(meanings).read(read).tracks.items()}
            if wanted != sample.tracks:
                differing = sorted(dict(wanted.items() ^ sample.tracks.items()))
                faults.append(
                    f"at {sample.at:.1f} s the catalogue is not what the log says up to {sample.consumed}: "
                    f"{[(n, wanted.get(n), sample.tracks.get(n)) for n in differing[:5]]} of {len(differing)}"
                )
        return faults


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=2)
    except UNAVAILABLE:
        connection.terminate()
