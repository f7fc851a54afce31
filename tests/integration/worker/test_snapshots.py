"""A worker that keeps a snapshot of its engine starts from it, and from the tail of the store."""

import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.integration.worker.conftest import Line
from tests.integration.worker.test_worker import DIMENSION, eventually, random_tracks
from tests.support.worker import publish, settle, track_message, wrong_lists

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worker's own directory."""
    return tmp_path_factory.mktemp("snapshots")


@pytest.fixture(scope="module")
def worker_settings(data_dir: Path) -> dict[str, str]:
    """A snapshot every second."""
    return {"MESS_DATA_DIR": str(data_dir), "MESS_SNAPSHOT_SECONDS": "1"}


def starts(line: Line) -> list[bool]:
    """Of each start of the worker, whether its vectors came from a snapshot."""
    events = [orjson.loads(row) for row in line.worker.log.read_bytes().splitlines() if row.startswith(b"{")]
    return [event["snapshot"] for event in events if event.get("event") == "engine loaded"]


async def written(line: Line, data_dir: Path) -> None:
    """Wait for a snapshot that is newer than now."""
    notes, began = data_dir / "engine.snapshot.json", time.time()

    async def newer() -> bool:
        return notes.exists() and notes.stat().st_mtime > began

    vector = np.random.default_rng().standard_normal(DIMENSION)
    await publish(line.servers, [track_message("snapshot/trigger", vector)])
    await eventually(newer)


async def test_a_worker_starts_from_its_snapshot_and_the_tail_of_the_store(
    line: Line, data_dir: Path
) -> None:
    """What others inserted, moved and deleted since the snapshot is caught up with; the lists are those of brute force."""
    tracks = random_tracks("tail", 80)
    await publish(line.servers, [track_message(n, v) for n, v in tracks.items()])
    await settle(line.database_url, line.servers)
    await written(line, data_dir)
    line.worker.kill()
    second = line.another_worker("meanwhile")
    second.start()
    try:
        moved = random_tracks("tail", 20, seed=2)
        await publish(line.servers, [track_message(n, v) for n, v in moved.items()])
        await publish(line.servers, [(name.encode(), None) for name in list(tracks)[40:60]])
        await settle(line.database_url, line.servers)
    finally:
        second.stop()
    await publish(line.servers, [track_message(n, v) for n, v in random_tracks("after", 20).items()])
    line.worker.start()
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []
    assert starts(line)[-1]


async def test_a_corrupt_snapshot_is_told_of_and_not_used(line: Line, data_dir: Path) -> None:
    """Where one bit has turned, the vectors are read from the store again."""
    await written(line, data_dir)
    line.worker.kill()
    path = data_dir / "engine.snapshot"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    line.worker.start()
    await publish(line.servers, [track_message(n, v) for n, v in random_tracks("corrupt", 20).items()])
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []
    assert not starts(line)[-1]
    assert "the snapshot is not used" in line.worker.log.read_text()
