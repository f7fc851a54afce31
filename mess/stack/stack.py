"""The whole local stack: database, broker, schema, topics, workers and API, in this order and back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mess.demo.weights import WEIGHTS
from mess.stack import datadir, diskroom
from mess.stack.broker import Broker, BrokerChoice, prepare_broker
from mess.stack.datadir import published_note
from mess.stack.diskroom import DiskRoom
from mess.stack.errands import run_errand
from mess.stack.errors import StackError
from mess.stack.incipits import incipit_path, incipit_service
from mess.stack.ports import LOOPBACK, PortBook, pick_free, require_free
from mess.stack.postgres import EmbeddedPostgres
from mess.stack.service import Report, RestartPolicy, ServiceSpec
from mess.stack.statefile import Pids, StackState, remove_state, write_state
from mess.stack.supervisor import Supervisor
from mess.stack.web import answers_ok
from streams.freed import GIVING_MEMORY_BACK
from streams.generations import GenerationName

if TYPE_CHECKING:
    from streams.settings import KafkaSettings

# Stages stop from the highest down. Their grace adds up to less than the 15 s a stop may take.
DATABASE_STAGE, BROKER_STAGE, PIPELINE_STAGE = 0, 1, 2
PIPELINE_GRACE = 8.0


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What a user may choose.

    Attributes:
        data_dir: Where everything is kept.
        port: Loopback port of the API; 0 takes a free one.
        workers: How many workers.
        broker: Which broker, unless one is configured.
        database_url: A database to use instead of an embedded one.
        kafka: A broker to use instead of an embedded one.
        demo: Whether the catalogue is the demo's, whose works have incipits.
        generations: Further generations, each with a worker of its own.
    """

    data_dir: Path
    port: int = 8000
    workers: int = 1
    broker: BrokerChoice = BrokerChoice.AUTO
    database_url: str | None = None
    kafka: KafkaSettings | None = None
    demo: bool = False
    generations: tuple[GenerationName, ...] = ()


class LocalStack:
    """One local stack. `start`, then `wait`, and in the end always `stop`; within `locked_data_directory`."""

    def __init__(
        self,
        options: StackOptions,
        report: Report,
        *,
        policy: RestartPolicy | None = None,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        """Set up a stack without starting anything; needs a running event loop.

        Args:
            options: What the user has chosen.
            report: Takes a line about progress.
            policy: When to start what died again, and when to give up.
            free_bytes: Tells how much room there is; None asks the disk of the data directory.
        """
        self._options = options
        self._report = report
        self._data_dir = options.data_dir.resolve()
        self._ports = PortBook(self._data_dir / "ports.json")
        self._port = options.port
        self._state: StackState | None = None
        # How clients reach the broker: its address and protocol.
        self._broker = ("", "")
        self._database_url = ""
        self._generations = options.generations
        self._room = DiskRoom(free_bytes or (lambda: diskroom.free_bytes(self._data_dir)))
        self._supervisor = Supervisor(
            policy=policy, on_change=self._write_state, report=report, room=self._room
        )

    @property
    def state(self) -> StackState:
        """Where the parts are reached, once `start` has returned."""
        assert self._state is not None
        return self._state

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that uses the database and the broker, once `start` has started these."""
        servers, protocol = self._broker
        return os.environ | {
            "MESS_DATABASE_URL": self._database_url,
            "MESS_KAFKA_BOOTSTRAP_SERVERS": servers,
            "MESS_KAFKA_SECURITY_PROTOCOL": protocol,
            "PYTHONUNBUFFERED": "1",
            **GIVING_MEMORY_BACK,
        }

    async def start(self) -> StackState:
        """Start everything and return when the API can answer.

        Raises:
            StackError: Something cannot start; one line says what. `stop` is still to be called.
        """
        if self._room.look():
            needed = diskroom.SCARCE_BYTES // 1_000_000
            raise StackError(f"the disk of {self._data_dir} is full: {needed} MB have to be free; make room")
        if self._port:
            require_free(self._port)
        else:
            (self._port,) = pick_free(1)
        datadir.end_leftovers(self._data_dir, self._report)
        remove_state(self._data_dir)
        (self._database_url, api_url), (broker_kind, self._broker) = await run_together(
            self._start_database(), self._start_broker()
        )
        await self._migrate()
        await run_together(self._make_topics(), self._find_serving())
        self._report(f"starting {self._count_of_workers()} and the API")
        await run_together(
            *(self._supervisor.start(each) for each in self._workers()),
            self._supervisor.start(self._api(api_url)),
        )
        self._state = StackState(
            http_url=f"http://{LOOPBACK}:{self._port}",
            bootstrap_servers=self._broker[0],
            database_url=self._database_url,
            broker=broker_kind,
            pids=self._pids(),
        )
        self._write_state()
        return self._state

    async def start_incipits(self) -> None:
        """Start what derives the incipits of the demo catalogue.

        Raises:
            StackError: The process cannot start.
        """
        if self._options.demo:
            await self._supervisor.start(
                incipit_service(self._data_dir, self._log("incipits"), stage=PIPELINE_STAGE)
            )

    async def wait(self) -> None:
        """Wait until the stack can no longer be kept running.

        Raises:
            ServiceFailedError: Says which process kept dying, and how.
        """
        await self._supervisor.wait()

    async def stop(self) -> None:
        """Stop everything in order; the data stays."""
        await self._supervisor.stop()
        remove_state(self._data_dir)
        (self._data_dir / datadir.PROCESSES).unlink(missing_ok=True)

    def kill(self) -> None:
        """End everything at once, without grace, while `stop` is waiting."""
        self._supervisor.kill()

    async def _start_database(self) -> tuple[str, str]:
        """Return the URL of the schema's owner and that of the API's role."""
        if self._options.database_url:
            self._report("using the database of MESS_DATABASE_URL")
            return self._options.database_url, self._options.database_url
        postgres = EmbeddedPostgres(
            self._data_dir / "postgres", self._ports.get("postgres"), self._log("postgres")
        )
        self._report("starting Postgres")
        await asyncio.to_thread(postgres.prepare)
        await self._supervisor.start(postgres.service())
        await postgres.ensure_roles()
        self._report("Postgres is ready")
        return postgres.owner_url, postgres.api_url

    async def _start_broker(self) -> tuple[str, tuple[str, str]]:
        """Return the kind of the broker, and its address and protocol."""
        if self._options.kafka is not None:
            self._report("using the broker of MESS_KAFKA_BOOTSTRAP_SERVERS")
            return "external", (self._options.kafka.bootstrap_servers, self._options.kafka.security_protocol)
        broker = await asyncio.to_thread(
            prepare_broker,
            self._options.broker,
            self._data_dir,
            self._log("broker"),
            self._ports.get,
            self._report,
        )
        name = "Apache Kafka" if broker.kind == "kafka" else "Tansu"
        self._report(f"starting {name}")
        await self._supervisor.start(self._with_stage(broker))
        self._report(f"{name} is ready")
        return broker.kind, (broker.bootstrap_servers, "PLAINTEXT")

    async def _migrate(self) -> None:
        self._report("bringing the schema up to date")
        await run_errand("migrate", env=self.environment)

    async def _make_topics(self) -> None:
        said = await run_errand("topics", "create", "--wait", "30", env=self.environment)
        if said.startswith("created:"):
            self._report(f"created {said.count(',') + 1} topics")

    async def _find_serving(self) -> None:
        """Find out which generations serve: their workers run, whatever the user has chosen."""
        said = await run_errand("spaces", "serving", "--all", env=self.environment)
        wanted = set(self._options.generations)
        for line in said.splitlines():
            with contextlib.suppress(ValueError):  # a warning
                wanted.add(GenerationName.parse(line.strip()))
        wanted.discard(GenerationName())
        self._generations = tuple(sorted(wanted))

    async def _refill_memory_broker(self) -> None:
        """A broker that keeps topics in memory is empty after a restart: make them again, start workers anew."""
        await self._make_topics()
        for each in self._workers():
            self._supervisor.recycle(each.name)

    def _with_stage(self, broker: Broker) -> ServiceSpec:
        refill = None if broker.keeps_topics else self._refill_memory_broker
        # One that keeps nothing on the disk needs no room there, and has everything to lose.
        return replace(
            broker.service, stage=BROKER_STAGE, after_restart=refill, needs_room=broker.keeps_topics
        )

    def _workers(self) -> list[ServiceSpec]:
        first = [
            self._worker(f"worker-{number}", GenerationName(), self._demo_weights())
            for number in range(1, self._options.workers + 1)
        ]
        return first + [
            self._worker(f"worker-{name.space}-{name.number}", name, {}) for name in self._generations
        ]

    def _worker(self, service_name: str, generation: GenerationName, further: dict[str, str]) -> ServiceSpec:
        port = self._ports.get(service_name)
        settings = {
            "MESS_WORKER_PORT": str(port),
            "MESS_WORKER_NAME": service_name,
            "MESS_DATA_DIR": str(self._data_dir / service_name),
            "MESS_SPACE": generation.space,
            "MESS_GENERATION": str(generation.number),
            **further,
        }
        service = self._pipeline_service(
            service_name, "worker", self._database_url, f"http://{LOOPBACK}:{port}/live", settings
        )
        return replace(service, needs_room=True)

    def _demo_weights(self) -> dict[str, str]:
        """The weights of the demo catalogue's aspects, if it is going to be the first catalogue and nothing else is set."""
        own = {"MESS_ASPECT_WEIGHTS", "MESS_EMBEDDING_DIMENSION", "MESS_EMBEDDING_MODEL"}
        if (
            not self._options.demo
            or published_note(self._data_dir).exists()
            or not own.isdisjoint(os.environ)
        ):
            return {}
        return {"MESS_ASPECT_WEIGHTS": WEIGHTS}

    def _api(self, database_url: str) -> ServiceSpec:
        settings = {
            "MESS_API_HOST": LOOPBACK,
            "MESS_API_PORT": str(self._port),
            "MESS_API_SHUTDOWN_TIMEOUT": "3",
        }
        if self._options.demo:
            settings["MESS_API_INCIPITS"] = str(incipit_path(self._data_dir))
        url = f"http://{LOOPBACK}:{self._port}/health/ready"
        return self._pipeline_service("api", "api", database_url, url, settings)

    def _pipeline_service(
        self, name: str, command: str, database_url: str, ready_url: str, settings: dict[str, str]
    ) -> ServiceSpec:
        return ServiceSpec(
            name=name,
            argv=[sys.executable, "-m", "mess", command],
            log=self._log(name),
            env=self.environment | {"MESS_DATABASE_URL": database_url} | settings,
            stage=PIPELINE_STAGE,
            stop_grace=PIPELINE_GRACE,
            probe=lambda: answers_ok(ready_url),
            ready_timeout=120.0,
        )

    def _count_of_workers(self) -> str:
        count = self._options.workers + len(self._generations)
        return "one worker" if count == 1 else f"{count} workers"

    def _log(self, name: str) -> Path:
        return self._data_dir / "logs" / f"{name}.log"

    def _pids(self) -> Pids:
        pids = self._supervisor.pids
        return Pids(
            api=pids.get("api"),
            workers=[pid for name, pid in sorted(pids.items()) if name.startswith("worker-")],
            broker=pids.get("broker"),
            postgres=pids.get("postgres"),
        )

    def _write_state(self) -> None:
        try:
            datadir.note_processes(self._data_dir, self._supervisor.pids)
            if self._state is not None:
                self._state = self._state.model_copy(update={"pids": self._pids()})
                write_state(self._data_dir, self._state)
        except OSError as error:
            # Written with the next change; nothing that runs depends on it.
            self._report(f"the files that say what runs are out of date ({error.strerror})")


async def run_together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run coroutines at once and return their results; if one fails, end the others and raise its error."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
