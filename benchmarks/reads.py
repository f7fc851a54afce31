"""Reads over HTTP: from memory, from the store, beside bare Starlette and asyncpg, from 1 to 256 connections.

One API process as `mess api` runs it, metrics and access log on; the load comes from a process of its own. Every figure
is beside what bare Starlette does with the same bytes in the same run, in turn.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import psutil

from benchmarks import filling, machine, processes, report
from mess.stack.ports import pick_free

CONNECTIONS = (1, 8, 32, 64, 256)
START_SECONDS = 60.0


@dataclass(frozen=True)
class ServerUnderLoad:
    """A process that listens on `port`."""

    port: int
    pid: int


@dataclass(frozen=True)
class ReadPath:
    """One way of reading.

    Attributes:
        name: As the table has it.
        server: Who is asked.
        requests: What is asked, in turn.
        peer: The way that it is held against.
    """

    name: str
    server: ServerUnderLoad
    requests: list[str]
    peer: str | None = None


@contextlib.contextmanager
def listening_server(command: list[str], port: int, log: Path, **settings: str) -> Iterator[ServerUnderLoad]:
    """Run a server and wait until it answers."""
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, env=processes.environment(**settings), stdout=output, stderr=output, text=True
        )
    with process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start:\n{log.read_text(encoding='utf-8')}")
                time.sleep(0.05)
            yield ServerUnderLoad(port, process.pid)
        finally:
            processes.end_process(process)


def drive_load(
    server: ServerUnderLoad, requests: list[str], connections: int, seconds: float
) -> dict[str, Any]:
    """Drive a server; adds its CPU time a request, its share of a core, and its memory afterwards."""
    plan = {
        "host": "127.0.0.1",
        "port": server.port,
        "requests": requests,
        "connections": connections,
        "seconds": seconds,
    }
    process = psutil.Process(server.pid)
    before = sum(process.cpu_times()[:2])
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=orjson.dumps(plan),
        stdout=subprocess.PIPE,
        check=True,
    )
    elapsed = time.perf_counter() - began
    result: dict[str, Any] = orjson.loads(done.stdout)
    if set(result["statuses"]) != {"200"}:
        raise RuntimeError(f"answers other than 200: {result['statuses']}")
    result["cpu_us"] = (sum(process.cpu_times()[:2]) - before) / result["count"] * 1e6
    result["server_cpu"] = (sum(process.cpu_times()[:2]) - before) / max(seconds, elapsed - 1)
    result["memory"] = machine.memory_bytes(server.pid)
    return result


def get_request(path: str) -> str:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"


def _ways(
    names: list[str],
    memory: ServerUnderLoad,
    store: ServerUnderLoad,
    nothing: ServerUnderLoad,
    plain: ServerUnderLoad,
) -> list[ReadPath]:
    ids = [quote(name, safe="") for name in names]
    few = ids[:500]
    return [
        ReadPath("bare Starlette, the same bytes", plain, [get_request(f"/bytes/{each}") for each in few]),
        ReadPath(
            "memory",
            memory,
            [get_request(f"/recommend/{each}") for each in few],
            "bare Starlette, the same bytes",
        ),
        ReadPath(
            "bare Starlette and asyncpg, by primary key", plain, [get_request(f"/row/{each}") for each in ids]
        ),
        ReadPath(
            "store, a kept body",
            store,
            [get_request(f"/recommend/{each}?strategy={filling.KEPT_STRATEGY}") for each in ids],
            "bare Starlette and asyncpg, by primary key",
        ),
        # Lists and the versions of rows come from Postgres; what has not changed in a row, from memory.
        ReadPath(
            "store, a list, unchanged texts from memory",
            store,
            [get_request(f"/recommend/{each}") for each in ids],
            "bare Starlette and asyncpg, by primary key",
        ),
        ReadPath(
            "store, a list, nothing at hand",
            nothing,
            [get_request(f"/recommend/{each}") for each in ids],
            "bare Starlette and asyncpg, by primary key",
        ),
    ]


def _measure(
    ways: list[ReadPath], connections: int, seconds: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """Each way in turn, round after round; of each, the median round by rate."""
    results: dict[str, list[dict[str, Any]]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            results[way.name].append(drive_load(way.server, way.requests, connections, seconds))
    return {name: sorted(found, key=lambda one: one["rate"])[rounds // 2] for name, found in results.items()}


def _show(ways: list[ReadPath], connections: int, found: dict[str, dict[str, Any]]) -> None:
    table = report.make_table(
        f"{connections} connections, load {machine.load_average()}",
        "way",
        "requests/s",
        "of its peer",
        "p50 ms",
        "p99 ms",
        "CPU us a request",
        "server's core",
        "load's core",
        "MiB",
    )
    for way in ways:
        one = found[way.name]
        share = "" if way.peer is None else f"{one['rate'] / found[way.peer]['rate']:.2f}"
        table.add_row(
            way.name,
            f"{one['rate']:,.0f}",
            share,
            f"{one['p50_ms']:.2f}",
            f"{one['p99_ms']:.2f}",
            f"{one['cpu_us']:.0f}",
            f"{one['server_cpu']:.2f}",
            f"{one['cpu']:.2f}",
            f"{one['memory'] / 2**20:,.0f}",
        )
    report.print_table(table)


def main(*, quick: bool = False) -> None:
    """Run it and print the tables."""
    count, seconds, rounds = (1_000, 1.5, 1) if quick else (5_000, 2.0, 3)
    with (
        tempfile.TemporaryDirectory(prefix="mess-bench-") as directory,
        processes.services("--broker=none", "--data-dir", f"{directory}/services") as facts,
    ):
        names = filling.fill(facts["database_url"], count)
        logs = Path(directory)
        port, other, third, fourth = pick_free(4)
        api = [sys.executable, "-m", "mess", "api"]
        common = {"MESS_DATABASE_URL": facts["api_database_url"]}
        plain = [sys.executable, "-m", "benchmarks.bare", facts["database_url"], str(third)]
        with (
            listening_server(api, port, logs / "memory.log", MESS_API_PORT=str(port), **common) as memory,
            listening_server(
                api,
                other,
                logs / "store.log",
                MESS_API_PORT=str(other),
                MESS_API_MEMORY_BYTES="0",
                **common,
            ) as store,
            listening_server(
                api,
                fourth,
                logs / "nothing.log",
                MESS_API_PORT=str(fourth),
                MESS_API_MEMORY_BYTES="0",
                MESS_API_TRACK_BYTES="0",
                **common,
            ) as nothing,
            listening_server(plain, third, logs / "bare.log") as bare,
        ):
            ways = _ways(names, memory, store, nothing, bare)
            for way in ways:  # warm-up, long enough for each to have read everything once
                drive_load(way.server, way.requests, 8, max(1.0, count / 1_000))
            for connections in CONNECTIONS:
                found = _measure(ways, connections, seconds, rounds if connections == 32 else 1)
                _show(ways, connections, found)
            with urllib.request.urlopen(f"http://127.0.0.1:{memory.port}/metrics", timeout=10) as reply:
                lines = reply.read().decode().splitlines()
            sources = [line for line in lines if line.startswith("mess_api_reads_total{")]
            report.console.print("where the first process's answers came from:", *sources, sep="\n  ")
    report.console.print(f"{os.cpu_count()} cores; medians of {rounds} rounds at 32 connections\n")


if __name__ == "__main__":
    main()
