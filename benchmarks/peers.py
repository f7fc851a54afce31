"""Questions over HTTP beside peers: the stack, and FastAPI over pgvector, hnswlib, qdrant-edge and lancedb, in turn.

The same questions on the demo catalogue: two weighted seeds, 50 results, at most 2 of a composer, of two eras; and two seeds,
10 results, no condition. Each answer is held against brute force.
"""

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import orjson
import psutil
import uvloop

from benchmarks import machine, processes, report
from benchmarks.question_peers import NEEDS, PEERS, PeerCatalogue, PeerQuestion
from benchmarks.reads import listening_server
from mess.stack.ports import pick_free

CONNECTIONS = (1, 32)
# Similarities that differ by less may stand in either order: peers compare in float32.
TIE = 2e-6
# Every question can be answered in full: there are more works of the first era than are asked for.
ERAS = ("Medieval", "Renaissance", "Baroque", "Classical")
STACK = "MESS-AI"


@dataclass(frozen=True)
class PeerAnswerer:
    """Who answers questions.

    Attributes:
        name: As the table has it.
        url: Where.
        pids: Processes whose time and memory, with all their descendants, are its own.
    """

    name: str
    url: str
    pids: tuple[int, ...]

    def seconds(self) -> float:
        """Processor time that all its processes have taken."""
        return sum(sum(process.cpu_times()[:2]) for pid in self.pids for process in _family(pid))

    def memory(self) -> int:
        """Bytes that all its processes take."""
        return sum(machine.memory_bytes(pid) for pid in self.pids)


@dataclass
class QuestionOutcome:
    """What was measured of one kind of question: of each number of connections a run for each round."""

    right: int = 0
    asked: int = 0
    runs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def middle(self, connections: int) -> dict[str, Any]:
        """The median run by rate."""
        runs = sorted(self.runs[connections], key=lambda run: float(run["rate"]))
        return runs[len(runs) // 2]


def _family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def some_questions(tracks: PeerCatalogue, count: int, *, conditions: bool) -> list[dict[str, Any]]:
    """Random questions, as the API takes them; all different."""
    random = np.random.default_rng(17)
    asked: list[dict[str, Any]] = []
    for _ in range(count):
        one, other = (tracks.names[row] for row in random.choice(len(tracks.names), 2, replace=False))
        question: dict[str, Any] = {
            "seeds": [{"track_id": one, "weight": 2.0}, {"track_id": other}],
            "top_k": 10,
        }
        if conditions:
            eras = [ERAS[0], ERAS[random.integers(1, len(ERAS))]]
            question |= {"top_k": 50, "filters": {"era": eras}, "caps": {"composer": 2}}
        asked.append(question)
    return asked


def brute_force_answer(tracks: PeerCatalogue, question: PeerQuestion) -> tuple[list[int], np.ndarray]:
    """Rows of the answer, best first, and float64 (n,), the similarity of every track."""
    vectors = tracks.vectors.astype(np.float64)
    scores = vectors @ tracks.direction(question, tracks.vectors[tracks.seeds(question)]).astype(np.float64)
    eras = question.filters.era
    order = [
        row for row in np.argsort(-scores, kind="stable").tolist() if not eras or tracks.eras[row] in eras
    ]
    return [row for row, _ in tracks.capped([(row, scores[row]) for row in order], question)], scores


def is_right(tracks: PeerCatalogue, asked: dict[str, Any], body: bytes) -> bool:
    """Whether an answer is what brute force says, place by place, with ties in any order."""
    question = PeerQuestion.model_validate(asked)
    wanted, scores = brute_force_answer(tracks, question)
    items = orjson.loads(body)["recommendations"]
    rows = [tracks.rows[item.get("track_id") or item["track"]["track_id"]] for item in items]
    if len(set(rows)) != len(rows) or len(rows) != len(wanted):
        return False
    in_order = np.abs(scores[rows] - scores[wanted]) < TIE
    kept = tracks.capped([(row, scores[row]) for row in rows], question)
    eras = question.filters.era
    return (
        bool(in_order.all())
        and len(kept) == len(rows)
        and all(not eras or tracks.eras[r] in eras for r in rows)
    )


def _post(url: str, body: bytes) -> bytes:
    request = urllib.request.Request(  # noqa: S310 -- our own servers
        f"{url}/recommend", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content


def _drive(who: PeerAnswerer, requests: list[str], connections: int, seconds: float) -> dict[str, Any]:
    host, port = who.url.removeprefix("http://").split(":")
    plan = {
        "host": host,
        "port": int(port),
        "requests": requests,
        "connections": connections,
        "seconds": seconds,
    }
    before = who.seconds()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=orjson.dumps(plan),
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = orjson.loads(done.stdout)
    if set(result["statuses"]) != {"200"}:
        raise RuntimeError(f"{who.name} answers other than 200: {result['statuses']}")
    result["cpu_ms"] = (who.seconds() - before) / result["count"] * 1e3
    return result


def _request(asked: dict[str, Any]) -> str:
    body = orjson.dumps(asked).decode()
    head = f"POST /recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}"


def measure_questions(
    answering: list[PeerAnswerer], tracks: PeerCatalogue, *, conditions: bool, seconds: float, rounds: int
) -> dict[str, QuestionOutcome]:
    """Ask everyone the same, in turn, round after round."""
    questions = some_questions(tracks, 2_000, conditions=conditions)
    checked = questions[: 60 if rounds == 1 else 200]
    outcomes = {who.name: QuestionOutcome(runs={count: [] for count in CONNECTIONS}) for who in answering}
    for who in answering:
        bodies = [_post(who.url, orjson.dumps(asked)) for asked in checked]
        outcomes[who.name].asked = len(checked)
        outcomes[who.name].right = sum(is_right(tracks, *pair) for pair in zip(checked, bodies, strict=True))
        report.progress(f"{who.name}: {outcomes[who.name].right} of {len(checked)} right")
    requests = [_request(asked) for asked in questions]
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for who in answering:
                outcomes[who.name].runs[connections].append(_drive(who, requests, connections, seconds))
    return outcomes


async def _postmaster(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        pid: int = await connection.fetchval("SELECT pg_backend_pid()")
        parent = psutil.Process(pid).parent()
    finally:
        await connection.close()
    assert parent is not None
    return parent.pid


@contextlib.contextmanager
def running_peers(directory: Path, missing: list[str]) -> Iterator[list[PeerAnswerer]]:
    """Run every peer that is installed; names of the others are put into `missing`."""
    with contextlib.ExitStack() as stack:
        found: list[PeerAnswerer] = []
        facts = stack.enter_context(
            processes.services("--broker", "none", "--data-dir", f"{directory}/postgres")
        )
        for name in PEERS:
            if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
                missing.append(name)
                continue
            (port,) = pick_free(1)
            where = facts["admin_url"] if name == "pgvector" else str(directory)
            command = [sys.executable, "-m", "benchmarks.question_peers", name, str(port), where]
            server = stack.enter_context(
                listening_server(command, port, directory / f"{name}.log", OMP_NUM_THREADS="1")
            )
            beside = (uvloop.run(_postmaster(where)),) if name == "pgvector" else ()
            found.append(PeerAnswerer(name, f"http://127.0.0.1:{port}", (server.pid, *beside)))
        yield found


def _show(title: str, answering: list[PeerAnswerer], outcomes: dict[str, QuestionOutcome]) -> None:
    table = report.make_table(
        f"{title}, load {machine.load_average()}",
        "who",
        "p50 ms at 1",
        "p99",
        "/s at 1",
        "p50 ms at 32",
        "p99",
        "/s at 32",
        "CPU ms at 1",
        "at 32",
        "kB",
        "right",
        "MiB",
    )
    for who in answering:
        outcome = outcomes[who.name]
        one, many = outcome.middle(1), outcome.middle(32)
        table.add_row(
            who.name,
            f"{one['p50_ms']:.1f}",
            f"{one['p99_ms']:.1f}",
            f"{one['rate']:,.0f}",
            f"{many['p50_ms']:.0f}",
            f"{many['p99_ms']:.0f}",
            f"{many['rate']:,.0f}",
            f"{one['cpu_ms']:.1f}",
            f"{many['cpu_ms']:.1f}",
            f"{one['bytes'] / 1e3:.0f}",
            f"{outcome.right} of {outcome.asked}",
            f"{who.memory() / 2**20:,.0f}",
        )
    report.print_table(table)


def _idle_share(who: PeerAnswerer, seconds: float = 5.0) -> float:
    before = who.seconds()
    time.sleep(seconds)
    return (who.seconds() - before) / seconds


def main(*, quick: bool = False) -> None:
    """Run it and print the tables."""
    seconds, rounds = (2.0, 1) if quick else (4.0, 3)
    tracks, missing = PeerCatalogue(), list[str]()
    with (
        tempfile.TemporaryDirectory(prefix="mess-bench-") as directory,
        processes.local_stack(Path(directory)) as stack,
    ):
        stack.wait_for_lists()
        with running_peers(Path(directory), missing) as peers:
            ours = PeerAnswerer(STACK, stack.state.http_url, (stack.pids()["mess up"],))
            answering = [ours, *peers]
            idle = _idle_share(ours)
            for title, conditions in (
                ("Two weighted seeds, 50 results, at most 2 of a composer, two eras", True),
                ("Two weighted seeds, 10 results", False),
            ):
                outcomes = measure_questions(
                    answering, tracks, conditions=conditions, seconds=seconds, rounds=rounds
                )
                _show(title, answering, outcomes)
    report.console.print(
        f"CPU is of all processes of each; of ours {idle:.1%} of a core goes on while nobody asks. Medians of {rounds} rounds."
    )
    if missing:
        report.console.print(
            f"Not installed, so left out: {', '.join(missing)} (see docs/benchmarks/method.md)."
        )


if __name__ == "__main__":
    main()
