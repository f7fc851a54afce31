"""A worker process as it runs in production, and what tests ask of it from outside."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from mess.stack.ports import pick_free
from streams.contracts import encode_track, track_key
from streams.engine.similarity import brute_force
from streams.kafka.header_names import tolerate_foreign_header_names

PATIENCE = 60.0


class WorkerProcess:
    """`mess worker` in a process, on a database and a broker."""

    def __init__(self, database_url: str, bootstrap_servers: str, log: Path, **settings: str) -> None:
        (self.port,) = pick_free(1)
        self.log = log
        self._environment = os.environ | {
            "MESS_DATABASE_URL": database_url,
            "MESS_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "MESS_WORKER_PORT": str(self.port),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it unless it runs; does not wait for it to work."""
        if self.process is not None and self.process.poll() is None:
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mess", "worker"], env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kill it without notice."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def metrics(self) -> dict[str, float]:
        """Its metrics by name and labels, e.g. `mess_ingest_events_total{outcome=refused}`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        found = {}
        for sample in (sample for family in families for sample in family.samples):
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found


async def publish(
    servers: str, messages: Iterable[tuple[bytes | None, bytes | None]], topic: str = "track-ingest"
) -> list[tuple[int, int]]:
    """Publish raw messages in order; returns the partition and offset of each."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, max_request_size=8 * 1024 * 1024)
    try:
        await producer.start()
        deliveries = [await producer.send(topic, key=key, value=value) for key, value in messages]
        return [(r.partition, r.offset) for r in await asyncio.gather(*deliveries)]
    finally:
        await producer.stop()


def track_message(
    track_id: str,
    vector: Sequence[float] | np.ndarray | Mapping[str, Sequence[float] | np.ndarray],
    **metadata: object,
) -> tuple[bytes, bytes]:
    """A track event."""
    return encode_track(track_id, vector, metadata)


@asynccontextmanager
async def reader(servers: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions of a topic, at their beginning."""
    tolerate_foreign_header_names()
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=16 * 1024 * 1024,
    )
    try:
        await consumer.start()
        assert consumer.assignment()
        yield consumer
    finally:
        await consumer.stop()


async def read_topic(servers: str, topic: str) -> list[ConsumerRecord]:
    """Everything in a topic, as of now."""
    records: list[ConsumerRecord] = []
    async with reader(servers, topic) as consumer:
        ends = await _ends(consumer)
        while any([await consumer.position(p) < end for p, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
    return records


async def end_offsets(servers: str, topic: str = "track-ingest") -> dict[int, int]:
    """Where each partition of a topic ends."""
    async with reader(servers, topic) as consumer:
        return {p.partition: offset for p, offset in (await _ends(consumer)).items()}


async def _ends(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    """Where the consumer's partitions end; it stands at their beginning afterwards.

    As fetches tell it: asked for its last offsets, Tansu counts the newest batch as one message.
    """
    partitions = consumer.assignment()
    while any(consumer.highwater(p) is None for p in partitions):
        await consumer.getmany(timeout_ms=100)
    await consumer.seek_to_beginning(*partitions)
    return {p: consumer.highwater(p) for p in partitions}


async def settle(
    database_url: str, servers: str, *, patience: float = PATIENCE, topic: str = "track-ingest"
) -> None:
    """Wait until everything published is in the stored lists, and these have all the length they can have."""
    deadline = time.monotonic() + patience
    connection = await asyncpg.connect(database_url)
    try:
        wanted = {p: offset for p, offset in (await end_offsets(servers, topic)).items() if offset}
        state: object = None
        while time.monotonic() < deadline:
            consumed = dict(
                await connection.fetch("SELECT partition, consumed_offset FROM ingest_partitions")
            )
            absorbed = dict(
                await connection.fetch(
                    "SELECT source_partition, min(absorbed_offset) FROM absorbed_offsets GROUP BY 1"
                )
            )
            short = await connection.fetchval(
                "SELECT count(*) FROM tracks t LEFT JOIN neighbour_lists l USING (key) WHERE "
                "coalesce(cardinality(l.neighbours), 0) < least(50, (SELECT count(*) FROM tracks) - 1)"
            )
            state = (wanted, consumed, absorbed, short)
            tracks = await connection.fetchval("SELECT count(*) FROM tracks")
            if all(consumed.get(p, 0) >= offset for p, offset in wanted.items()) and (
                tracks == 0
                or (not short and all(absorbed.get(p, 0) >= offset for p, offset in wanted.items()))
            ):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the lists do not catch up: {state}")
    finally:
        await connection.close()


async def wrong_lists(database_url: str) -> list[str]:
    """Tracks whose stored list is not the one that brute force finds over the stored catalogue."""
    connection = await asyncpg.connect(database_url)
    try:
        tracks = await connection.fetch("SELECT track_id, embedding FROM tracks")
        stored = {
            row["key"]: (row["neighbours"], row["scores"])
            for row in await connection.fetch("SELECT key, neighbours, scores FROM neighbour_lists")
        }
    finally:
        await connection.close()
    names = [row["track_id"] for row in tracks]
    if not names:
        return [str(key) for key in stored]
    vectors = np.array([np.frombuffer(row["embedding"], dtype="<f4") for row in tracks])
    ids, scores = brute_force(vectors, names, 50)
    wrong = [str(key) for key in stored.keys() - {track_key(name) for name in names}]
    for name, neighbours, similarities in zip(names, ids, scores, strict=True):
        keys, kept = stored.get(track_key(name), ([], []))
        if keys != [track_key(other) for other in neighbours] or not np.array_equal(
            np.float32(kept), similarities
        ):
            wrong.append(name)
    return wrong
