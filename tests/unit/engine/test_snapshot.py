"""The engine's state in a file: written while the engine changes, loaded again, refused when it is not right."""

import time
from pathlib import Path

import numpy as np
import pytest

from streams.engine import snapshot
from streams.engine.exact import ExactEngine
from streams.engine.process import EngineProcess
from streams.engine.snapshot import SnapshotError, read_snapshot_header
from streams.engine.types import EVENT, SnapshotHeader, StoredLists
from tests.unit.engine.helpers import KeptLists, batch, key_of, oracle
from tests.unit.engine.test_exact import random_catalogue, settle

pytestmark = pytest.mark.unit

DIMENSION, PUBLISHED, KEPT = 8, 5, 10
ALL = 10**6


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small catalogues take several frames and passes."""
    monkeypatch.setattr(snapshot, "FRAME_ROWS", 16)
    monkeypatch.setattr(snapshot, "LAST_ROWS", 4)


def empty() -> ExactEngine:
    """An engine with nothing in it."""
    return ExactEngine(DIMENSION, published=PUBLISHED, kept=KEPT)


def written(engine: ExactEngine, path: Path) -> SnapshotHeader:
    """Finish the snapshot, however long the disk takes."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        header = engine.continue_snapshot(1.0)
        if header is not None:
            return header
        time.sleep(0.001)
    raise AssertionError("the snapshot never ends")


def saved(tmp_path: Path, count: int = 60) -> Path:
    """A snapshot of a small catalogue."""
    engine, path = empty(), tmp_path / "engine.snapshot"
    engine.apply(batch(random_catalogue(count, DIMENSION), dimension=DIMENSION))
    engine.begin_snapshot(str(path), "demo", {0: 60, 1: 60})
    written(engine, path)
    return path


def test_what_is_applied_while_a_snapshot_is_written_is_in_it(tmp_path: Path) -> None:
    """Inserts, moves and deletes between slices: the file holds the last state, and goes up to the last offsets."""
    rng = np.random.default_rng(3)
    engine, follower, path = empty(), KeptLists(), tmp_path / "engine.snapshot"
    catalogue = random_catalogue(200, DIMENSION)
    engine.apply(batch(catalogue, dimension=DIMENSION))
    follower.take(engine)
    engine.begin_snapshot(str(path), "demo", {0: 200, 1: 200, 2: 200, 3: 200})
    offset, header = 200, None
    while header is None:
        header = engine.continue_snapshot(0.0001)
        # What comes while the disk takes the file is not in it any more.
        if engine._snapshot is None or engine._snapshot._finishing is not None or offset > 1_000:
            continue
        some = rng.choice(sorted(catalogue), 12, replace=False).tolist()
        upserts = dict(
            zip(
                [*some[:6], *[f"n{offset + i}" for i in range(4)]],
                random_catalogue(10, DIMENSION, offset).values(),
                strict=True,
            )
        )
        engine.apply(batch(upserts, some[6:], dimension=DIMENSION, first=offset))
        catalogue = {k: v for k, v in (catalogue | upserts).items() if k not in some[6:]}
        offset += 16
        if offset % 3 == 0:
            follower.take(engine)
    assert read_snapshot_header(path) == header
    assert max(header.offsets.values()) == offset
    loaded = empty()
    assert loaded.load_snapshot(str(path), "demo", header.offsets) == header.offsets
    assert sorted(loaded.keys().tolist()) == sorted(key_of(name) for name in catalogue)
    settle(loaded)
    follower.take(loaded)
    assert follower.lists == oracle(catalogue, PUBLISHED)
    # And it goes on from there.
    more = random_catalogue(30, DIMENSION, seed=77)
    gone = [name for name in sorted(catalogue) if name not in more][:20]
    loaded.apply(batch(more, gone, dimension=DIMENSION, first=offset))
    settle(loaded)
    follower.take(loaded)
    assert follower.lists == oracle({k: v for k, v in (catalogue | more).items() if k not in gone}, PUBLISHED)


def test_lists_and_deletions_taken_last_are_given_again(tmp_path: Path) -> None:
    """The process that took them may have died before it stored them."""
    engine, path = empty(), tmp_path / "engine.snapshot"
    catalogue = random_catalogue(40, DIMENSION)
    engine.apply(batch(catalogue, dimension=DIMENSION))
    engine.take_changes()
    engine.apply(batch({}, ["0000003"], dimension=DIMENSION))
    taken = engine.take_changes()
    engine.begin_snapshot(str(path), "demo", {})
    written(engine, path)
    loaded = empty()
    loaded.load_snapshot(str(path), "demo")
    again = loaded.take_changes()
    assert sorted(again.keys.tolist()) == sorted(taken.keys.tolist())
    assert again.deleted.tolist() == [key_of("0000003")]
    assert len(loaded.take_changes()) == 0


def test_lists_that_the_store_holds_otherwise_are_given_again(tmp_path: Path) -> None:
    """Of the lists said to be held, those that differ, and only those, are among the next changes."""
    loaded = empty()
    loaded.load_snapshot(str(saved(tmp_path)), "demo")
    now = loaded.take_changes()
    other = now.neighbours.copy()
    other[3, :2] = other[3, 1::-1]
    events = np.zeros(len(now), dtype=EVENT)
    loaded.held(StoredLists(now.keys, other, now.scores, now.lengths, events))
    assert loaded.take_changes().keys.tolist() == [now.keys[3]]


@pytest.mark.parametrize("at", [20, 4096 + 10, -1])
def test_a_corrupt_snapshot_is_refused(tmp_path: Path, at: int) -> None:
    """A byte changed in the header, in a frame's head or in its payload is found, and the engine stays empty."""
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    engine = empty()
    with pytest.raises(SnapshotError, match="corrupt"):
        engine.load_snapshot(str(path), "demo")
    engine.apply(batch(random_catalogue(20, DIMENSION), dimension=DIMENSION))
    assert engine.stats().tracks == 20


def test_a_snapshot_that_does_not_fit_is_refused_with_a_reason(tmp_path: Path) -> None:
    """Truncated, missing, of another catalogue, of another shape, beyond what the store knows, or no snapshot at all."""
    path = saved(tmp_path)
    with pytest.raises(SnapshotError, match="'demo', not 'other'"):
        empty().load_snapshot(str(path), "other")
    with pytest.raises(SnapshotError, match="dimension, published and kept"):
        ExactEngine(DIMENSION, published=PUBLISHED, kept=KEPT + 1).load_snapshot(str(path), "demo")
    with pytest.raises(SnapshotError, match="offset 60 of partition 1"):
        empty().load_snapshot(str(path), "demo", {0: 60, 1: 59})
    with pytest.raises(SnapshotError, match="cannot be read"):
        read_snapshot_header(tmp_path / "nothing")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SnapshotError, match="truncated"):
        empty().load_snapshot(str(path), "demo")
    path.write_bytes(b"x" * 5000)
    with pytest.raises(SnapshotError, match="not a snapshot"):
        read_snapshot_header(path)


def test_a_snapshot_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """No directory, no snapshot, and nothing is left behind by one that is replaced."""
    engine = empty()
    with pytest.raises(SnapshotError, match="cannot be written"):
        engine.begin_snapshot(str(tmp_path / "no" / "where"), "demo", {})
    with pytest.raises(SnapshotError, match="no snapshot"):
        engine.continue_snapshot(1.0)
    engine.begin_snapshot(str(tmp_path / "one"), "demo", {})
    engine.begin_snapshot(str(tmp_path / "two"), "demo", {})
    written(engine, tmp_path / "two")
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


async def test_a_process_writes_and_loads_snapshots(tmp_path: Path) -> None:
    """Over the pipe, with batches in between; a refusal comes back as one."""
    path, catalogue = tmp_path / "engine.snapshot", random_catalogue(50, DIMENSION)
    first = EngineProcess(DIMENSION, published=PUBLISHED, kept=KEPT)
    await first.start()
    try:
        await first.apply(batch(catalogue, dimension=DIMENSION))
        header = await first.write_snapshot(path, "demo", {0: 50})
        assert header.tracks == 50
    finally:
        await first.stop()
    second = EngineProcess(DIMENSION, published=PUBLISHED, kept=KEPT)
    await second.start()
    try:
        with pytest.raises(SnapshotError, match="not 'other'"):
            await second.load_snapshot(path, "other")
        assert await second.load_snapshot(path, "demo") == {0: 50}
        assert len(await second.keys()) == 50
    finally:
        await second.stop()
