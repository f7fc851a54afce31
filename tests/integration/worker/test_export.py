"""`mess export` beside a worker at work: the files are of one point, equal to the feed and to the log, and others read them."""

import asyncio
import base64
import concurrent.futures
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import orjson
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from mess.cli import build_cli
from tests.integration.worker.conftest import Line
from tests.support.polling import until
from tests.support.worker import publish, read_topic, settle, track_message

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TRACKS, DIMENSION, LISTED = 150, 12, 50
Log = list[tuple[int, int, str, "np.ndarray | None"]]


def name_of(number: int) -> str:
    """The id of a track."""
    return f"export/{number:03}"


async def export(line: Line, *arguments: str) -> Result:
    """Run `mess export` on the worker's database."""
    env = {"MESS_DATABASE_URL": line.database_url, "NO_COLOR": "1"}
    return await asyncio.to_thread(CliRunner().invoke, build_cli(), ["export", *arguments], env=env)


async def exported(line: Line, path: Path, *arguments: str) -> Path:
    """Run `mess export` into a file and see that it worked."""
    done = await export(line, *arguments, "--output", str(path))
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def filled(line: Line) -> Line:
    """The worker with tracks that have lists, some of which were withdrawn, and some of which are listened to."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, _fill(line)).result()
    return line


async def _fill(line: Line) -> None:
    vectors = np.random.default_rng(11).standard_normal((TRACKS, DIMENSION)).astype(np.float32)
    told = [
        track_message(
            name_of(at),
            vector,
            title=f"No. {at}",
            composer="Bach",
            year_composed=1700 + at,
            tags=["a", "b"],
            shelf={"row": at},
        )
        for at, vector in enumerate(vectors)
    ]
    gone: list[tuple[bytes, bytes | None]] = [(name_of(at).encode(), None) for at in range(3)]
    await publish(line.servers, [*told, *gone])
    await settle(line.database_url, line.servers)
    async with AIOKafkaProducer(bootstrap_servers=line.servers) as producer:
        for at in range(10, 20):
            value = orjson.dumps({"track_id": name_of(at), "type": "like"})
            await producer.send_and_wait("track-interactions", value, key=name_of(at).encode())


def lists_of(path: Path) -> dict[str, list[tuple[str, float]]]:
    """The lists of a file of JSON lines."""
    read = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return {
        each["track_id"]: [(item["track_id"], item["score"]) for item in each["recommendations"]]
        for each in read
    }


async def test_the_lists_are_those_of_the_change_feed(filled: Line, tmp_path: Path) -> None:
    """Replayed to its end, the feed has the same lists, scores and versions; no list is of what was withdrawn."""
    path = await exported(filled, tmp_path / "lists.jsonl", "lists")
    stored = {line["track_id"]: line for line in map(orjson.loads, path.read_bytes().splitlines())}
    assert stored.keys() == {name_of(at) for at in range(3, TRACKS)}

    async def told() -> bool:
        feed = {
            record.key.decode(): record.value and orjson.loads(record.value)
            for record in await read_topic(filled.servers, "recommendations")
        }
        feed = {key: value for key, value in feed.items() if value is not None}
        return feed.keys() == stored.keys() and all(
            (value["recommendations"], value["version"])
            == (stored[key]["recommendations"], stored[key]["version"])
            for key, value in feed.items()
        )

    await until(told)


async def test_every_format_says_the_same_and_others_read_it(filled: Line, tmp_path: Path) -> None:
    """Lists by Polars, pandas, datasets and numpy: the same neighbours and scores, and the same point in each file."""
    lists = lists_of(await exported(filled, tmp_path / "lists.jsonl", "lists"))
    parquet = await exported(filled, tmp_path / "lists.parquet", "lists")
    npz = await exported(filled, tmp_path / "graph.npz", "lists")
    scores = {key: np.array([score for _, score in each], dtype=np.float32) for key, each in lists.items()}
    ids = {key: [name for name, _ in each] for key, each in lists.items()}

    def same(rows: Sequence[Any]) -> bool:
        assert len(rows) == len(lists)
        return all(
            list(row["neighbours"]) == ids[row["track_id"]]
            and np.array_equal(np.array(row["scores"], dtype=np.float32), scores[row["track_id"]])
            for row in rows
        )

    assert same(pl.read_parquet(parquet).to_dicts())
    assert same(pd.read_parquet(parquet).to_dict("records"))
    assert same(list(datasets.Dataset.from_parquet(str(parquet), cache_dir=str(tmp_path / "cache"))))
    with np.load(npz) as graph:
        names = graph["track_ids"].tolist()
        assert set(names) == set(lists)
        for name, neighbours, rated, length in zip(
            names, graph["neighbours"], graph["scores"], graph["lengths"].tolist(), strict=True
        ):
            assert [names[at] for at in neighbours[:length]] == ids[name]
            assert np.array_equal(rated[:length], scores[name])
            assert (neighbours[length:] == -1).all()
        said = json.loads(str(graph["snapshot"]))
    beside = json.loads((tmp_path / "lists.jsonl.snapshot.json").read_bytes())
    inside = json.loads(pq.read_schema(parquet).metadata[b"mess.snapshot"])
    for each in (said, beside, inside):
        del each["taken_at"]
    assert said == beside == inside
    assert (said["settled"], said["rows"]) == (True, len(lists))
    assert sum(said["next_offsets"].values()) == TRACKS + 3


async def test_tracks_come_out_as_they_can_go_in(filled: Line, tmp_path: Path) -> None:
    """As JSON lines and as Parquet that `mess publish` takes, vectors and metadata unchanged; as arrays."""
    events = await exported(filled, tmp_path / "tracks.jsonl", "tracks")
    parquet = await exported(filled, tmp_path / "tracks.parquet", "tracks")
    npz = await exported(filled, tmp_path / "tracks.npz", "tracks")
    for path in (events, parquet):
        done = await asyncio.to_thread(CliRunner().invoke, build_cli(), ["publish", str(path), "--dry-run"])
        assert f"{TRACKS - 3} would be published, 0 refused" in done.output, done.output
    first = next(
        each for each in map(orjson.loads, events.read_bytes().splitlines()) if each["track_id"] == name_of(9)
    )
    assert first["metadata"] == {
        "title": "No. 9",
        "composer": "Bach",
        "year_composed": 1709,
        "tags": ["a", "b"],
        "extra": {"shelf": {"row": 9}},
    }
    row = pl.read_parquet(parquet).filter(pl.col("track_id") == name_of(9)).to_dicts()[0]
    assert (row["title"], row["tags"], row["isrc"]) == ("No. 9", ["a", "b"], None)
    assert json.loads(row["extra"]) == {"shelf": {"row": 9}}
    with np.load(npz) as arrays:
        at = arrays["track_ids"].tolist().index(name_of(9))
        assert np.array_equal(arrays["embeddings"][at], np.array(row["embedding"], dtype=np.float32))
        assert np.array_equal(arrays["embeddings"][at], np.array(first["embedding"], dtype=np.float32))
        assert np.allclose(np.linalg.norm(arrays["embeddings"], axis=1), 1, atol=1e-6)


async def test_popularity_is_of_a_point_of_the_interactions(filled: Line, tmp_path: Path) -> None:
    """`--at` names events of track-interactions; the ten tracks that were liked have a count of one each."""
    ends = await _interaction_offsets(filled)
    at = ",".join(f"{partition}:{offset - 1}" for partition, offset in ends.items() if offset)
    paths = [
        await exported(filled, tmp_path / f"popularity.{form}", "popularity", "--at", at)
        for form in ("parquet", "jsonl", "npz")
    ]
    table = pd.read_parquet(paths[0])
    assert set(table["track_id"]) == {name_of(number) for number in range(10, 20)}
    assert np.allclose(table["count"], 1, atol=1e-3)
    rows = [orjson.loads(line) for line in paths[1].read_bytes().splitlines()]
    assert [row["track_id"] for row in rows] == table["track_id"].tolist()
    with np.load(paths[2]) as arrays:
        assert arrays["track_ids"].tolist() == table["track_id"].tolist()
        assert np.allclose(arrays["values"], table["value"])
        assert json.loads(str(arrays["snapshot"]))["topic"] == "track-interactions"


async def _interaction_offsets(line: Line) -> dict[int, int]:
    records = await read_topic(line.servers, "track-interactions")
    ends: dict[int, int] = {}
    for record in records:
        ends[record.partition] = max(record.offset + 1, ends.get(record.partition, 0))
    return ends


async def test_an_export_under_load_is_the_log_up_to_its_point(filled: Line, tmp_path: Path) -> None:
    """While tracks come, change and go: each file is what brute force makes of the events before its offsets, and has `--at`."""
    rng = np.random.default_rng(13)
    log: Log = []
    done = asyncio.Event()

    async def load() -> None:
        async with AIOKafkaProducer(bootstrap_servers=filled.servers) as producer:
            while not done.is_set():
                for _ in range(6):
                    name = f"load/{rng.integers(60):02}"
                    vector = None if rng.random() < 0.2 else rng.standard_normal(DIMENSION).astype(np.float32)
                    message = (name.encode(), None) if vector is None else track_message(name, vector)
                    sent = await producer.send_and_wait("track-ingest", message[1], key=message[0])
                    log.append((sent.partition, sent.offset, name, vector))
                await asyncio.sleep(0.15)

    loading = asyncio.create_task(load())
    try:
        for number in range(4):
            await until(lambda: len(log) > 20)
            partition, offset, *_ = log[-1]
            path = tmp_path / f"{number}.jsonl"
            await exported(filled, path, "lists", "--at", f"{partition}:{offset}", "--wait", "60")
            said = json.loads(path.with_name(f"{path.name}.snapshot.json").read_bytes())
            ends = {int(key): value for key, value in said["next_offsets"].items()}
            assert ends[partition] > offset
            records = await read_topic(filled.servers, "track-ingest")
            await _is_brute_force(lists_of(path), records, ends)
    finally:
        done.set()
        await loading
    await settle(filled.database_url, filled.servers)


async def _is_brute_force(
    lists: dict[str, list[tuple[str, float]]], records: Sequence[Any], ends: dict[int, int]
) -> None:
    catalogue: dict[str, np.ndarray] = {}
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        if record.offset < ends.get(record.partition, 0):
            catalogue.pop(record.key.decode(), None)
            if record.value is not None:
                vector = np.array(_vector(orjson.loads(record.value)["embedding"]), dtype=np.float64)
                catalogue[record.key.decode()] = vector / np.linalg.norm(vector)
    names = list(catalogue)
    assert lists.keys() == catalogue.keys()
    vectors = np.array([catalogue[name] for name in names])
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    for at, name in enumerate(names):
        nearest = np.argsort(-similarities[at])[: min(LISTED, len(names) - 1)]
        assert [each for each, _ in lists[name]] == [names[other] for other in nearest]
        assert np.allclose([score for _, score in lists[name]], similarities[at][nearest], atol=1e-5)


def _vector(embedding: Any) -> Any:
    if isinstance(embedding, list):
        return embedding
    return np.frombuffer(base64.b64decode(embedding["data"]), dtype="<f4")


async def test_what_does_not_come_in_time_is_said_and_nothing_is_written(
    filled: Line, tmp_path: Path
) -> None:
    """Exit code 1, the event that is missing, and no file."""
    path = tmp_path / "never.parquet"
    done = await export(filled, "lists", "-o", str(path), "--at", "0:1000000", "--wait", "0.1")
    assert done.exit_code == 1
    assert "event 0:1000000 is not in the store" in done.output
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- pathlib would block, too


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lists", "-o", "lists.csv"], "does not say how to write it"),
        (["lists", "-o", "-", "--format", "npz"], "Standard output takes jsonl"),
        (["lists", "-o", "lists.npz", "--at", "3"], "is not partition:offset"),
        (["lists", "-o", "lists.npz", "--at", "3:-1"], "is not partition:offset"),
        (["lists", "-o", "no such folder/lists.npz"], "cannot be written: No such file or directory"),
        (["lists", "-o", "no such folder/lists.parquet"], "cannot be written"),
    ],
)
async def test_a_wrong_command_is_refused_in_a_line(filled: Line, arguments: list[str], said: str) -> None:
    """Exit code 2, and no traceback."""
    done = await export(filled, *arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


async def test_standard_output_takes_json_lines(filled: Line) -> None:
    """Lists alone: what they are of is said on standard error."""
    done = await export(filled, "lists", "-o", "-")
    assert done.exit_code == 0, done.output
    assert len([orjson.loads(line) for line in done.stdout.splitlines()]) >= TRACKS - 3
    assert "track-ingest up to" in done.stderr
