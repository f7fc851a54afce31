"""The worker process, from raw messages to lists, dead letters and the change feed."""

import asyncio
import base64
import os
import signal
import time

import asyncpg
import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError

from store import partitions
from streams.contracts import read_dead_letter_headers
from tests.integration.worker.conftest import Line, owners
from tests.support.worker import publish, read_topic, settle, track_message, wrong_lists

pytestmark = pytest.mark.integration

DIMENSION = 16


def random_tracks(prefix: str, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Tracks around a few centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((8, DIMENSION))
    points = centres[rng.integers(0, 8, count)] + rng.standard_normal((count, DIMENSION))
    return {f"{prefix}/{i:04d}": point for i, point in enumerate(points)}


async def list_of(line: Line, track_id: str) -> list[str]:
    """The stored list of a track, as ids."""
    connection = await asyncpg.connect(line.database_url)
    try:
        rows = await connection.fetch(
            "SELECT n.track_id FROM tracks t JOIN neighbour_lists l USING (key), "
            "unnest(l.neighbours) WITH ORDINALITY AS u (key, at) JOIN tracks n ON n.key = u.key "
            "WHERE t.track_id = $1 ORDER BY u.at",
            track_id,
        )
        return [row["track_id"] for row in rows]
    finally:
        await connection.close()


async def feed_of(line: Line, track_id: str) -> list[dict | None]:
    """What the change feed told of a track, oldest first; None is a tombstone."""
    records = [r for r in await read_topic(line.servers, "recommendations") if r.key == track_id.encode()]
    return [None if r.value is None else orjson.loads(r.value) for r in records]


async def eventually(condition) -> None:  # type: ignore[no-untyped-def]
    """Wait until an asynchronous condition holds."""
    deadline = time.monotonic() + 30
    while not await condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.2)


async def test_inserts_updates_and_deletes_end_in_the_lists_of_brute_force(line: Line) -> None:
    """After tracks were published, re-embedded and deleted, every stored list equals the one of brute force."""
    tracks = random_tracks("churn", 300)
    await publish(line.servers, [track_message(name, vector) for name, vector in tracks.items()])
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []
    moved = random_tracks("churn", 60, seed=1)
    deleted = list(tracks)[200:]
    await publish(line.servers, [track_message(name, vector) for name, vector in moved.items()])
    await publish(line.servers, [(name.encode(), None) for name in deleted])
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []
    assert await list_of(line, deleted[0]) == []
    assert len(await list_of(line, "churn/0000")) == 50


async def test_the_change_feed_tells_of_a_new_list_and_of_a_deletion(line: Line) -> None:
    """A track's list, what came and went, and a tombstone at its end appear on the recommendations topic."""
    await publish(line.servers, [track_message(n, v) for n, v in random_tracks("feed", 60).items()])
    ((partition, offset),) = await publish(
        line.servers, [track_message("feed/new", [1.0] * DIMENSION, title="New")]
    )
    await settle(line.database_url, line.servers)

    async def told() -> bool:
        return bool(await feed_of(line, "feed/new"))

    await eventually(told)
    first = (await feed_of(line, "feed/new"))[0]
    assert first is not None
    names = [item["track_id"] for item in first["recommendations"]]
    assert len(names) == 50
    assert first["added"] == names
    assert first["removed"] == []
    assert first["source"] == {"topic": "track-ingest", "partition": partition, "offset": offset}

    nearest = names[0]
    await publish(line.servers, [(nearest.encode(), None)])
    await settle(line.database_url, line.servers)

    async def tombstone() -> bool:
        return (await feed_of(line, nearest))[-1:] == [None] and nearest in (
            (await feed_of(line, "feed/new"))[-1] or {}
        ).get("removed", [])

    await eventually(tombstone)


def encoded(values: list[float]) -> dict[str, str]:
    """An embedding as packed float32."""
    return {"dtype": "float32", "data": base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()}


def event(track_id: str = "bad", **changes: object) -> bytes:
    """A good event, with changes."""
    return orjson.dumps({"track_id": track_id, "embedding": [1.0] * DIMENSION, "metadata": {}} | changes)


BAD_INPUT: list[tuple[str, bytes | None, bytes | None]] = [
    ("malformed_json", b"bad", b"{nope"),
    ("malformed_json", b"bad", b""),
    ("missing_key", None, event()),
    ("not_utf8", b"\xff\xfe", event()),
    ("key_mismatch", b"other", event()),
    ("invalid_track_id", b"tab\there", event("tab\there")),
    ("missing_embedding", b"bad", orjson.dumps({"track_id": "bad"})),
    ("wrong_dimension", b"bad", event(embedding=[1.0] * 3)),
    ("invalid_embedding", b"bad", event(embedding=["1"] * DIMENSION)),
    ("invalid_embedding", b"bad", event(embedding={"dtype": "float64", "data": ""})),
    ("not_finite", b"bad", event(embedding=encoded([float("nan")] * DIMENSION))),
    ("not_finite", b"bad", event().replace(b"1.0,", b"1e999,", 1)),
    ("zero_vector", b"bad", event(embedding=[0.0] * DIMENSION)),
    ("invalid_metadata", b"bad", event(metadata=["soon"])),
    ("invalid_metadata", b"bad", event(metadata={"notes": "x" * 70_000})),
    ("invalid_event_time", b"bad", event(event_time="yesterday")),
    ("too_large", b"bad", b" " * 5_000_000),
]


async def test_every_kind_of_bad_input_becomes_a_dead_letter_and_stops_nothing(line: Line) -> None:
    """Each refused message arrives whole in dead-letters with its reason and coordinates; the next one is processed."""
    await publish(line.servers, [track_message("good/0", np.arange(1, DIMENSION + 1))])
    await settle(line.database_url, line.servers)
    before = line.worker.metrics()
    # Apache Kafka itself refuses a message without a key on a compacted topic.
    bad = [b for b in BAD_INPUT if line.broker.kind != "kafka" or b[0] != "missing_key"]
    coordinates = await publish(line.servers, [(key, value) for _, key, value in bad])
    await publish(line.servers, [(b"never/seen", None), track_message("good/1", np.arange(DIMENSION, 0, -1))])
    await settle(line.database_url, line.servers)
    letters = {}
    for record in await read_topic(line.servers, "dead-letters"):
        headers = read_dead_letter_headers(record.headers)
        letters[int(headers["mess.source.partition"]), int(headers["mess.source.offset"])] = (
            headers["mess.error"],
            record.key,
            record.value,
        )
        assert headers["mess.source.topic"] == "track-ingest"
        assert headers["mess.detail"]
    assert [letters.get(at) for at in coordinates] == bad
    after = line.worker.metrics()
    counted = {
        name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)
    }
    assert counted["mess_ingest_events_total{outcome=refused}"] == len(bad)
    assert counted["mess_ingest_events_total{outcome=unknown_delete}"] == 1
    assert counted["mess_ingest_events_total{outcome=upserted}"] == 1
    for reason in {reason for reason, _, _ in bad}:
        expected = sum(reason == other for other, _, _ in bad)
        assert counted[f"mess_dead_letters_total{{reason={reason},topic=track-ingest}}"] == expected
    assert await list_of(line, "good/1")


async def test_a_delete_whose_key_is_a_json_string_is_told(line: Line) -> None:
    """As Kafka Connect's JSON converter writes keys: the track stays, the delete is counted, the log says what to set."""
    await publish(line.servers, [track_message("k/2", np.arange(1, DIMENSION + 1))])
    await settle(line.database_url, line.servers)
    counter = "mess_ingest_events_total{outcome=unknown_delete}"
    before = line.worker.metrics()[counter]
    await publish(line.servers, [(orjson.dumps("k/2"), None)])
    await settle(line.database_url, line.servers)
    assert line.worker.metrics()[counter] == before + 1
    told = [orjson.loads(row) for row in line.worker.log.read_bytes().splitlines() if b"JSON strings" in row]
    assert [(row["level"], row["events"], row["track_id"]) for row in told] == [("warning", 1, '"k/2"')]
    assert "StringConverter" in told[0]["hint"]
    assert await list_of(line, "k/2")


async def test_a_killed_worker_loses_nothing(line: Line) -> None:
    """A worker killed in the middle of a stream is followed by one that ends with the lists of brute force."""
    tracks = random_tracks("killed", 900, seed=5)
    messages = [track_message(name, vector) for name, vector in tracks.items()]
    for part in range(3):
        await publish(line.servers, messages[part * 300 : part * 300 + 300])
        await asyncio.sleep(0.15 * part)
        line.worker.kill()
        line.worker.start()
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []
    connection = await asyncpg.connect(line.database_url)
    assert await connection.fetchval("SELECT count(*) FROM tracks WHERE track_id LIKE 'killed/%'") == 900
    await connection.close()


async def commit_zero(line: Line) -> None:
    """Set the group's committed offsets to 0, as soon as it has no member any more."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=line.servers, group_id=line.broker.group, enable_auto_commit=False
    )
    await consumer.start()
    positions = {TopicPartition("track-ingest", p): 0 for p in range(8)}
    consumer.assign(list(positions))

    async def committed() -> bool:
        try:
            await consumer.commit(positions)
        except CommitFailedError:
            return False
        return True

    try:
        await eventually(committed)
    finally:
        await consumer.stop()


async def test_reading_the_topic_again_from_its_start_changes_nothing(line: Line) -> None:
    """Kafka's committed offsets set back to 0 are overruled by the store's; nothing is applied twice."""
    await publish(line.servers, [track_message(n, v) for n, v in random_tracks("replay", 20).items()])
    await settle(line.database_url, line.servers)
    connection = await asyncpg.connect(line.database_url)
    query = "SELECT track_id, source_partition, source_offset, updated_at FROM tracks ORDER BY track_id"
    before = await connection.fetch(query)
    assert line.worker.stop() == 0
    await commit_zero(line)
    line.worker.start()
    await publish(line.servers, [track_message("replay/last", [2.0] * DIMENSION)])
    await settle(line.database_url, line.servers)
    assert [r for r in await connection.fetch(query) if r["track_id"] != "replay/last"] == before
    await connection.close()
    assert line.worker.metrics()["mess_ingest_events_total{outcome=upserted}"] == 1


async def test_lists_of_a_lost_flush_are_caught_up_from_the_tracks(line: Line) -> None:
    """Where tracks were committed but their lists were not, the next start applies them again."""
    await publish(line.servers, [track_message(n, v) for n, v in random_tracks("late", 30).items()])
    await settle(line.database_url, line.servers)
    line.worker.kill()
    connection = await asyncpg.connect(line.database_url)
    # As if the flush after these tracks had never happened.
    await connection.execute(
        "DELETE FROM neighbour_lists l USING tracks t WHERE l.key = t.key AND t.track_id LIKE 'late/%'"
    )
    await connection.execute(
        "UPDATE owner_progress SET absorbed = ARRAY(SELECT coalesce((SELECT min(source_offset) FROM tracks "
        "WHERE track_id LIKE 'late/%' AND source_partition = place - 1), a) "
        "FROM unnest(absorbed) WITH ORDINALITY AS u (a, place) ORDER BY place)"
    )
    await connection.close()
    line.worker.start()
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []


async def test_a_worker_whose_partition_was_claimed_elsewhere_writes_nothing_more(line: Line) -> None:
    """A zombie's next write fails on its epoch, and the process ends instead of going on."""
    await publish(line.servers, [track_message("zombie/0", [3.0] * DIMENSION)])
    await settle(line.database_url, line.servers)
    connection = await asyncpg.connect(line.database_url)
    async with connection.transaction():
        await partitions.claim_partitions(connection, list(range(8)), "somebody else")  # type: ignore[arg-type]
    await publish(line.servers, [track_message("zombie/1", [4.0] + [3.0] * (DIMENSION - 1))])
    await asyncio.sleep(2)
    assert await connection.fetchval("SELECT count(*) FROM tracks WHERE track_id = 'zombie/1'") == 0
    await connection.close()
    assert line.worker.process is not None
    assert line.worker.process.wait(20) != 0
    line.worker.start()
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []


async def test_workers_share_the_partitions_and_take_over_from_each_other(line: Line) -> None:
    """Lists that two workers keep together are those of brute force, and so they are after one of them was killed."""
    second = line.another_worker("second")
    second.start()
    try:

        async def shared() -> bool:
            return await owners(line) == {"worker", "second"}

        await eventually(shared)
        tracks = random_tracks("shared", 120)
        await publish(line.servers, [track_message(n, v) for n, v in tracks.items()])
        await settle(line.database_url, line.servers)
        assert await wrong_lists(line.database_url) == []
        await publish(line.servers, [(name.encode(), None) for name in list(tracks)[::3]])
        moved = random_tracks("shared", 60, seed=4)
        moved = {name: vector for i, (name, vector) in enumerate(moved.items()) if i % 3 == 1}
        await publish(line.servers, [track_message(n, v) for n, v in moved.items()])
        await settle(line.database_url, line.servers)
        assert await wrong_lists(line.database_url) == []
        held = [worker.metrics()["mess_owned_partitions"] for worker in (line.worker, second)]
        assert all(held)
        assert sum(held) == 8
        line.worker.kill()
        await publish(line.servers, [track_message(n, v) for n, v in random_tracks("takeover", 40).items()])
        await settle(line.database_url, line.servers)
        assert await wrong_lists(line.database_url) == []
        assert second.metrics()["mess_owned_partitions"] == 8
    finally:
        second.stop()
        line.worker.start()


async def test_a_paused_worker_that_wakes_up_changes_nothing_of_its_successors(line: Line) -> None:
    """A worker stopped past its session, while another took over, ends when it wakes; the lists stay right."""
    await publish(line.servers, [track_message("pause/0", [5.0] * DIMENSION)])
    await settle(line.database_url, line.servers)
    assert line.worker.process is not None
    paused = line.worker.process
    second = line.another_worker("after-pause")
    os.kill(paused.pid, signal.SIGSTOP)
    connection = await asyncpg.connect(line.database_url)
    try:
        # The paused process still has its lock's connection: cut it, as a lost host's is cut.
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
            "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        second.start()
        await publish(line.servers, [track_message(n, v) for n, v in random_tracks("pause", 30).items()])
        await settle(line.database_url, line.servers)
        os.kill(paused.pid, signal.SIGCONT)
        assert await asyncio.to_thread(paused.wait, 30) != 0
        await publish(line.servers, [track_message(n, v) for n, v in random_tracks("awake", 30).items()])
        await settle(line.database_url, line.servers)
        assert await wrong_lists(line.database_url) == []
    finally:
        await connection.close()
        second.stop()
        line.worker.start()


async def test_a_worker_asked_to_stop_leaves_nothing_undone(line: Line) -> None:
    """After SIGTERM everything consumed is absorbed and told, and the exit status is 0."""
    await publish(line.servers, [track_message(n, v) for n, v in random_tracks("stop", 40).items()])
    connection = await asyncpg.connect(line.database_url)

    async def begun() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM tracks WHERE track_id LIKE 'stop/%'"))

    await eventually(begun)
    assert line.worker.stop() == 0
    consumed = dict(await connection.fetch("SELECT partition, consumed_offset FROM ingest_partitions"))
    absorbed = await connection.fetch("SELECT source_partition, absorbed_offset FROM absorbed_offsets")
    assert all(consumed[row["source_partition"]] == row["absorbed_offset"] for row in absorbed)
    newest = await connection.fetchval("SELECT max(version) FROM neighbour_lists")
    assert await connection.fetchval("SELECT min(published_version) FROM ingest_partitions") == newest
    await connection.close()
    line.worker.start()
