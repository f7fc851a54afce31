"""Servers that can be killed and started again on the same port and data, and workers that are kept running."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from mess.stack import guardian
from mess.stack.broker import BrokerChoice, prepare_broker
from mess.stack.ports import PortBook
from mess.stack.postgres import EmbeddedPostgres
from mess.stack.service import ServiceSpec
from tests.support.worker import WorkerProcess

READY_SECONDS = 90.0


class Guardian:
    """Ends what is left when this process dies without a chance to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guardian.__file__))],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def add(self, pid: int) -> None:
        """Take a process into care."""
        self._write(f"+ {pid} {int(signal.SIGKILL)}")

    def remove(self, pid: int) -> None:
        """The process has ended."""
        self._write(f"- {pid}")

    def close(self) -> None:
        """Let go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


class Server:
    """One server, started and killed at will; its data stays.

    Args:
        spec: How it is run.
        guardian: Knows of its process.
    """

    def __init__(self, spec: ServiceSpec, guardian: Guardian) -> None:
        self._spec = spec
        self._guardian = guardian
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._spec.log

    async def start(self) -> None:
        """Start it, as often as it takes (a killed predecessor may still hold its memory), and wait for it."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if self._process is None or self._process.poll() is not None:
                self._spawn()
            if await self._spec.probe():
                return
            assert time.monotonic() < deadline, f"{self._spec.name} is not ready; see {self.log}"
            await asyncio.sleep(0.1)

    def _spawn(self) -> None:
        if self._spec.before_start is not None:
            self._spec.before_start()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self._spec.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if self._spec.env is None else dict(self._spec.env),
                start_new_session=True,
            )
        self._guardian.add(self._process.pid)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it at once. SIGKILL takes its children along; SIGQUIT is Postgres's immediate stop."""
        if self._process is None:
            return
        processes = tree(self._process.pid)
        signal_all(processes[:1] if number is signal.SIGQUIT else processes, number)
        self._process.wait(20)
        psutil.wait_procs(processes[1:], 20)
        self._guardian.remove(self._process.pid)
        self._process = None


_STOPPED = "stopped"


class KeptWorker(WorkerProcess):
    """A worker that is started again whenever it ends, as a supervisor does.

    Args:
        guardian: Knows of its process.
        database_url: Its database.
        servers: Its broker.
        log: Where its output goes; its stem is the worker's name.
        note: Told of each end.
        session_seconds: After which the group takes it for dead.
        settings: Further ones, as environment variables.

    Attributes:
        exits: How it ended, each time: the exit status, negative for a signal.
        ends: Likewise in words: the point where it was to die, `random` for `kill_now`, `stopped` if it was asked to stop,
            else the status.
        next_point: Gives the fault point of each further life; none of itself.
    """

    def __init__(
        self,
        guardian: Guardian,
        database_url: str,
        servers: str,
        log: Path,
        note: Callable[[str], None],
        session_seconds: int = 6,
        **settings: str,
    ) -> None:
        super().__init__(
            database_url,
            servers,
            log,
            **settings,
            MESS_SESSION_TIMEOUT_SECONDS=str(session_seconds),
            MESS_WORKER_NAME=log.stem,
            # Often enough that most starts find one, of a state that is long past or of a partition that was lost since.
            MESS_DATA_DIR=str(log.with_suffix("")),
            MESS_SNAPSHOT_SECONDS="1.5",
            MESS_LIST_HISTORY="1h",
        )
        self.name = log.stem
        self._note = note
        self.exits: list[int] = []
        self.ends: list[str] = []
        self.next_point: Callable[[], str] = lambda: ""
        self._fate = ""
        self._guardian = guardian
        self._keeper: asyncio.Task[None] | None = None

    def run(self, fault_point: str = "") -> None:
        """Start it and keep it running; its first life may end at a fault point."""
        self._start(fault_point)
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    def _start(self, fault_point: str = "") -> None:
        self._environment["MESS_FAULT_POINT"] = self._fate = fault_point
        self.start()
        assert self.process is not None
        self._guardian.add(self.process.pid)

    async def _keep(self) -> None:
        while True:
            assert self.process is not None
            while self.process.poll() is None:  # noqa: ASYNC110 -- a process sets no event
                await asyncio.sleep(0.05)
            self._guardian.remove(self.process.pid)
            self.exits.append(self.process.returncode)
            stopped = self.process.returncode in (0, -signal.SIGTERM) and self._fate == _STOPPED
            killed = self.process.returncode == -signal.SIGKILL and self._fate not in ("", _STOPPED)
            as_wanted = stopped or killed
            self.ends.append(
                self._fate.partition(":")[0] if as_wanted else f"status {self.process.returncode}"
            )
            self._note(f"{self.name} ended with status {self.process.returncode}")
            await asyncio.sleep(0.2)
            self._start(self.next_point())

    def kill_now(self) -> None:
        """Kill it at whatever it is doing, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self._fate = "random"
            self.process.kill()

    def ask_to_stop(self) -> None:
        """Ask it to stop, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self._fate = _STOPPED
            self.process.send_signal(signal.SIGTERM)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it and do not start it again; a SIGTERM that is not obeyed in time becomes a SIGKILL."""
        await self.let_go()
        if self.process is None or self.process.poll() is not None:
            return
        processes = tree(self.process.pid)
        self.process.send_signal(number)
        try:
            await asyncio.to_thread(self.process.wait, 20)
        except subprocess.TimeoutExpired:
            signal_all(processes, signal.SIGKILL)
            self.process.wait(10)
        self._guardian.remove(self.process.pid)
        # The engine sees that its parent is gone.
        _, left = await asyncio.to_thread(psutil.wait_procs, processes[1:], 30)
        signal_all(left, signal.SIGKILL)
        assert not left, "a worker's children outlive it"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker and all its children."""
        assert self.process is not None
        signal_all(tree(self.process.pid), number)

    def child(self, number: int) -> psutil.Process | None:
        """Its engine process (0) or its search process (1), if there is one: it starts them in this order."""
        assert self.process is not None
        try:
            spawned = [
                child
                for child in psutil.Process(self.process.pid).children()
                if "spawn_main" in " ".join(child.cmdline())
            ]
            return sorted(spawned, key=lambda child: child.create_time())[number]
        except (psutil.Error, IndexError):
            return None

    async def let_go(self) -> None:
        """Do not start it again when it ends."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None


class Servers:
    """A Postgres and a broker of our own.

    Attributes:
        postgres: The database server; what it has committed survives its death.
        broker: The broker.
        broker_kind: "kafka" or "tansu".
        bootstrap_servers: Where clients connect.
    """

    def __init__(self, directory: Path, guardian: Guardian) -> None:
        ports = PortBook(directory / "ports.json")
        self._embedded = EmbeddedPostgres(
            directory / "postgres", ports.get("postgres"), directory / "postgres.log", durable=True
        )
        self._embedded.prepare()
        kind = BrokerChoice(os.environ.get("MESS_TEST_BROKER", "auto"))
        broker = prepare_broker(kind, directory, directory / "broker.log", ports.get, lambda _: None)
        self.postgres = Server(self._embedded.service(), guardian)
        self.broker = Server(broker.service, guardian)
        self.broker_kind = broker.kind
        self.bootstrap_servers = broker.bootstrap_servers

    async def start(self) -> None:
        """Start both."""
        await asyncio.gather(self.postgres.start(), self.broker.start())
        await self._embedded.ensure_roles()

    @property
    def database_url(self) -> str:
        """The owner's URL of the first database."""
        return self._embedded.owner_url

    @property
    def admin_url(self) -> str:
        """The superuser's URL."""
        return self._embedded.admin_url

    def kill(self) -> None:
        """End both."""
        self.broker.kill()
        self.postgres.kill()


@contextmanager
def guarded() -> Iterator[Guardian]:
    """A guardian around a block."""
    keeper = Guardian()
    try:
        yield keeper
    finally:
        keeper.close()
