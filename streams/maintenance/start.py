"""Makes a worker's engine, and loads the vectors of the catalogue at its start. Lists are read later, when partitions are claimed."""

from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from store import lists, tail
from store.pool import snapshot
from store.tail import ConsumedPosition
from streams.engine.process import EngineProcess
from streams.maintenance.arrays import catalogue_batch, stored_lists
from streams.maintenance.names import TrackNames
from streams.maintenance.snapshots import RestoredSnapshot, restore_snapshot
from streams.settings import StreamSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """An engine's state after its start.

    Attributes:
        positions: By partition, the store's consumed position.
        applied: By partition, the offset below which the engine holds everything.
        restored: The restored snapshot; None if the vectors are from the store.
        identity: The identity of the catalogue.
    """

    positions: dict[int, ConsumedPosition]
    applied: dict[int, int]
    restored: RestoredSnapshot | None
    identity: str


def engine_process(settings: StreamSettings, dimension: int) -> EngineProcess:
    """The engine that these settings ask for, not started."""
    return EngineProcess(
        dimension,
        published=settings.list_size,
        kept=settings.list_kept,
        exact_upto=settings.exact_upto,
        by_descent=settings.bootstrap == "pynndescent",
        cache=None if settings.data_dir is None else settings.data_dir / "compiled",
    )


async def load_engine(
    pool: asyncpg.Pool, engine: EngineProcess, names: TrackNames, dimension: int, directory: Path | None
) -> LoadedEngine:
    """Load the engine's vectors from this worker's snapshot if there is one, else from the store."""
    async with snapshot(pool) as connection:
        positions = await tail.consumed_positions(connection)
        identity = await tail.catalogue_identity(connection)
        consumed = {partition: at.consumed for partition, at in positions.items()}
        restored = (
            None if directory is None else await restore_snapshot(directory, engine, identity, consumed)
        )
        if restored is not None:
            keys, track_ids = await tail.read_names(connection)
        else:
            found = await lists.read_track_vectors(connection, dimension)
            keys, track_ids = found.keys, found.track_ids
            await engine.own([])
            await engine.load(catalogue_batch(found), stored_lists(lists.NO_LISTS))
    names.load(keys.tolist(), track_ids)
    log.info("engine loaded", tracks=len(keys), snapshot=restored is not None)
    return LoadedEngine(positions, consumed if restored is None else restored.applied, restored, identity)
