"""Plays a scenario against real servers and workers."""

from __future__ import annotations

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from mess import migrate
from store.pool import UNAVAILABLE
from streams.kafka.topics import ensure_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.faults.history import History, LoggedCatalogue, Message
from tests.faults.oracle import at_rest, faults_at_rest, stored_lists
from tests.faults.scenario import Fault, FaultKind, Scenario, ScenarioPart
from tests.faults.servers import Guardian, KeptWorker, Servers
from tests.faults.watcher import Watcher
from tests.support.worker import end_offsets, read_topic

# Where workers have died again and again, messages are taken one by one, each with two commits.
PATIENCE_SECONDS = 300.0
TAIL_LINES = 60


class Runner:
    """One scenario, its servers and its workers.

    Args:
        directory: Empty; everything is kept in it.
        servers: Started by `play`.
        guardian: Knows of all processes.
        misplaced: The share of the messages that go to any partition, not to that of their key.
    """

    def __init__(self, directory: Path, servers: Servers, guardian: Guardian, misplaced: float = 0.0) -> None:
        self._misplaced = misplaced
        self._places = np.random.default_rng(len(str(directory)))
        self._directory = directory
        self._servers = servers
        self._guardian = guardian
        self._url = servers.database_url
        self._databases = 1
        self._workers: list[KeptWorker] = []
        # Of every worker from now on.
        self._worker_settings: dict[str, str] = {}
        self._worker = self._new_worker()
        self._watcher = Watcher(self._url)
        self._delivered: list[tuple[int, int, Message]] = []
        self._began = time.monotonic()
        self._happened: list[str] = []
        self._watched: list[Watcher] = []

    def note(self, what: str) -> None:
        """Remember that something happened, for the report of a failure."""
        self._happened.append(f"  {time.monotonic() - self._began:6.1f} s  {what}")

    @property
    def addresses(self) -> tuple[str, str]:
        """Where the store and the broker are."""
        return self._url, self._servers.bootstrap_servers

    def summary(self) -> str:
        """What happened."""
        return "\n".join(["what happened:", *self._happened])

    def report(self) -> str:
        """What happened, and how the logs end."""
        parts = [self.summary()]
        parts += [f"exits of {worker.name}: {worker.exits}" for worker in self._workers]
        logs = [w.log for w in self._workers] + [self._servers.postgres.log, self._servers.broker.log]
        for log in logs:
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            # Dead letters are many, and say nothing of what went wrong.
            telling = [line[:2000] for line in lines if '"event refused"' not in line]
            parts += [f"--- errors in {log.name}", *(line for line in telling if '"level":"error"' in line)]
            parts += [f"--- the end of {log.name}", *telling[-TAIL_LINES:]]
        return "\n".join(parts)

    async def play(self, scenario: Scenario) -> list[str]:
        """Play it to its end; returns everything that is not as it must be, in words."""
        await self._begin()
        self._worker.run()
        faults: list[str] = []
        try:
            await _eventually(lambda: _active(self._worker) == 1, "the worker does not start")
            for part in scenario.parts:
                faults += await self._play_part(part)
        finally:
            await self._producer.stop()
        self.note("all parts played")
        await self._at_rest()
        self.note("at rest")
        return faults + await self._judge(scenario.history)

    async def _begin(self) -> None:
        """Start everything but the workers."""
        await self._servers.start()
        kafka = KafkaSettings(bootstrap_servers=self._servers.bootstrap_servers)
        await ensure_topics(kafka, StreamSettings(), wait=20)
        await self._migrate()
        self._watcher.start()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._servers.bootstrap_servers,
            enable_idempotence=self._servers.broker_kind == "kafka",
            acks="all",
            request_timeout_ms=60_000,
        )
        await self._producer.start()

    async def close(self) -> None:
        """End every process."""
        try:
            await self._watcher.stop()
            for worker in self._workers:
                await worker.end()
        finally:
            await asyncio.to_thread(self._servers.kill)

    async def _play_part(self, part: ScenarioPart) -> list[str]:
        self.note(f"publishing: {part}")
        # A worker that is to die at a point runs before anything comes, so that the point is reached.
        armed = [fault for fault in part.faults if fault.kind is FaultKind.KILL_AT_POINT]
        for fault in armed:
            await self._inject(fault)
            await _eventually(lambda: _active(self._worker) == 1, "the worker does not start again")
        exits = len(self._worker.exits)
        publishing = asyncio.create_task(self._publish(part), name="publish")
        faults: list[str] = []
        try:
            for fault in [fault for fault in part.faults if fault not in armed]:
                await asyncio.sleep(fault.after)
                faults += await self._inject(fault)
            await publishing
        finally:
            publishing.cancel()
        if armed and not self._worker.exits[exits:]:
            await self._point_reached()
        if part.settle:
            await self._at_rest()
            self.note("at rest")
        return faults

    async def _point_reached(self) -> None:
        """Wait a little for a worker to die at its point: it may still be on its way, or never come there."""
        worker, exits = self._worker, len(self._worker.exits)
        try:
            await _eventually(lambda: len(worker.exits) > exits, "", patience=8)
        except AssertionError:
            self.note("the point has not been reached")

    async def _publish(self, part: ScenarioPart) -> None:
        for chunk in part.chunks:
            await self._deliver(chunk)
            await asyncio.sleep(part.pause)

    async def _deliver(self, chunk: list[Message], topic: str = "track-ingest") -> None:
        """Publish some messages, in order, and wait until each is delivered or has failed."""
        sent = [(message, await self._send(message, topic)) for message in chunk]
        kept = self._delivered if topic == "track-ingest" else []
        await asyncio.gather(*[self._delivery(message, delivery, kept) for message, delivery in sent])

    async def _send(self, message: Message, topic: str) -> asyncio.Future:  # type: ignore[type-arg]
        key, value = message
        partition = None
        if self._places.random() < self._misplaced:
            partition = int(self._places.integers(StreamSettings().ingest_partitions))
        return await self._producer.send(topic, value, key, partition)

    async def _delivery(
        self,
        message: Message,
        delivery: asyncio.Future,  # type: ignore[type-arg]
        kept: list[tuple[int, int, Message]],
    ) -> None:
        try:
            told = await delivery
        except KafkaError as error:
            # Nobody has been promised anything: what the log says counts.
            self.note(f"not delivered, or not known: {error!r}")
        else:
            kept.append((told.partition, told.offset, message))

    async def _inject(self, fault: Fault) -> list[str]:
        self.note(f"{fault}")
        match fault.kind:
            case FaultKind.KILL_AT_POINT:
                await self._worker.end()
                self._worker.run(fault.point)
            case FaultKind.KILL_WORKER:
                assert self._worker.process is not None
                self._worker.process.kill()
            case FaultKind.KILL_ENGINE:
                await self._kill_child(self._worker, 0)
            case FaultKind.KILL_SEARCH:
                await self._kill_child(self._worker, 1)
            case FaultKind.KILL_BROKER | FaultKind.KILL_POSTGRES | FaultKind.STOP_POSTGRES:
                await self._kill_server(fault)
            case FaultKind.FREEZE:
                return await self._freeze()
            case FaultKind.SCALE:
                await self._scale(fault.number)
            case FaultKind.MOVE_OFFSETS:
                await self._move_offsets(fault.number)
            case FaultKind.REPLAY:
                await self._replay()
        return []

    async def _kill_server(self, fault: Fault) -> None:
        """Have a server die, and start it again after a while."""
        if fault.kind is FaultKind.KILL_BROKER:
            await asyncio.to_thread(self._servers.broker.kill)
            await asyncio.sleep(fault.away)
            await self._servers.broker.start()
            return
        number = signal.SIGKILL if fault.number % 2 else signal.SIGQUIT
        await asyncio.to_thread(self._servers.postgres.kill, number)
        await asyncio.sleep(fault.away)
        await self._servers.postgres.start()

    async def _kill_child(self, worker: KeptWorker, number: int) -> None:
        await _eventually(lambda: worker.child(number) is not None, "there is no such process")
        if (child := worker.child(number)) is not None:
            child.kill()

    async def _freeze(self) -> list[str]:
        """Stop one of two workers as it is; when the other has everything, wake it up: it must change nothing any more."""
        frozen, other = self._worker, self._new_worker()
        other.run()
        await self._owned_by(frozen, other)
        frozen.signal(signal.SIGSTOP)
        self.note(f"{frozen.name} is frozen")
        try:
            await self._owned_by(other)
            self.note(f"{other.name} has taken over")
            self._worker = other
            await self._at_rest()
            # The successor still records that nothing is left to be absorbed and told.
            await asyncio.sleep(2)
            await frozen.let_go()
            before = await self._everything()
        finally:
            frozen.signal(signal.SIGCONT)
        self.note(f"{frozen.name} wakes up")
        await asyncio.sleep(5)
        after = await self._everything()
        changed = [
            f"a zombie changed {name} from {str(value)[:600]} to {str(after[name])[:600]}"
            for name, value in before.items()
            if after[name] != value
        ]
        assert frozen.process is not None
        if frozen.process.poll() is None:
            changed.append("a zombie goes on as if it had never been replaced")
        self.note(f"the zombie's status: {frozen.process.poll()}")
        await frozen.end()
        return changed

    async def _scale(self, number: int) -> None:
        """Add two workers, let something happen to one of the three, and take two away, all under load."""
        crew = [self._worker, self._new_worker(), self._new_worker()]
        for worker in crew[1:]:
            worker.run()
        await self._owned_by(*crew)
        self.note("three workers share the partitions")
        victim = crew[number % 3]
        accident = ("nothing", "kill -9", "freeze", "kill the engine", "kill the search")[number // 3 % 5]
        self.note(f"{victim.name}: {accident}")
        match accident:
            case "kill -9":
                assert victim.process is not None
                victim.process.kill()
            case "freeze":
                victim.signal(signal.SIGSTOP)
                await self._owned_by(*(worker for worker in crew if worker is not victim))
                victim.signal(signal.SIGCONT)
            case "kill the engine":
                await self._kill_child(victim, 0)
            case "kill the search":
                await self._kill_child(victim, 1)
        if number // 15 % 2:
            await self._owned_by(*crew)
        survivor = crew.pop(number // 30 % 3)
        for worker in crew:
            number //= 2
            await worker.end(signal.SIGTERM if number % 2 else signal.SIGKILL)
        self.note(f"{survivor.name} is left alone")
        self._worker = survivor
        await self._owned_by(survivor)

    async def _owned_by(self, *workers: KeptWorker) -> None:
        """Wait until these workers, and no others, hold partitions."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        wanted = {worker.name for worker in workers}
        while (found := await self._owners()) != wanted:
            assert time.monotonic() < deadline, f"the partitions are held by {found}, not by {wanted}"
            await asyncio.sleep(0.2)

    async def _owners(self) -> set[str] | None:
        try:
            connection = await asyncpg.connect(self._url)
        except UNAVAILABLE:
            return None
        try:
            return {
                owner.partition("/")[0]
                for (owner,) in await connection.fetch("SELECT owner FROM ingest_partitions")
            }
        finally:
            await connection.close()

    async def _everything(self) -> dict[str, object]:
        """All that a worker writes, apart from epochs and versions told.

        These a rebalance raises: who wakes up is a member of the group until it finds out, and the other claims anew.
        """
        connection = await asyncpg.connect(self._url)
        queries = {
            "owners and offsets": "SELECT partition, owner, consumed_offset FROM ingest_partitions ORDER BY 1",
            "absorbed offsets": "SELECT * FROM absorbed_offsets ORDER BY 1, 2",
            "tracks": "SELECT track_id, source_offset, updated_at FROM tracks ORDER BY 1",
            "lists": "SELECT key, version, generated_at FROM neighbour_lists ORDER BY 1",
        }
        try:
            found: dict[str, object] = {name: await connection.fetch(sql) for name, sql in queries.items()}
        finally:
            await connection.close()
        for topic in ("recommendations", "dead-letters"):
            found[topic] = len(await read_topic(self._servers.bootstrap_servers, topic))
        return found

    async def _move_offsets(self, number: int) -> None:
        """Set the group's committed offsets to anything between the log's ends while no worker runs."""
        await self._worker.end(signal.SIGTERM if number % 2 else signal.SIGKILL)
        rng = np.random.default_rng(number)
        ends = await end_offsets(self._servers.bootstrap_servers)
        positions = {TopicPartition("track-ingest", p): int(rng.integers(0, e + 1)) for p, e in ends.items()}
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers.bootstrap_servers,
            group_id="mess-worker",
            enable_auto_commit=False,
        )
        await consumer.start()
        consumer.assign(list(positions))
        try:
            # Refused while Kafka still takes the dead worker for a member.
            deadline = time.monotonic() + 30
            while True:
                try:
                    await consumer.commit(positions)
                    break
                except KafkaError:
                    assert time.monotonic() < deadline, "the group keeps its members"
                    await asyncio.sleep(0.3)
        finally:
            await consumer.stop()
        self.note(f"committed offsets are {[offset for _, offset in sorted(positions.items())]} of {ends}")
        self._worker.run()

    async def _replay(self) -> None:
        """Go on with an empty database: the whole log is read again."""
        await self._worker.end()
        await self._check_watcher()
        self._databases += 1
        name = f"mess_{self._databases}"
        admin = await asyncpg.connect(self._servers.admin_url)
        try:
            await admin.execute(f"CREATE DATABASE {name} OWNER mess")
        finally:
            await admin.close()
        self._url = urlunsplit(urlsplit(self._servers.database_url)._replace(path=f"/{name}"))
        await self._migrate()
        self._watcher = Watcher(self._url)
        self._watcher.start()
        self._worker = self._new_worker()
        self._worker.run()

    async def _check_watcher(self) -> None:
        await self._watcher.stop()
        self._watched.append(self._watcher)

    async def _migrate(self) -> None:
        # Alembic runs an event loop of its own.
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, migrate.upgrade_schema, self._url)

    def _new_worker(self, session_seconds: int = 6, **settings: str) -> KeptWorker:
        name = f"worker-{len(self._workers) + 1}"
        worker = KeptWorker(
            self._guardian,
            self._url,
            self._servers.bootstrap_servers,
            self._directory / f"{name}.log",
            self.note,
            session_seconds,
            **self._worker_settings,
            **settings,
        )
        self._workers.append(worker)
        return worker

    async def _at_rest(self) -> None:
        await at_rest(self._url, self._servers.bootstrap_servers, PATIENCE_SECONDS)

    async def _judge(self, history: History, *, serves: bool = True) -> list[str]:
        await self._check_watcher()
        log = await read_topic(self._servers.bootstrap_servers, "track-ingest")
        kept = {(r.partition, r.offset): (r.key, r.value) for r in log}
        moved = _partitions_of_tracks(log)
        self.note(f"{moved} tracks have events in several partitions")
        faults = [
            f"the broker lost what it had acknowledged at {partition}/{offset}"
            for partition, offset, message in self._delivered
            if kept.get((partition, offset)) != message
        ]
        meanings = history.meanings
        wanted = LoggedCatalogue(meanings).read(log)
        faults += await faults_at_rest(self._url, self._servers.bootstrap_servers, wanted, serves=serves)
        for watcher in self._watched:
            faults += watcher.faults
            faults += await asyncio.to_thread(watcher.against, log, meanings)
        faults += await self._watcher.against_history()
        samples = sum(len(watcher.samples) for watcher in self._watched)
        tracks = len(await stored_lists(self._url))
        exits = {worker.name: worker.exits for worker in self._workers}
        self.note(f"{len(log)} messages, {tracks} tracks, {samples} samples, exits {exits}")
        return faults


def _partitions_of_tracks(log: list[ConsumerRecord]) -> int:
    """How many tracks have events in several partitions."""
    seen: dict[bytes, set[int]] = {}
    for record in log:
        seen.setdefault(record.key, set()).add(record.partition)
    return sum(len(partitions) > 1 for partitions in seen.values())


def _active(worker: KeptWorker) -> float | None:
    try:
        return worker.metrics()["mess_worker_active"]
    except OSError:
        return None


async def _eventually(condition, complaint: str, patience: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + patience
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, complaint
        await asyncio.sleep(0.2)
