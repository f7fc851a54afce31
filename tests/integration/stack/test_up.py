"""`mess up` and `mess status` as a user runs them, with the fallback broker, which starts fastest."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import asyncpg
import orjson
import psutil
import pytest

from mess.stack.ports import pick_free
from mess.stack.web import answers_ok
from tests.support.polling import until
from tests.support.services import KafkaBroker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of its own, for a user's shell."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MESS_")} | extra


@contextmanager
def running(data_dir: Path, *arguments: str, **extra: str) -> Iterator["StartedStack"]:
    """Run `mess up` around a block, stopping it afterwards if it still runs."""
    with (data_dir.parent / "up.err").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "mess", "up", "--no-demo", "--data-dir", str(data_dir), *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(**extra),
            text=True,
        )
        with process:
            try:
                yield StartedStack(process, data_dir, errors)
            finally:
                process.send_signal(signal.SIGTERM)


class StartedStack:
    """A running `mess up`."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path, errors: IO[str]) -> None:
        self.process = process
        self.data_dir = data_dir
        self._errors = errors

    def url(self) -> str:
        """Wait for the line `ready URL` and return the URL."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), self.said()
        return line.split()[1]

    def state(self) -> dict[str, object]:
        """What stack.json says now."""
        state: dict[str, object] = orjson.loads((self.data_dir / "stack.json").read_bytes())
        return state

    def said(self) -> str:
        """What it wrote on standard error so far."""
        self._errors.seek(0)
        return self._errors.read()


def mess(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `mess` command to its end."""
    command = [sys.executable, "-m", "mess", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=60)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def pids_of(state: dict[str, object]) -> list[int]:
    """Every process id of a stack.json."""
    pids = state["pids"]
    assert isinstance(pids, dict)
    return [pids["api"], *pids["workers"], pids["broker"], pids["postgres"]]


async def test_a_stack_from_start_to_stop(tmp_path: Path) -> None:
    """It gets ready, tells where it is, refuses a second one, restarts what dies, and stops all in time."""
    data_dir = tmp_path / "data"
    with running(data_dir, "--broker=tansu", "--port=0") as up:
        url = up.url()
        assert await answers_ok(f"{url}/health/ready")
        state = up.state()
        assert (state["http_url"], state["broker"]) == (url, "tansu")
        assert not any(gone(pid) for pid in pids_of(state))
        directories = [data_dir, *(path for path in data_dir.rglob("*") if path.is_dir())]
        assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}

        second = await asyncio.to_thread(mess, "up", "--data-dir", str(data_dir), "--port=0")
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert f"already running on {data_dir} (process {up.process.pid})" in second.stderr

        reported = await asyncio.to_thread(mess, "status", "--data-dir", str(data_dir), "--json")
        assert reported.returncode == 0, reported.stderr
        report = orjson.loads(reported.stdout)
        assert [each["name"] for each in report["processes"]] == ["postgres", "broker", "worker-1", "api"]
        assert all(each["alive"] and each["memory_bytes"] > 1_000_000 for each in report["processes"])
        assert (report["tracks"], report["lists"]) == (0, 0)
        assert {topic["topic"]: topic["lag"] for topic in report["topics"]}["track-ingest"] == 0

        api = state["pids"]["api"]  # type: ignore[index]
        os.kill(api, signal.SIGKILL)
        await until(lambda: up.state()["pids"]["api"] not in (api, None))  # type: ignore[index]
        await until(lambda: answers_ok(f"{url}/health/ready"))
        assert "api was ended by SIGKILL; starting it again" in up.said()

        pids = pids_of(up.state())
        up.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(up.process.wait) == 0
        assert all(gone(pid) for pid in pids)
        assert not (data_dir / "stack.json").exists()
    stopped = await asyncio.to_thread(mess, "status", "--data-dir", str(data_dir))
    assert stopped.returncode == 1
    assert "no stack runs" in stopped.stderr


async def test_a_second_start_resumes_with_its_data(tmp_path: Path) -> None:
    """The database of the first run is the database of the second, after a kill -9 of everything in between.

    What serves there has a worker, and topics, which this broker has lost.
    """
    data_dir = tmp_path / "data"
    with running(data_dir, "--broker=tansu", "--port=0") as up:
        up.url()
        state = up.state()
        connection = await asyncpg.connect(state["database_url"])
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        made = await asyncio.to_thread(
            mess, "spaces", "create", "--space", "melody", "--data-dir", str(data_dir)
        )
        assert made.returncode == 0, made.stderr
        await connection.execute("UPDATE generations SET serving = true WHERE space = 'melody'")
        await connection.close()
        up.process.kill()
        await asyncio.to_thread(up.process.wait)
        await until(lambda: all(gone(pid) for pid in pids_of(state)))
    with running(data_dir, "--broker=tansu", "--port=0") as up:
        up.url()
        connection = await asyncpg.connect(up.state()["database_url"])
        assert await connection.fetchval("SELECT answer FROM kept") == 42
        await connection.close()
        report = orjson.loads(
            (await asyncio.to_thread(mess, "status", "--data-dir", str(data_dir), "--json")).stdout
        )
        assert len(up.state()["pids"]["workers"]) == 2  # type: ignore[index]
        assert (data_dir / "logs" / "worker-melody-1.log").exists()
        topics = {each["topic"] for each in report["topics"]}
        assert {"track-embeddings.melody.1", "recommendations.melody"} <= topics


async def test_services_of_ones_own_are_used(
    tmp_path: Path, empty_database_url: str, pipeline_broker: KafkaBroker
) -> None:
    """With both addresses in the environment nothing is embedded, and the schema is made where asked."""
    with running(
        tmp_path / "data",
        "--port=0",
        MESS_DATABASE_URL=empty_database_url,
        MESS_CONSUMER_GROUP=pipeline_broker.group,
        MESS_KAFKA_BOOTSTRAP_SERVERS=pipeline_broker.bootstrap_servers,
    ) as up:
        up.url()
        state = up.state()
        assert state["database_url"] == empty_database_url
        assert (state["broker"], state["bootstrap_servers"]) == (
            "external",
            pipeline_broker.bootstrap_servers,
        )
        assert state["pids"]["broker"] is state["pids"]["postgres"] is None  # type: ignore[index]
        connection = await asyncpg.connect(empty_database_url)
        assert await connection.fetchval("SELECT count(*) FROM tracks") == 0
        await connection.close()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """A taken port is refused before anything is started."""
    (port,) = pick_free(1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        done = mess("up", "--data-dir", str(tmp_path / "data"), f"--port={port}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert not (tmp_path / "data" / "postgres").exists()


def test_a_wrong_address_of_a_broker_is_one_line(tmp_path: Path) -> None:
    """A setting that cannot be right is named before anything is started."""
    command = [sys.executable, "-m", "mess", "up", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        command,
        env=environment(MESS_KAFKA_BOOTSTRAP_SERVERS="nowhere"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mess: MESS_KAFKA_BOOTSTRAP_SERVERS is wrong")
    assert "Traceback" not in done.stderr
