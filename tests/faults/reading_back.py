"""Reads back what odd messages have left behind: by the API, and by every command that shows or sends messages."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import orjson
from mess_client import AsyncMessClient, MessClientError, Retries

from mess.stack.ports import pick_free
from streams.kafka.topics import RECOMMENDATIONS, TRACK_INGEST
from tests.faults.servers import Servers

# Lines that `mess publish` is given, and letters that are replayed, at most.
SOME = 2_000


async def read_back(directory: Path, servers: Servers, sent: Counter[str]) -> list[str]:
    """Everything that cannot be read back, in words.

    Args:
        directory: For files.
        servers: Where a worker is at rest.
        sent: How many messages each topic holds that were sent from outside.
    """
    environment = os.environ | {
        "MESS_DATABASE_URL": servers.database_url,
        "MESS_KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
    }
    return [
        *await _by_api(environment),
        *await asyncio.to_thread(lambda: list(_by_commands(directory, environment, sent))),
    ]


async def _by_api(environment: dict[str, str]) -> list[str]:
    wrong: list[str] = []
    patient = Retries(attempts=300, first_wait=0.1, longest_wait=0.2)
    with _api(environment) as url:
        async with AsyncMessClient(url, timeout=30, retries=patient) as client:
            await client.strategies()  # once it answers at all
            async for track in client.tracks():
                for read in (partial(client.recommend, top_k=50), client.track, client.metadata):
                    await _tell(wrong, read(track.track_id), track.track_id)
            await _tell(wrong, client.composers(), "composers")
            await _tell(wrong, client.tags(), "tags")
            await _tell(wrong, client.health(detailed=True), "health")
            await _tell(wrong, client.tracks_page(search="a"), "search")
            await _tell(wrong, client.tracks_page(composer="Bach"), "composer")
            wrong += await _changes(client)
    return wrong[:20]


async def _tell(wrong: list[str], read: Awaitable[object], what: str) -> None:
    try:
        await read
    except MessClientError as error:
        wrong.append(f"{what}: {error}")


async def _changes(client: AsyncMessClient) -> list[str]:
    """The change feed from its beginning, as a subscriber sees it: it must come to the present, not to an error."""
    told = 0
    beginning = ",".join(f"{partition}:-1" for partition in range(8))
    try:
        async with asyncio.timeout(120), client.changes(last_event_id=beginning) as changes:
            async for _ in changes:
                told += 1
                if told >= SOME:
                    return []
    except TimeoutError:
        return [] if told else ["GET /changes tells of nothing"]
    except MessClientError as error:
        return [f"GET /changes: after {told} changes {error}"]
    return [f"GET /changes ended after {told} changes"]


@contextmanager
def _api(environment: dict[str, str]) -> Iterator[str]:
    (port,) = pick_free(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "mess", "api"],
        env=environment | {"MESS_API_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _by_commands(directory: Path, environment: dict[str, str], sent: Counter[str]) -> Iterator[str]:
    def mess(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "mess", *arguments], env=environment, capture_output=True, check=False
        )

    values: list[bytes] = []
    for topic in (*sent, RECOMMENDATIONS, "dead-letters", "recommendation-replies"):
        told = mess("tail", topic, "--from-beginning", "--no-follow")
        lines = told.stdout.splitlines()
        if told.returncode or (topic in sent and len(lines) != sent[topic]):
            yield f"mess tail {topic}: {len(lines)} lines of {sent[topic]}; {told.stderr[-300:]!r}"
        if topic == TRACK_INGEST:
            values = [
                orjson.dumps(value) for line in lines if (value := orjson.loads(line)["value"]) is not None
            ]
    yield from _publish(directory, values[:SOME], mess)
    yield from _letters(mess)


def _publish(directory: Path, values: list[bytes], mess) -> Iterator[str]:
    file = directory / "again.jsonl"
    file.write_bytes(b"".join(value + b"\n" for value in values))
    done = mess("publish", str(file))
    last = done.stdout.decode().strip().splitlines()[-1:] or [""]
    numbers = [int(word.replace(",", "")) for word in last[0].split() if word.replace(",", "").isdigit()]
    if done.returncode not in (0, 1) or sum(numbers[:2]) != len(values) or b"Traceback" in done.stderr:
        yield f"mess publish of {len(values)} lines: {last} {done.stderr[-300:]!r}"


def _letters(mess) -> Iterator[str]:
    listed = mess("dead-letters", "list", "--json", "--limit", "10000000")
    letters = [orjson.loads(line) for line in listed.stdout.splitlines()]
    if listed.returncode or not letters:
        yield f"mess dead-letters list: {listed.stderr[-300:]!r}"
        return
    by_reason = {letter["reason"]: letter["place"] for letter in letters}
    for arguments in (["list", "--limit", "1000"], *(["show", place] for place in by_reason.values())):
        if (told := mess("dead-letters", *arguments)).returncode:
            yield f"mess dead-letters {' '.join(arguments)}: {told.stderr[-300:]!r}"
    rarest = Counter(letter["reason"] for letter in letters).most_common()[-1][0]
    replayed = mess("dead-letters", "replay", "--over-newer", "--yes", "--reason", rarest)
    # 1: some cannot be sent back, and are named.
    if replayed.returncode not in (0, 1) or b"Traceback" in replayed.stderr:
        yield f"mess dead-letters replay: {replayed.stderr[-300:]!r}"
