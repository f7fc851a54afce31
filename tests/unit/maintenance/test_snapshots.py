"""When a snapshot is written, which notes go with it, and what is refused: on a real engine, in a directory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from store.partitions import PartitionClaim
from streams.engine.process import EngineProcess
from streams.maintenance.maintainer import ListMaintainer
from streams.maintenance.ownership import Ownership
from streams.maintenance.snapshots import NOTES, SNAPSHOT, RestoredSnapshot, SnapshotTask, restore_snapshot
from tests.support.engines import EngineInProcess
from tests.unit.engine.helpers import batch
from tests.unit.engine.test_exact import random_catalogue

pytestmark = pytest.mark.unit

DIMENSION, TRACKS = 4, 20
IDENTITY = "catalogue-1"


class Kept:
    """A maintainer as snapshots see it: a real engine, and how far it is."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.turn = asyncio.Lock()
        self.applied = {0: TRACKS}
        self.owned = frozenset({0})
        self.last_version = 7


async def filled() -> EngineProcess:
    """An engine that holds twenty tracks of partition 0."""
    engine = EngineInProcess(DIMENSION)
    await engine.start()
    await engine.apply(batch(random_catalogue(TRACKS, DIMENSION), dimension=DIMENSION))
    return engine


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    """What is to be written."""
    engine = await filled()
    yield Kept(engine)
    await engine.stop()


@pytest.fixture
def ownership() -> Ownership:
    """Partition 0 is ours."""
    made = Ownership()
    made.take({0: PartitionClaim(1, TRACKS, 0)})
    return made


def snapshots(directory: Path, kept: Kept, ownership: Ownership) -> SnapshotTask:
    """Of one catalogue, in a directory that may not be there yet."""
    return SnapshotTask(directory / "own", cast("ListMaintainer", kept), ownership, IDENTITY, 60.0)


async def loaded(
    directory: Path, identity: str = IDENTITY, **consumed: int
) -> tuple[RestoredSnapshot | None, int]:
    """What an empty engine has of a directory's snapshot: what was restored, and how many tracks it holds."""
    engine = EngineInProcess(DIMENSION)
    await engine.start()
    try:
        found = await restore_snapshot(directory / "own", engine, identity, {0: consumed.get("upto", TRACKS)})
        return found, (await engine.stats()).tracks
    finally:
        await engine.stop()


async def test_what_was_written_is_restored(tmp_path: Path, kept: Kept, ownership: Ownership) -> None:
    """A start gets the tracks, the offsets, the partitions and the version of the time when it was begun."""
    await snapshots(tmp_path, kept, ownership).write()
    assert await loaded(tmp_path) == (RestoredSnapshot({0: TRACKS}, frozenset({0}), 7), TRACKS)
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700


async def test_where_there_is_none_vectors_come_from_the_store(tmp_path: Path) -> None:
    """No file is no error."""
    assert await loaded(tmp_path) == (None, 0)


async def test_nothing_is_written_while_nothing_happens(
    tmp_path: Path, kept: Kept, ownership: Ownership
) -> None:
    """A second snapshot of the same state is not begun; one after a change is; one of no partitions never is."""
    written = snapshots(tmp_path, kept, ownership)
    await written.write()
    first = (tmp_path / "own" / SNAPSHOT).stat()
    await written.write()
    assert (tmp_path / "own" / SNAPSHOT).stat().st_mtime_ns == first.st_mtime_ns
    kept.applied = {0: TRACKS + 1}
    await written.write()
    assert (tmp_path / "own" / SNAPSHOT).stat().st_mtime_ns != first.st_mtime_ns
    kept.owned = frozenset()
    other = snapshots(tmp_path / "other", kept, ownership)
    await other.write()
    assert not (tmp_path / "other" / "own").exists()


async def test_a_snapshot_that_a_rebalance_overtakes_has_no_notes(
    tmp_path: Path, kept: Kept, ownership: Ownership
) -> None:
    """Begun under one tenure and finished under another, it says nothing of whose lists it holds: it is not used."""
    real = kept.engine.write_snapshot

    async def overtaken(*arguments: Any) -> Any:
        header = await real(*arguments)
        ownership.renew([0])
        return header

    kept.engine.write_snapshot = overtaken  # type: ignore[method-assign]
    await snapshots(tmp_path, kept, ownership).write()
    assert not (tmp_path / "own" / NOTES).exists()
    assert await loaded(tmp_path) == (None, 0)


async def test_notes_of_another_snapshot_are_refused(
    tmp_path: Path, kept: Kept, ownership: Ownership
) -> None:
    """A crash between the two files leaves notes that are not the snapshot's."""
    await snapshots(tmp_path, kept, ownership).write()
    path = tmp_path / "own" / NOTES
    notes = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps(notes | {"created": notes["created"] + 1}))
    assert await loaded(tmp_path) == (None, 0)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"created": 1}'])
async def test_damaged_notes_are_refused(
    tmp_path: Path, kept: Kept, ownership: Ownership, damage: str
) -> None:
    """Whatever stands there instead of notes, the vectors come from the store."""
    await snapshots(tmp_path, kept, ownership).write()
    (tmp_path / "own" / NOTES).write_text(damage)
    assert await loaded(tmp_path) == (None, 0)


async def test_another_catalogue_and_a_store_that_is_behind_are_refused(
    tmp_path: Path, kept: Kept, ownership: Ownership
) -> None:
    """A snapshot is of one catalogue, and of a store that has come at least as far: a restored backup has not."""
    await snapshots(tmp_path, kept, ownership).write()
    assert await loaded(tmp_path, "catalogue-2") == (None, 0)
    assert await loaded(tmp_path, upto=TRACKS - 1) == (None, 0)


async def test_a_directory_that_cannot_be_written_is_told_and_tried_again(
    tmp_path: Path, kept: Kept, ownership: Ownership
) -> None:
    """The task goes on: a full disk today is no reason to end the worker."""
    (tmp_path / "own").write_text("a file is in the way")
    made = SnapshotTask(tmp_path / "own", cast("ListMaintainer", kept), ownership, IDENTITY, 0.001)
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0.05)
    assert not task.done()
    (tmp_path / "own").unlink()
    async with asyncio.timeout(30):
        while not (tmp_path / "own" / NOTES).exists():  # noqa: ASYNC110 - a file sets no event
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
