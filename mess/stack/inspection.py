"""Inspects a running local stack from outside: processes, store, broker, API."""

from __future__ import annotations

from pathlib import Path

import psutil
from aiokafka.errors import KafkaError
from mess_client import AsyncMessClient, ConnectionFailedError, MessClientError
from pydantic import BaseModel, SecretStr

from mess.stack import datadir
from mess.stack.statefile import Pids, StackState, read_state
from mess.stack.topic_lag import TopicLag, read_lags
from store.errors import StoreError
from store.pool import open_pool
from store.settings import StoreSettings
from store.status import StoreCounts, fetch_counts
from streams.kafka.clients import aiokafka_options
from streams.settings import KafkaSettings


class ProcessReport(BaseModel):
    """One process: `memory_bytes` is the resident memory of it and its descendants, 0 if it does not run."""

    name: str
    pid: int
    alive: bool
    memory_bytes: int


class StackReport(BaseModel):
    """What is known of a stack; None stands for what could not be asked."""

    running: bool
    http_url: str
    broker: str
    bootstrap_servers: str
    processes: list[ProcessReport]
    tracks: int | None
    lists: int | None
    full_lists: int | None
    topics: list[TopicLag] | None
    health: str | None
    problems: list[str]


async def inspect_stack(data_dir: Path) -> StackReport | None:
    """Return what can be told of the stack in a data directory, or None if none runs there.

    Raises:
        StackError: `stack.json` cannot be read.
    """
    state = read_state(data_dir)
    if state is None or not datadir.is_locked(data_dir):
        return None
    processes = [process_report(name, pid) for name, pid in _named(state.pids)]
    counts = await _counts(state)
    health, problems = await _health(state.http_url)
    return StackReport(
        running=all(process.alive for process in processes),
        http_url=state.http_url,
        broker=state.broker,
        bootstrap_servers=state.bootstrap_servers,
        processes=processes,
        tracks=counts.tracks if counts else None,
        lists=counts.lists if counts else None,
        full_lists=counts.full_lists if counts else None,
        topics=await _lags(state, counts),
        health=health,
        problems=problems,
    )


def process_report(name: str, pid: int) -> ProcessReport:
    """Look at one process and its descendants."""
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        memory = sum(_memory(each) for each in [process, *process.children(recursive=True)])
    except psutil.NoSuchProcess:
        return ProcessReport(name=name, pid=pid, alive=False, memory_bytes=0)
    return ProcessReport(name=name, pid=pid, alive=alive, memory_bytes=memory)


def _memory(process: psutil.Process) -> int:
    try:
        # Proportional where the system tells: Postgres's processes share most of theirs.
        usage = process.memory_full_info()
        return int(getattr(usage, "pss", usage.rss))
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _named(pids: Pids) -> list[tuple[str, int]]:
    single = [("postgres", pids.postgres), ("broker", pids.broker)]
    workers = [(f"worker-{number}", pid) for number, pid in enumerate(pids.workers, start=1)]
    return [(name, pid) for name, pid in [*single, *workers, ("api", pids.api)] if pid is not None]


async def _counts(state: StackState) -> StoreCounts | None:
    settings = StoreSettings(database_url=SecretStr(state.database_url), pool_max_size=1, connect_timeout=3.0)
    try:
        async with await open_pool(settings, application_name="mess-status", read_only=True) as pool:
            return await fetch_counts(pool)
    except StoreError:
        return None


async def _lags(state: StackState, counts: StoreCounts | None) -> list[TopicLag] | None:
    # An external broker's security is in the environment, as it was for the stack itself.
    extra = {} if state.broker == "external" else {"security_protocol": "PLAINTEXT"}
    kafka = KafkaSettings(bootstrap_servers=state.bootstrap_servers, request_timeout_ms=5_000, **extra)  # type: ignore[arg-type]
    try:
        return await read_lags(aiokafka_options(kafka), counts.consumed_offsets if counts else {})
    except (KafkaError, OSError, TimeoutError):
        return None


async def _health(http_url: str) -> tuple[str | None, list[str]]:
    """The API's status, and what each check that is not well says."""
    # Straight to the address: a proxy that the environment configures has no business with loopback.
    async with AsyncMessClient(http_url, timeout=5.0, trust_env=False) as client:
        try:
            report = await client.health(detailed=True)
        except ConnectionFailedError:
            return None, []
        except MessClientError as error:
            return "unknown", [f"api: {error}"]
    wrong = {name: check for name, check in report.checks.items() if check.status in {"degraded", "down"}}
    return report.status, [f"{name}: {check.detail}" for name, check in wrong.items()]
