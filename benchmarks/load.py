"""A load generator that costs little: `python -m benchmarks.load`, configured by JSON on standard input.

Keep-alive connections, each with one request on its way at a time (closed loop). It reads no more of an answer than its
status and length, so that one core of it can drive more than one core of a server. Reports its own CPU share: below
one, it was not the limit.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import uvloop


@dataclass(frozen=True)
class LoadPlan:
    """What to ask.

    Attributes:
        host: Where.
        port: Where.
        requests: Complete requests, as bytes; each connection takes the next one that is due, round after round.
        connections: How many.
        seconds: How long.
    """

    host: str
    port: int
    requests: list[bytes]
    connections: int
    seconds: float


class _LoadRun:
    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.next = 0
        self.seconds: list[float] = []
        self.statuses: dict[int, int] = {}
        self.bytes = 0
        self.end = float("inf")
        self.finished = asyncio.Event()
        self.active = 0

    def request(self) -> bytes:
        chosen = self.plan.requests[self.next % len(self.plan.requests)]
        self.next += 1
        return chosen


class _Connection(asyncio.Protocol):
    def __init__(self, run: _LoadRun) -> None:
        self._run = run
        self._left = 0
        self._head = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._run.active += 1
        self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._run.request())

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            at = data.lower().find(b"content-length: ", 0, end) + 16
            length = int(data[at : data.index(b"\r", at)])
            status = int(data[9:12])
            self._run.statuses[status] = self._run.statuses.get(status, 0) + 1
            self._left = length - (len(data) - end - 4)
            self._run.bytes += length
        if self._left == 0:
            now = time.perf_counter()
            self._run.seconds.append(now - self._sent)
            if now < self._run.end:
                self._ask()
            else:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._run.active -= 1
        if self._run.active == 0:
            self._run.finished.set()


async def _drive(plan: LoadPlan) -> dict[str, Any]:
    run = _LoadRun(plan)
    loop = asyncio.get_running_loop()
    run.end = time.perf_counter() + plan.seconds
    began, cpu = time.perf_counter(), time.process_time()
    run.active = 1  # until all are there
    for _ in range(plan.connections):
        await loop.create_connection(lambda: _Connection(run), plan.host, plan.port)
    run.active -= 1
    if run.active:
        await run.finished.wait()
    elapsed = time.perf_counter() - began
    p50, p99 = np.percentile(np.array(run.seconds) * 1000, [50, 99])
    return {
        "rate": len(run.seconds) / elapsed,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "count": len(run.seconds),
        "statuses": {str(status): count for status, count in run.statuses.items()},
        "cpu": (time.process_time() - cpu) / elapsed,
        "bytes": run.bytes / max(1, len(run.seconds)),
    }


def main() -> None:
    """Read a plan, carry it out, and print what came of it."""
    given = orjson.loads(sys.stdin.buffer.read())
    requests = [text.encode() for text in given.pop("requests")]
    result = uvloop.run(_drive(LoadPlan(requests=requests, **given)))
    sys.stdout.buffer.write(orjson.dumps(result))


if __name__ == "__main__":
    main()
