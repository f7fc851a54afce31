"""Publishes odd messages to a worker on servers of its own and accounts for every one: applied, or refused with a reason.

    python -m tests.faults.odd --messages 100000 --seed 1

Exits with 1, and says which, if one is unaccounted for, if the worker ended once, if a list is wrong, or if something that
was stored cannot be read back by the API, `mess tail`, `mess dead-letters` or `mess publish`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil
import typer
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from mess import migrate
from streams.contracts import read_dead_letter_headers
from streams.kafka.header_names import tolerate_foreign_header_names
from streams.kafka.topics import (
    DEAD_LETTERS,
    RECOMMENDATION_REPLIES,
    RECOMMENDATION_REQUESTS,
    TRACK_INGEST,
    TRACK_INTERACTIONS,
    topic_specs,
)
from streams.settings import KafkaSettings, StreamSettings
from tests.faults.odd_messages import OddMessage, odd_messages
from tests.faults.reading_back import read_back
from tests.faults.servers import KeptWorker, Servers, guarded
from tests.support.foreign import raw_header_names
from tests.support.worker import reader, settle, wrong_lists

IN_FLIGHT = 2_000
PATIENCE_SECONDS = 600.0

# Where a message stood.
Place = tuple[str, int, int]


@dataclass
class Account:
    """What was published, and what has become of it.

    Attributes:
        sent: How many messages of each topic the broker took.
        not_taken: How many it refused, by topic and error.
        tracks: For each partition of track-ingest, by offset: the key, and whether it was a tombstone.
        refused: Reason by place.
    """

    sent: Counter[str] = field(default_factory=Counter)
    not_taken: Counter[tuple[str, str]] = field(default_factory=Counter)
    tracks: dict[int, dict[int, tuple[bytes | None, bool]]] = field(default_factory=dict)
    refused: dict[Place, str] = field(default_factory=dict)

    def delivered(self, message: OddMessage, partition: int, offset: int) -> None:
        """The broker has a message."""
        self.sent[message.topic] += 1
        if message.topic == TRACK_INGEST:
            self.tracks.setdefault(partition, {})[offset] = (message.key, message.value is None)

    def refused_of(self, topic: str) -> int:
        """How many places of a topic have a dead letter."""
        return sum(place[0] == topic for place in self.refused)

    def catalogue(self) -> dict[str, tuple[int, int]]:
        """What must be stored: by track id, the place of the last event that was not refused."""
        wanted: dict[str, tuple[int, int]] = {}
        for partition, events in self.tracks.items():
            for offset in sorted(events):
                if (TRACK_INGEST, partition, offset) in self.refused:
                    continue
                key, tombstone = events[offset]
                track_id = (key or b"").decode()
                if tombstone:
                    wanted.pop(track_id, None)
                else:
                    wanted[track_id] = (partition, offset)
        return wanted


async def create_topics(kafka: KafkaSettings) -> None:
    """The pipeline's topics, taking any time (as before Apache Kafka 4) and no key, and keeping what is of year 1."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await client.start()
    try:
        anything = {
            "message.timestamp.after.max.ms": str(2**63 - 1),
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "segment.ms": str(10**14),
        }
        specs = topic_specs(kafka, StreamSettings())
        made = await client.create_topics(
            [NewTopic(s.name, s.partitions, 1, topic_configs=s.config | anything) for s in specs]
        )
        assert all(code == 0 for _, code, *_ in made.topic_errors), made
    finally:
        await client.close()


async def publish(servers: str, messages: Iterator[OddMessage], account: Account) -> None:
    """Publish everything, in order within a partition."""
    room = asyncio.Semaphore(IN_FLIGHT)
    producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=10, max_batch_size=256 * 1024)
    await producer.start()

    def settled(message: OddMessage, delivery: asyncio.Future) -> None:  # type: ignore[type-arg]
        room.release()
        if (error := delivery.exception()) is not None:
            account.not_taken[message.topic, type(error).__name__] += 1
        else:
            account.delivered(message, delivery.result().partition, delivery.result().offset)

    try:
        for message in messages:
            await room.acquire()
            delivery = await producer.send(
                message.topic,
                message.value,
                key=message.key,
                timestamp_ms=message.timestamp,
                headers=message.headers,
            )
            delivery.add_done_callback(lambda done, message=message: settled(message, done))
        for _ in range(IN_FLIGHT):
            await room.acquire()
    finally:
        await producer.stop()


async def read_letters(servers: str, account: Account) -> Counter[str]:
    """Note every dead letter; returns the details of those that nobody foresaw."""
    unforeseen: Counter[str] = Counter()
    async with reader(servers, DEAD_LETTERS) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    told = read_dead_letter_headers(record.headers)
                    topic, partition, offset = (
                        told[f"mess.source.{p}"] for p in ("topic", "partition", "offset")
                    )
                    account.refused[topic, int(partition), int(offset)] = told["mess.error"]
                    if told["mess.error"] == "unprocessable":
                        unforeseen[told["mess.detail"]] += 1
    return unforeseen


async def count_messages(servers: str, topic: str) -> int:
    """How many messages a topic holds."""
    async with reader(servers, topic) as consumer:
        places = list(consumer.assignment())
        ends, starts = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
    return sum(ends.values()) - sum(starts.values())


def outcomes(worker: KeptWorker, metric: str) -> dict[str, int]:
    """A counter of the worker's by its label `outcome`."""
    prefix = f"{metric}_total{{outcome="
    found = worker.metrics()
    return {name[len(prefix) : -1]: int(value) for name, value in found.items() if name.startswith(prefix)}


async def at_rest(url: str, servers: str, worker: KeptWorker, account: Account) -> None:
    """Wait until every message of every topic has been taken, and until nothing moves."""
    await settle(url, servers, patience=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    left: object = None
    while time.monotonic() < deadline:
        listened = sum(outcomes(worker, "mess_interactions").values())
        letters: Account = Account()
        await read_letters(servers, letters)
        replied = await count_messages(servers, RECOMMENDATION_REPLIES)
        unanswered = (
            account.sent[RECOMMENDATION_REQUESTS] - replied - letters.refused_of(RECOMMENDATION_REQUESTS)
        )
        left = {
            TRACK_INTERACTIONS: account.sent[TRACK_INTERACTIONS] - listened,
            # Replied to at least once each: after a rebalance some are twice.
            RECOMMENDATION_REQUESTS: max(0, unanswered),
        }
        if not any(left.values()):
            return
        await asyncio.sleep(1)
    raise AssertionError(f"messages are not accounted for: {left}")


async def wrong_tracks(url: str, account: Account) -> list[str]:
    """Tracks that are not as the last event that was not refused has them."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT track_id, source_partition, source_offset FROM tracks")
    finally:
        await connection.close()
    stored = {row[0]: (row[1], row[2]) for row in rows}
    wanted = account.catalogue()
    return [
        f"{track_id!r} is {stored.get(track_id)}, not {wanted.get(track_id)}"
        for track_id in sorted(stored.keys() | wanted.keys())
        if stored.get(track_id) != wanted.get(track_id)
    ]


async def run(directory: Path, messages: int, seed: int) -> list[str]:
    """Publish, wait, account; returns what is wrong, in words."""
    with guarded() as guardian:
        servers = Servers(directory, guardian)
        worker = KeptWorker(
            guardian, servers.database_url, servers.bootstrap_servers, directory / "worker.log", typer.echo
        )
        try:
            await servers.start()
            await create_topics(KafkaSettings(bootstrap_servers=servers.bootstrap_servers))
            await asyncio.to_thread(migrate.upgrade_schema, servers.database_url)
            worker.run()
            return await _account(directory, servers, worker, messages, seed)
        finally:
            await worker.end()
            await asyncio.to_thread(servers.kill)


async def _account(
    directory: Path, servers: Servers, worker: KeptWorker, messages: int, seed: int
) -> list[str]:
    account, began = Account(), time.monotonic()
    address, url = servers.bootstrap_servers, servers.database_url
    with raw_header_names():
        await publish(address, odd_messages(seed, messages), account)
    published = time.monotonic() - began
    await at_rest(url, address, worker, account)
    took = time.monotonic() - began
    unforeseen = await read_letters(address, account)
    assert worker.process is not None
    memory = sum(p.memory_info().rss for p in [psutil.Process(worker.process.pid)]) / 2**20
    events, listened = outcomes(worker, "mess_ingest_events"), outcomes(worker, "mess_interactions")
    wrong = [f"the worker ended: {worker.exits}"] if worker.exits else []
    wrong += (await wrong_tracks(url, account))[:20]
    wrong += [f"the list of {track_id!r} is wrong" for track_id in (await wrong_lists(url))[:20]]
    wrong += await read_back(directory, servers, account.sent)
    wrong += [f"the worker ended while things were read back: {worker.exits}"] if worker.exits else []
    reasons = Counter((place[0], reason) for place, reason in account.refused.items())
    typer.echo(
        f"{sum(account.sent.values()):,} messages published in {published:.0f} s, at rest after {took:.0f} s"
    )
    typer.echo(f"the worker ended {len(worker.exits)} times; its own process has {memory:.0f} MiB")
    typer.echo(f"not taken by the broker: {dict(account.not_taken)}")
    typer.echo(f"track-ingest: {account.sent[TRACK_INGEST]:,}; {events}")
    typer.echo(f"track-interactions: {account.sent[TRACK_INTERACTIONS]:,}; {listened}")
    replied = await count_messages(address, RECOMMENDATION_REPLIES)
    typer.echo(f"recommendation-requests: {account.sent[RECOMMENDATION_REQUESTS]:,}; replied to {replied:,}")
    for (topic, reason), count in sorted(reasons.items()):
        typer.echo(f"  {count:>9,} dead letters of {topic}: {reason}")
    for detail, count in unforeseen.most_common(20):
        typer.echo(f"  {count:>9,} unforeseen: {detail}")
    return wrong


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty directory that is kept, with all logs")
    given = parser.parse_args()
    tolerate_foreign_header_names()
    with tempfile.TemporaryDirectory(prefix="mess-odd-") as made:
        directory = given.keep or Path(made)
        directory.mkdir(parents=True, exist_ok=True)
        wrong = asyncio.run(run(directory, given.messages, given.seed))
    typer.echo("\n".join(wrong) or "every message is accounted for")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
