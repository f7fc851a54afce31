"""Stored lists are held against true ones: on demand by `mess audit`, all the time by the worker's sampler."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from mess.stack.statefile import Pids, StackState, write_state
from streams.contracts import track_key
from streams.kafka.topics import ensure_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.support.polling import until
from tests.support.services import KafkaBroker
from tests.support.worker import WorkerProcess, publish, settle, track_message

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TRACKS = 150


@pytest.fixture
def worker(database_url: str, pipeline_broker: KafkaBroker, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker that samples many lists a second, not started."""
    made = WorkerProcess(
        database_url,
        pipeline_broker.bootstrap_servers,
        tmp_path / "worker.log",
        MESS_SAMPLED_LISTS_PER_SECOND="100",
        MESS_SESSION_TIMEOUT_SECONDS="6",
        MESS_CONSUMER_GROUP=pipeline_broker.group,
    )
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def mess_audit(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing configured but `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESS_")}
    return subprocess.run(
        [sys.executable, "-m", "mess", "audit", *arguments],
        cwd=directory,
        env=kept | {"PYTHONPATH": str(Path(__file__).parents[3])} | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def figure(printed: str, name: str) -> float:
    """A figure of the printed table by its name."""
    line = next(line for line in printed.splitlines() if f" {name} " in line)
    return float(line.split("│")[-2].replace(",", ""))


async def fill(database_url: str, broker: KafkaBroker, worker: WorkerProcess) -> list[str]:
    """Publish tracks and wait until their lists are stored."""
    servers = broker.bootstrap_servers
    await ensure_topics(KafkaSettings(bootstrap_servers=servers), StreamSettings(), wait=20)
    worker.start()
    names = [f"t{i:03d}" for i in range(TRACKS)]
    vectors = np.random.default_rng(0).standard_normal((TRACKS, 16))
    await publish(servers, [track_message(n, v) for n, v in zip(names, vectors, strict=True)])
    await settle(database_url, servers)
    return names


async def spoil(database_url: str, *statements: tuple[str, object]) -> None:
    """Change what is stored behind everybody's back."""
    connection = await asyncpg.connect(database_url)
    try:
        for statement, argument in statements:
            await connection.execute(statement, argument)
    finally:
        await connection.close()


async def test_lists_spoilt_in_the_store_are_noticed(
    database_url: str, pipeline_broker: KafkaBroker, worker: WorkerProcess, tmp_path: Path
) -> None:
    """True lists give recall 1 and exit 0; spoilt ones are counted by kind, lower recall and give exit 1."""
    names = await fill(database_url, pipeline_broker, worker)
    await until(lambda: worker.metrics()["mess_sampled_lists_total{outcome=right}"] > TRACKS)
    sampled = worker.metrics()
    assert sampled["mess_sampled_lists_total{outcome=wrong}"] == 0
    assert sampled["mess_sampled_list_age_seconds_count"] >= TRACKS

    state = StackState(
        http_url="http://127.0.0.1:1",
        bootstrap_servers=pipeline_broker.bootstrap_servers,
        database_url=database_url,
        broker="external",
        pids=Pids(),
    )
    (tmp_path / "data").mkdir()
    write_state(tmp_path / "data", state)
    good = await asyncio.to_thread(mess_audit, tmp_path, "--data-dir", "data", "--threshold", "1")
    assert good.returncode == 0, good.stdout + good.stderr
    assert (figure(good.stdout, "audited"), figure(good.stdout, "wrong")) == (TRACKS, 0)
    assert (figure(good.stdout, "recall@50"), figure(good.stdout, "scores that differ")) == (1.0, 0)

    key = [track_key(name) for name in names]
    await spoil(
        database_url,
        ("DELETE FROM neighbour_lists WHERE key = $1", key[0]),
        (
            "UPDATE neighbour_lists SET neighbours = neighbours[:9], scores = scores[:9] WHERE key = $1",
            key[1],
        ),
        ("UPDATE neighbour_lists SET neighbours[1] = 42 WHERE key <> $1", key[1]),
    )
    bad = await asyncio.to_thread(mess_audit, tmp_path, MESS_DATABASE_URL=database_url)
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert "below 0.999" in bad.stderr
    assert (figure(bad.stdout, "missing"), figure(bad.stdout, "short")) == (1, 1)
    assert figure(bad.stdout, "wrong") == figure(bad.stdout, "entries that name no track") == TRACKS - 2
    expected = 1 - (50 + 41 + TRACKS - 2) / (50 * TRACKS)
    assert figure(bad.stdout, "recall@50") == pytest.approx(expected, abs=1e-6)
    assert mess_audit(tmp_path, "--threshold", "0.5", MESS_DATABASE_URL=database_url).returncode == 0
    part = mess_audit(tmp_path, "--sample", "20", "--threshold", "0", MESS_DATABASE_URL=database_url)
    assert figure(part.stdout, "audited") == 20

    await until(lambda: worker.metrics()["mess_sampled_lists_total{outcome=wrong}"] > 0)
    await until(lambda: worker.metrics()["mess_sampled_recall{at=50}"] < 0.99)


def test_an_empty_store_is_right(tmp_path: Path, database_url: str) -> None:
    """Before the first track there is nothing that could be wrong."""
    done = mess_audit(tmp_path, MESS_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    assert figure(done.stdout, "tracks") == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "no local stack runs in .mess"),
        ({"MESS_DATABASE_URL": "postgresql://u:p@127.0.0.1:9/none"}, "Postgres is not available"),
    ],
)
def test_without_a_database_it_says_so(tmp_path: Path, settings: dict[str, str], says: str) -> None:
    """No database, or one that does not answer, is one line and exit status 2."""
    done = mess_audit(tmp_path, **settings)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_without_a_schema_says_so(tmp_path: Path, empty_database_url: str) -> None:
    """An empty database is told from one whose lists are right."""
    done = mess_audit(tmp_path, MESS_DATABASE_URL=empty_database_url)
    assert done.returncode == 2
    assert "mess migrate" in done.stderr
