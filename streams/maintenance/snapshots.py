"""The engine's state in a file of this worker's own, so that a start reads no vectors from Postgres.

A snapshot covers each partition up to an offset; later events are read from the store, as a follower reads them. It belongs to
one catalogue, in one database, and to logs that have not been replaced. Any other snapshot is refused with a line in the log,
and the vectors are read from the store. A lost snapshot only costs time.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import structlog

from streams.engine.process import EngineProcess
from streams.engine.snapshot import SnapshotError, read_snapshot_header
from streams.maintenance.maintainer import ListMaintainer
from streams.maintenance.ownership import Ownership

log = structlog.get_logger(__name__)

SNAPSHOT = "engine.snapshot"
NOTES = "engine.snapshot.json"


@dataclass(frozen=True, slots=True)
class RestoredSnapshot:
    """A restored snapshot.

    Attributes:
        applied: By partition, the offset below which the engine holds everything.
        owned: The partitions whose lists it holds.
        version: Lists of these that were stored under a newer version are to be compared.
    """

    applied: dict[int, int]
    owned: frozenset[int]
    version: int


async def restore_snapshot(
    directory: Path, engine: EngineProcess, identity: str, consumed: Mapping[int, int]
) -> RestoredSnapshot | None:
    """Load an empty engine from a worker's snapshot; None if there is no valid one.

    Args:
        directory: The worker's own.
        engine: Started and empty.
        identity: Of the current catalogue.
        consumed: By partition, the store's consumed offset.
    """
    path = directory / SNAPSHOT
    if not path.exists():
        return None
    try:
        notes = orjson.loads((directory / NOTES).read_bytes())
        if notes["created"] != read_snapshot_header(path).created:
            raise SnapshotError("what was noted down about the snapshot is of another one")
        applied = await engine.load_snapshot(path, identity, consumed)
        restored = RestoredSnapshot(applied, frozenset(notes["owned"]), int(notes["version"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the snapshot is not used; vectors are read from Postgres", reason=str(error))
        return None
    await engine.own(sorted(restored.owned))
    return restored


@dataclass(slots=True)
class SnapshotTask:
    """Writes a snapshot periodically.

    Attributes:
        directory: The worker's own; created if missing.
        maintainer: Has the engine.
        ownership: A snapshot during which tenures changed is discarded.
        identity: Of the catalogue.
        interval: Seconds from one snapshot to the next.
    """

    directory: Path
    maintainer: ListMaintainer
    ownership: Ownership
    identity: str
    interval: float
    _written: object = field(default=None, init=False)

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(self.interval)
            try:
                await self.write()
            except (OSError, SnapshotError) as error:
                log.warning("no snapshot was written", reason=str(error))

    async def write(self) -> None:
        """Write a snapshot unless nothing has changed since the last one."""
        maintainer = self.maintainer
        async with maintainer.turn:
            state = dict(maintainer.applied), maintainer.owned, self.ownership.tenures
            if state == self._written or not maintainer.owned:
                return
            version = maintainer.last_version
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # What is noted down belongs to the snapshot before, which is about to be replaced.
            (self.directory / NOTES).unlink(missing_ok=True)
            writing = asyncio.create_task(
                maintainer.engine.write_snapshot(self.directory / SNAPSHOT, self.identity, state[0]),
                name="snapshot",
            )
            await asyncio.sleep(0)  # its first call is the engine's next one
        try:
            header = await writing
        finally:
            writing.cancel()
        if (maintainer.owned, self.ownership.tenures) != state[1:]:
            return
        notes = {"created": header.created, "version": version, "owned": sorted(maintainer.owned)}
        partial = self.directory / f"{NOTES}.partial"
        partial.write_bytes(orjson.dumps(notes))
        partial.replace(self.directory / NOTES)
        self._written = state
        log.info("snapshot written", tracks=header.tracks, bytes=header.size)
