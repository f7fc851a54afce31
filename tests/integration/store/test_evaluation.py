"""`mess evaluate` on a real store: vectors, facts, lists and listening as they are stored."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from store import layouts, lists, tracks
from store.columns import METADATA_FIELDS
from store.pool import open_pool
from store.rows import ListRows
from store.settings import StoreSettings
from store.tracks import TrackRow
from streams.contracts import track_key
from streams.engine.similarity import brute_force
from tests.support.metadata import NOTHING_KNOWN

pytestmark = pytest.mark.integration

COUNT = 40


def stored_track(number: int, vector: np.ndarray) -> TrackRow:
    """Track t00, t01, ...; the form is one of two by turns, and the collection is in `extra`."""
    facts = NOTHING_KNOWN | {
        "form": f"form {number % 2}",
        "extra": {"collection": f"book {number % 2}"},
    }
    return TrackRow(
        track_id=f"t{number:02d}",
        key=track_key(f"t{number:02d}"),
        metadata=tuple(facts[name] for name in METADATA_FIELDS),
        embedding=vector.astype("<f4").tobytes(),
        partition=0,
        offset=number,
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
    )


def true_lists(vectors: np.ndarray, ids: list[str]) -> ListRows:
    """Lists of ten by brute force."""
    neighbours, scores = brute_force(vectors, ids, 10)
    return ListRows(
        keys=np.array([track_key(one) for one in ids]),
        neighbours=np.array([[track_key(one) for one in row] for row in neighbours]),
        scores=np.stack(scores),
        lengths=np.full(len(ids), 10),
        partitions=np.zeros(len(ids), dtype=np.int32),
        offsets=np.arange(len(ids)),
        event_times=np.zeros(len(ids), dtype=np.int64),
    )


async def fill(database_url: str) -> None:
    """Two groups of tracks around two directions, their lists, and listening to the first track."""
    random = np.random.default_rng(0)
    vectors = np.eye(2, 6)[np.arange(COUNT) % 2] + 0.3 * random.normal(size=(COUNT, 6))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"t{number:02d}" for number in range(COUNT)]
    pool = await open_pool(StoreSettings(database_url=database_url), application_name="test")
    try:
        async with pool.acquire() as connection, connection.transaction():
            await layouts.fix_layout(connection, layouts.StoredLayout(6))
            await tracks.upsert_tracks(connection, [stored_track(i, vectors[i]) for i in range(COUNT)])
            await lists.flush_lists(connection, true_lists(vectors, ids), np.empty(0, dtype=np.int64))
    finally:
        await pool.close()


async def listen(database_url: str) -> None:
    """Somebody has listened to the first track."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO popularity (key, value, count, reference) VALUES ($1, 5, 5, $2)",
            track_key("t00"),
            datetime(2026, 6, 1, tzinfo=UTC).timestamp(),
        )
    finally:
        await connection.close()


def mess_evaluate(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing configured but its arguments."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESS_")}
    return subprocess.run(
        [sys.executable, "-m", "mess", "evaluate", "--processes", "1", *arguments],
        cwd=directory,
        env=kept | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_a_store_is_evaluated_as_it_is(database_url: str, tmp_path: Path) -> None:
    """Labels from its facts, similarity from its lists, densities for the correction, listening as it was recorded."""
    empty = mess_evaluate(tmp_path, "--database-url", database_url)
    assert empty.returncode == 2
    assert empty.stderr.startswith("mess: The store holds no tracks yet.")

    await fill(database_url)
    arguments = ("--database-url", database_url, "--json", "--hub-correction", "1", "--strategy", "popular")
    done = mess_evaluate(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["tracks"] == report["seeds"] == COUNT
    assert report["dimension"] == 6
    assert {label["name"] for label in report["labels"]} == {"collection", "form"}
    assert report["listening"].startswith("simulated")
    lines = {line["name"]: line["measures"] for line in report["strategies"]}
    assert lines["similarity"]["precision_form"]["mean"] > 0.9
    assert lines["chance"]["precision_form"]["mean"] < 0.7
    assert [line["name"] for line in report["hubs_held_back"]] == [
        "similarity, corrected",
        "popular, corrected",
    ]

    await listen(database_url)
    heard = json.loads(mess_evaluate(tmp_path, *arguments).stdout)
    assert heard["listening"] == "the store's: 1 of its tracks have been listened to"


def test_a_store_that_is_away_is_told_in_one_line(tmp_path: Path) -> None:
    """No traceback, exit status 2."""
    done = mess_evaluate(tmp_path, "--database-url", "postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 2
    assert done.stderr.startswith("mess: ")
    assert "Traceback" not in done.stderr
