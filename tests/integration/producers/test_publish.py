"""Producers against a real broker, as a person runs them."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess.stack.statefile import Pids, StackState, write_state
from streams.contracts import TrackUpsert, parse_track_event
from streams.errors import BrokerUnavailable, TopicError
from streams.kafka.clients import group_less_consumer, start_producer
from streams.kafka.topics import ensure_topics, partition_of
from streams.producers.items import PublishSummary, RefusedRecord, TrackItem
from streams.producers.publisher import TrackPublisher, publish_all
from streams.settings import KafkaSettings, StreamSettings
from streams.strategies.aspects import Layout
from tests.integration.producers.conftest import Mess
from tests.support.services import unique_name

pytestmark = pytest.mark.integration


def write_tracks(path: Path, prefix: str, count: int, dimension: int = 4) -> Path:
    """Write so many good track events."""
    random = np.random.default_rng(count)
    with path.open("w") as file:
        for number in range(count):
            vector = random.standard_normal(dimension).round(6).tolist()
            file.write(json.dumps({"track_id": f"{prefix}/{number}", "embedding": vector}) + "\n")
    return path


def stack_of(bootstrap_servers: str) -> StackState:
    """A local stack with this broker."""
    return StackState(
        http_url="http://127.0.0.1:1",
        bootstrap_servers=bootstrap_servers,
        database_url="postgresql://127.0.0.1:1/mess",
        broker="kafka",
        pids=Pids(),
    )


def of(messages: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """Return the messages of tracks with this prefix."""
    return [message for message in messages if message["key"].startswith(prefix + "/")]


def test_topics_are_created_once_and_kept(mess: Mess) -> None:
    """A second creation finds all topics; another partition count is left as it is."""
    import asyncio  # noqa: PLC0415 - the command's own loop runs elsewhere

    assert asyncio.run(ensure_topics(mess.kafka, StreamSettings())) == []
    assert asyncio.run(ensure_topics(mess.kafka, StreamSettings(ingest_partitions=3))) == []
    assert len({message["partition"] for message in mess.messages("track-ingest")}) <= 8


def test_a_file_is_published_with_its_bad_lines_reported(mess: Mess) -> None:
    """Good lines arrive in the key's partition; bad ones are reported, kept, and cost exit code 1."""
    name = unique_name("file")
    path = write_tracks(mess.folder / "t.jsonl", name, 300)
    with path.open("a") as file:
        file.write('{bad\n{"track_id": "x", "embedding": [0, 0, 0, 0]}\n')
    done = mess.run("publish", "t.jsonl", "--rejects", "rejects.jsonl")
    assert done.returncode == 1
    assert done.stdout.startswith("300 published, 2 refused")
    assert "refused line 301: malformed_json" in done.stderr
    rejects = [json.loads(line) for line in (mess.folder / "rejects.jsonl").read_text().splitlines()]
    assert [(r["where"], r["reason"]) for r in rejects] == [
        ("line 301", "malformed_json"),
        ("line 302", "zero_vector"),
    ]
    arrived = of(mess.messages("track-ingest"), name)
    assert {message["key"] for message in arrived} == {f"{name}/{i}" for i in range(300)}
    assert all(message["partition"] == partition_of(message["key"].encode(), 8) for message in arrived)
    first = next(message for message in arrived if message["key"] == f"{name}/0")
    read = parse_track_event(first["key"].encode(), json.dumps(first["value"]).encode(), layout=Layout(4))
    assert isinstance(read, TrackUpsert)
    sent = np.array(json.loads(path.read_text().splitlines()[0])["embedding"])
    np.testing.assert_allclose(read.vector, sent / np.linalg.norm(sent), atol=1e-6)


def test_standard_input_is_published_while_it_comes(mess: Mess) -> None:
    """A line on a pipe is sent at once, not when the pipe ends; SIGINT then ends the run with 130."""
    name = unique_name("pipe")
    with mess.start("publish", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"track_id": f"{name}/1", "embedding": [1, 2, 3, 4]}) + "\n")
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not of(mess.messages("track-ingest"), name):
            assert time.monotonic() < deadline, "the line was not sent while the pipe was open"
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert process.stdout is not None
        assert process.stderr is not None
        assert (process.returncode, process.stdout.read()[:12]) == (130, "1 published,")
        assert "Stopped after 1" in process.stderr.read()


def test_an_interrupted_run_goes_on_where_it_stopped(mess: Mess) -> None:
    """After SIGINT, --resume sends the rest: every line arrives, few of them twice."""
    name = unique_name("resume")
    write_tracks(mess.folder / "t.jsonl", name, 20_000, dimension=64)
    state = mess.folder / ".t.jsonl.mess-publish.json"
    with mess.start("publish", "t.jsonl") as process:
        deadline = time.monotonic() + 30
        while not state.exists():
            assert process.poll() is None, "the run ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "--resume" in err
    position = json.loads(state.read_text())["position"]
    assert 0 < position < 20_000
    resumed = mess.run("publish", "t.jsonl", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith(f"{20_000 - position:,} published, 0 refused")
    assert not state.exists()
    keys = [message["key"] for message in of(mess.messages("track-ingest"), name)]
    assert set(keys) == {f"{name}/{i}" for i in range(20_000)}
    assert len(keys) == 20_000


def test_features_are_published_with_metadata(mess: Mess) -> None:
    """A folder in the seed project's layout arrives pooled, with the table's facts."""
    name = unique_name("features")
    folder = mess.folder / "features" / "smd" / "aggregated"
    folder.mkdir(parents=True)
    array = np.random.default_rng(3).standard_normal((13, 768)).astype(np.float32)
    np.save(folder / "x.npy", array)
    np.save(folder / "wrong.npy", array[:, :512])
    (mess.folder / "m.csv").write_text(
        f'track_id,filename,title,tags,year_composed\n{name}/1,x.wav,Prélude,"a, b",soon\nz,z.wav,,,\n',
        "utf-8",
    )
    command = ("publish", "features", "--metadata", "m.csv", "--pool", "layer 3", "--report", "report.json")
    done = mess.run(*command)
    assert (done.returncode, done.stdout[:24]) == (1, "1 published, 1 refused i")
    assert "smd/aggregated/wrong.npy: wrong_shape: has shape (13, 512)" in done.stderr
    assert "1 row has no track: z\n" in done.stderr
    assert f"1 cell of year_composed could not be read and is kept in extra.raw: {name}/1\n" in done.stderr
    report = json.loads((mess.folder / "report.json").read_text())
    assert (report["published"], report["refused_by_reason"]) == (1, {"wrong_shape": 1})
    assert report["without_row"] == {"count": 1, "first": ["smd/aggregated/wrong.npy"]}
    assert report["unused_rows"] == {"count": 1, "first": ["z"]}
    assert report["unread_cells"] == {"year_composed": {"count": 1, "first": [f"{name}/1"]}}
    (message,) = of(mess.messages("track-ingest"), name)
    read = parse_track_event(
        message["key"].encode(), json.dumps(message["value"]).encode(), layout=Layout(768)
    )
    assert isinstance(read, TrackUpsert)
    np.testing.assert_allclose(read.vector, array[3] / np.linalg.norm(array[3]), atol=1e-6)
    assert (read.metadata.title, read.metadata.tags, read.metadata.dataset_source) == (
        "Prélude",
        ("a", "b"),
        "smd",
    )


def test_deletes_are_null_values(mess: Mess) -> None:
    """`mess delete` publishes a null for each id, whatever printable characters it has."""
    name = unique_name("gone")
    (mess.folder / "ids").write_text(f"{name}/ü 2\n", "utf-8")
    done = mess.run("delete", f"{name}/1", "--from-file", "ids")
    assert (done.returncode, done.stdout[:20]) == (0, "2 deleted, 0 refused")
    arrived = {message["key"]: message["value"] for message in of(mess.messages("track-ingest"), name)}
    assert arrived == {f"{name}/1": None, f"{name}/ü 2": None}


def test_tail_shows_headers_and_bytes_of_any_kind(mess: Mess) -> None:
    """A dead letter's raw bytes and headers come out as JSON; a limit ends the command."""
    import asyncio  # noqa: PLC0415 - the command's own loop runs elsewhere

    async def send() -> None:
        producer = await start_producer(mess.kafka)
        await producer.send_and_wait(
            "dead-letters", b"\xff\x00", key=b"k", headers=[("mess.error", b"not_utf8")]
        )
        await producer.stop()

    asyncio.run(send())
    shown = mess.run("tail", "dead-letters", "--from-beginning", "--limit", "1")
    (line,) = shown.stdout.splitlines()
    message = json.loads(line)
    assert message["value"] == {"base64": "/wA="}
    assert (message["key"], message["headers"]) == ("k", {"mess.error": "not_utf8"})


def test_an_unknown_topic_is_one_line_that_lists_the_topics(mess: Mess) -> None:
    """`mess tail` names what there is."""
    shown = mess.run("tail", "nothing")
    assert shown.returncode == 2
    assert shown.stderr.startswith("mess: there is no topic 'nothing'; the broker has: dead-letters, ")
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish"], "Give one file, one folder"),
        (["publish", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["publish", "-", "--metadata", "m.csv"], "--metadata belongs to a folder or a file of embeddings"),
        (["publish", "m.npy"], "m.npy cannot be read: no such file"),
        (["publish", ".", "--map", "title"], "--map title: must be field=column"),
        (["publish", ".", "--axes", "time"], "--axes needs width once"),
        (["publish", ".", "--require-metadata"], "--require-metadata needs --metadata"),
        (["publish", "-", "--resume"], "needs --state"),
        (["publish", "--features", "missing"], "missing cannot be read"),
        (["publish", "--features", ".", "--pool", "median"], "none of mean, flatten, layer N"),
        (["delete"], "Give one track id"),
        (["delete", "--from-file", "missing"], "missing cannot be read"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(offline: Mess, arguments: list[str], said: str) -> None:
    """What cannot run says why in one line."""
    done = offline.run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[0]


def test_a_dry_run_needs_no_broker(offline: Mess) -> None:
    """--dry-run checks everything and sends nothing."""
    write_tracks(offline.folder / "t.jsonl", "dry", 3)
    del offline.environment["MESS_KAFKA_BOOTSTRAP_SERVERS"]
    done = offline.run("publish", "t.jsonl", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "3 would be published, 0 refused\n")


def test_without_a_broker_the_fix_is_named(offline: Mess) -> None:
    """No configuration, a broken state of the local stack, and a silent address each get their line."""
    del offline.environment["MESS_KAFKA_BOOTSTRAP_SERVERS"]
    done = offline.run("delete", "a")
    assert (done.returncode, done.stderr.splitlines()[0][:39]) == (
        2,
        "mess: No broker is configured, and no l",
    )
    (offline.folder / "d").mkdir()
    (offline.folder / "d" / "stack.json").write_text("{")
    assert "stack.json cannot be read" in offline.run("delete", "a", "--data-dir", "d").stderr
    write_state(offline.folder / "d", stack_of("127.0.0.1:1"))
    done = offline.run("delete", "a", "--data-dir", "d")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "mess: no Kafka broker answers at 127.0.0.1:1",
    )


def test_the_local_stack_is_found_by_its_state_file(mess: Mess) -> None:
    """Without configuration the broker of the stack in --data-dir is used."""
    servers = mess.environment.pop("MESS_KAFKA_BOOTSTRAP_SERVERS")
    (mess.folder / "d").mkdir()
    write_state(mess.folder / "d", stack_of(servers))
    assert mess.run("delete", unique_name("x"), "--data-dir", "d").returncode == 0


async def test_publish_all_keeps_the_order_of_a_track_and_counts_exactly(broker: str) -> None:
    """Every upsert and delete of a track arrives in the order given; progress and refusals are exact."""
    kafka = KafkaSettings(bootstrap_servers=broker)
    name = unique_name("order")
    items: list[TrackItem | RefusedRecord] = []
    for number in range(600):
        key = f"{name}/{number % 3}".encode()
        items.append(
            TrackItem(key, None if number % 5 == 4 else str(number).encode(), number + 1, number + 1)
        )
    items.insert(10, RefusedRecord("line 11", "zero_vector", "no"))
    seen: list[PublishSummary] = []
    refused: list[RefusedRecord] = []
    summary = await publish_all(kafka, items, on_progress=seen.append, on_refused=refused.append)
    assert (summary.published, summary.refused, summary.position, summary.interrupted) == (600, 1, 600, False)
    assert (len(refused), summary.reasons) == (1, {"zero_vector": 1})
    assert len(seen) > 5
    values: dict[bytes, list[bytes | None]] = {f"{name}/{i}".encode(): [] for i in range(3)}
    async with group_less_consumer(kafka) as reader:
        reader.subscribe(["track-ingest"])
        while sum(map(len, values.values())) < 600:
            for records in (await reader.getmany(timeout_ms=1000)).values():
                for record in records:
                    if record.key in values:
                        values[record.key].append(record.value)
    for first, (key, arrived) in enumerate(values.items()):
        assert arrived == [item.value for item in items if isinstance(item, TrackItem) and item.key == key], (
            first
        )


async def test_a_message_beyond_what_travels_is_refused_and_the_rest_goes_on(broker: str) -> None:
    """One message that no broker takes is a refusal, not the end of the run."""
    name = unique_name("large").encode()
    items = [TrackItem(name, b"x", 1), TrackItem(name, b"x" * 20_000_000, 2), TrackItem(name, b"y", 3)]
    summary = await publish_all(KafkaSettings(bootstrap_servers=broker), items)
    assert (summary.published, summary.refused, summary.position) == (2, 1, 3)
    assert summary.reasons == {"too_large": 1}


async def test_a_five_megabyte_message_travels_to_be_refused_with_a_reason(broker: str) -> None:
    """An event that is too large for validation still fits the topic, so that it is refused with a reason."""
    key = unique_name("five").encode()
    summary = await publish_all(KafkaSettings(bootstrap_servers=broker), [TrackItem(key, b"x" * 5_000_000)])
    assert (summary.published, summary.refused) == (1, 0)


async def test_a_missing_topic_and_a_silent_broker_are_typed_errors(broker: str) -> None:
    """Neither is created by accident nor waited for without end."""
    with pytest.raises(TopicError, match="has no topic"):
        async with TrackPublisher(KafkaSettings(bootstrap_servers=broker), topic=unique_name("none")):
            pass
    with pytest.raises(BrokerUnavailable, match="no Kafka broker answers"):
        await publish_all(KafkaSettings(bootstrap_servers="127.0.0.1:1"), [])
