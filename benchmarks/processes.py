"""Real processes to measure: a whole local stack, or Postgres, a broker and a worker of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import machine
from mess.stack.ports import pick_free
from mess.stack.statefile import StackState, read_state

START_SECONDS = 120.0
STOP_SECONDS = 30.0


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any setting of ours but the given ones and the cache of Kafka's jars."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MESS_") or name == "MESS_CACHE_DIR"
    }
    return kept | settings


def end_process(process: subprocess.Popen[str]) -> None:
    """Stop a process of ours and wait."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class BenchmarkStack:
    """A running `mess up`.

    Attributes:
        state: What its stack.json says.
        ready_seconds: From its start to the line `ready`.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path, started: float, state: StackState) -> None:
        self.state = state
        self.ready_seconds = time.monotonic() - started
        self._process = process
        self._log = log
        self._started = started

    def wait_for_lists(self, timeout: float = 300.0) -> float:
        """Seconds from the start to every work of the demo having its list, by the stack's own word."""
        while time.monotonic() - self._started < timeout:
            if "works have their" in self._log.read_text(encoding="utf-8"):
                return time.monotonic() - self._started
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the demo catalogue did not settle:\n{self._log.read_text(encoding='utf-8')}")

    def pids(self) -> dict[str, int]:
        """Its processes by name."""
        pids = self.state.pids
        named = {
            "mess up": self._process.pid,
            "postgres": pids.postgres,
            "broker": pids.broker,
            "api": pids.api,
        }
        if pids.workers:
            named["worker"] = pids.workers[0]
            named["engine"] = machine.engine_pid(pids.workers[0])
        return {name: pid for name, pid in named.items() if pid is not None}


@contextlib.contextmanager
def local_stack(directory: Path, *arguments: str) -> Iterator[BenchmarkStack]:
    """Run `mess up` on a fresh data directory."""
    log = directory / "up.log"
    data = directory / "data"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "mess", "up", "--data-dir", str(data), "--port", "0", *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                state = read_state(data)
                if not line.startswith("ready") or state is None:
                    raise RuntimeError(f"the stack did not start:\n{log.read_text(encoding='utf-8')}")
                yield BenchmarkStack(process, log, started, state)
            finally:
                end_process(process)


@contextlib.contextmanager
def services(*arguments: str) -> Iterator[dict[str, str]]:
    """Run Postgres and a broker, durable as in production; yields their addresses."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mess.stack.devservices", "--until-eof", *arguments],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("Postgres and the broker did not start")
            yield orjson.loads(line)
        finally:
            process.stdin.close()
            end_process(process)


class BenchmarkWorker:
    """A running `mess worker`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.pid = process.pid
        self._process = process
        self._port = port

    def metrics(self) -> dict[str, float]:
        """Its metrics by name, with the values of labels in brackets: `mess_engine_seconds[merge]`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        found = {}
        for sample in (sample for family in families for sample in family.samples):
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}[{labels}]" if labels else sample.name] = sample.value
        return found

    def require(self) -> None:
        """Raise if it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker has ended with status {self._process.returncode}")


@contextlib.contextmanager
def running_worker(
    database_url: str, bootstrap_servers: str, log: Path, **settings: str
) -> Iterator[BenchmarkWorker]:
    """Run a worker on these services, with further settings, and wait until it maintains lists."""
    (port,) = pick_free(1)
    variables = environment(
        MESS_DATABASE_URL=database_url,
        MESS_KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers,
        MESS_WORKER_PORT=str(port),
        **settings,
    )
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mess", "worker"], env=variables, stdout=output, stderr=output, text=True
        )
    with process:
        try:
            running = BenchmarkWorker(process, port)
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                running.require()
                with contextlib.suppress(OSError):
                    if running.metrics().get("mess_worker_active"):
                        break
                time.sleep(0.02)
            yield running
        finally:
            end_process(process)
