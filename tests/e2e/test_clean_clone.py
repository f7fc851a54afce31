"""The whole product from a clean clone: `mess up`, publish, re-embed, delete, read, stop, go on.

The clone's own code runs, with the packages of the environment that runs the tests: making that environment is what
`make test` does before it comes here.
"""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from mess_client import NotFoundError

from tests.e2e.stack import ClonedStack, eventually, naming, still_running
from tests.support.worker import publish, settle, wrong_lists

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DIMENSION = 12


def event(track_id: str, vector: object, **metadata: object) -> dict[str, object]:
    """A track event as a stranger would write it, by the documentation alone."""
    return {"track_id": track_id, "embedding": vector, "metadata": metadata}


def message(track_id: str, vector: object, **metadata: object) -> tuple[bytes, bytes]:
    """Key and value of a track event."""
    return track_id.encode(), json.dumps(event(track_id, vector, **metadata)).encode()


def near(centre: int, seed: int, spread: float = 0.1) -> list[float]:
    """A vector near one of the axes."""
    vector = np.random.default_rng(seed).normal(0, spread, DIMENSION)
    vector[centre] += 1
    return [float(x) for x in vector]


def write_tracks(path: Path, prefix: str, count: int) -> list[str]:
    """Write tracks around a few centres as JSON lines; returns their ids."""
    events = [
        event(f"{prefix}/{i:03d}", near(i % 4, i), title=f"Tune {i}", composer="Anonymous")
        for i in range(count)
    ]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in events))
    return [str(each["track_id"]) for each in events]


def test_the_code_that_runs_is_the_clones(stack: ClonedStack) -> None:
    """What these tests start comes from the clone, not from the working tree they stand in."""
    done = stack.clone.python(
        "-c", "import mess, streams, mess_client as c; print(mess.__file__, streams.__file__, c.__file__)"
    )
    assert done.stdout.count(str(stack.clone.directory)) == 3, done.stdout


async def test_a_published_file_is_recommended_from(stack: ClonedStack) -> None:
    """`mess publish FILE` ends in lists of 50, equal to brute force, on HTTP and on the change feed."""
    path = stack.clone.directory.parent / "tracks.jsonl"
    names = write_tracks(path, "file", 120)
    done = stack.clone.mess("publish", str(path))
    assert done.returncode == 0, done.stderr
    assert "120" in done.stdout + done.stderr
    await settle(stack.database_url, stack.bootstrap_servers)
    assert await wrong_lists(stack.database_url) == []

    found = stack.client.recommend(names[0], top_k=50)
    assert len(found.recommendations) == 50
    assert found.reference_metadata is not None
    assert found.reference_metadata.title == "Tune 0"
    assert found.strategy == "similarity"
    assert not found.stale
    nearest = found.recommendations[0]
    assert (nearest.rank, nearest.composer) == (1, "Anonymous")
    # Tracks of the same centre: every fourth.
    assert int(nearest.track_id.split("/")[1]) % 4 == 0

    assert set(names) <= {track.track_id for track in stack.client.tracks(composer="Anonymous")}

    def told() -> bool:
        latest = {record["key"]: record["value"] for record in stack.clone.tail("recommendations")}
        return all(name in latest for name in names) and [
            item["track_id"] for item in latest[names[0]]["recommendations"]
        ] == stack.recommended(names[0])

    eventually(told, "the change feed has every list as it is served")


async def test_any_kafka_client_changes_the_lists(stack: ClonedStack) -> None:
    """A plain client's event appears in the lists at once; re-embedding moves it, a null value takes it away."""
    ids = ["client/stays", "client/moves"]
    await publish(
        stack.bootstrap_servers,
        [message(ids[0], near(5, 1, 0.01)), message(ids[1], near(5, 2, 0.01), title="Here")],
    )
    await settle(stack.database_url, stack.bootstrap_servers)
    assert stack.recommended(ids[0], 1) == [ids[1]]
    assert stack.recommended(ids[1], 1) == [ids[0]]

    packed = base64.b64encode(np.array(near(7, 3, 0.01), dtype="<f4").tobytes()).decode()
    moved = message(ids[1], {"dtype": "float32", "data": packed}, title="There")
    await publish(stack.bootstrap_servers, [moved, message("client/there", near(7, 4, 0.01))])
    await settle(stack.database_url, stack.bootstrap_servers)
    assert stack.recommended(ids[1], 1) == ["client/there"]
    assert stack.recommended(ids[0])[0] != ids[1]
    assert stack.client.metadata(ids[1]).title == "There"

    await publish(stack.bootstrap_servers, [(ids[1].encode(), None)])
    await settle(stack.database_url, stack.bootstrap_servers)
    with pytest.raises(NotFoundError, match="track-not-found"):
        stack.client.recommend(ids[1])
    assert ids[1] not in stack.recommended("client/there")

    done = stack.clone.mess("delete", "client/there")
    assert done.returncode == 0, done.stderr
    await settle(stack.database_url, stack.bootstrap_servers)
    with pytest.raises(NotFoundError):
        stack.client.track("client/there")
    assert await wrong_lists(stack.database_url) == []

    def buried() -> bool:
        latest = {record["key"]: record["value"] for record in stack.clone.tail("recommendations")}
        return latest.get(ids[1], 0) is None and latest.get("client/there", 0) is None

    eventually(buried, "tombstones of both are on the change feed")


async def test_bad_input_becomes_dead_letters_and_stops_nothing(stack: ClonedStack) -> None:
    """What breaks the contract is in dead-letters with its reason; the event behind it is applied."""
    before = len(stack.clone.tail("dead-letters"))
    await publish(
        stack.bootstrap_servers,
        [
            message("bad/good-before", near(9, 1)),
            (b"bad/json", b'{"track_id": '),
            (b"bad/other-key", message("bad/key", near(9, 2))[1]),
            message("bad/short", [1.0, 2.0]),
            message("bad/zero", [0.0] * DIMENSION),
            message("bad/nan", [float("nan")] * DIMENSION),
            (b"bad/large", b" " * 5_000_000),
            (b"bad/never-seen", None),
            message("bad/good-behind", near(9, 3)),
        ],
    )
    await settle(stack.database_url, stack.bootstrap_servers)
    assert "bad/good-behind" in stack.recommended("bad/good-before", 3)
    assert stack.client.health().status == "ok"

    letters = {record["key"]: record for record in stack.clone.tail("dead-letters")[before:]}
    reasons = {key: letter["headers"]["mess.error"] for key, letter in letters.items()}
    malformed_nan = reasons.pop("bad/nan")
    assert malformed_nan in ("malformed_json", "not_finite")
    assert reasons == {
        "bad/json": "malformed_json",
        "bad/other-key": "key_mismatch",
        "bad/short": "wrong_dimension",
        "bad/zero": "zero_vector",
        "bad/large": "too_large",
    }
    assert letters["bad/json"]["headers"]["mess.source.topic"] == "track-ingest"

    refused = stack.clone.mess("publish", "-", stdin='{"track_id": "bad/line"}\n')
    assert refused.returncode == 1, refused.stderr
    assert "missing_embedding" in refused.stdout + refused.stderr


def test_status_shows_what_runs(stack: ClonedStack) -> None:
    """`mess status` names every process as running, counts tracks and tells the lag."""
    done = stack.clone.mess("status", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["running"]
    assert report["health"] == "ok"
    assert {each["name"] for each in report["processes"]} == {"postgres", "broker", "worker-1", "api"}
    assert all(each["alive"] for each in report["processes"])
    assert report["tracks"] == stack.client.tracks_page(limit=1).total
    assert {topic["topic"]: topic["lag"] for topic in report["topics"]}["track-ingest"] == 0
    for_people = stack.clone.mess("status")
    assert for_people.returncode == 0
    assert stack.url in for_people.stdout


def test_nothing_is_written_beside_the_data_directory(stack: ClonedStack) -> None:
    """A running stack leaves the clone as it was: its data is in one directory, which git ignores."""
    assert stack.clone.additions() == {".mess"}


async def test_a_stopped_stack_goes_on_with_its_data(broker: str, stack: ClonedStack) -> None:
    """Ctrl-C ends everything in time with status 0; the next start has the catalogue and takes new events.

    The last of a broker's tests: it stops what the others asked.
    """
    clone, client = stack.clone, stack.client
    path = clone.directory.parent / "kept.jsonl"
    names = write_tracks(path, "kept", 60)
    assert clone.mess("publish", str(path)).returncode == 0
    await settle(stack.database_url, stack.bootstrap_servers)
    lists = {name: stack.recommended(name) for name in names}
    tracks = client.tracks_page(limit=1).total
    published = clone.tail("track-ingest")
    keys = {record["key"] for record in published}
    assert set(names) <= keys
    processes = stack.processes()
    assert len(processes) > 4
    assert stack.interrupt() == 0
    assert still_running(processes) == []
    assert naming(clone.directory) == []
    assert "stopped" in stack.said()
    stopped = clone.mess("status")
    assert stopped.returncode == 1
    assert "no stack runs" in stopped.stderr

    with clone.up("--no-demo", "--port=0", f"--broker={broker}") as up:
        assert {name: up.recommended(name) for name in names} == lists
        assert up.client.tracks_page(limit=1).total == tracks
        if up.broker == "kafka":
            assert {record["key"] for record in clone.tail("track-ingest")} == keys
        else:
            assert clone.tail("track-ingest") == []  # it promises to keep topics in memory alone
        # At once and many: more than the first run had, so that offsets of a topic that began anew pass the old ones.
        added = [message(f"kept/new-{i}", near(i % 4, 900 + i)) for i in range(600)]
        changes = [message(names[0], near(3, 901)), (names[1].encode(), None)]
        assert len(added) > 2 * len(published)
        await publish(up.bootstrap_servers, [*added, *changes])
        total = tracks + len(added) - 1
        eventually(lambda: up.client.tracks_page(limit=1).total == total, f"the catalogue has {total} tracks")
        await settle(up.database_url, up.bootstrap_servers)
        assert await wrong_lists(up.database_url) == []
        assert len(up.recommended("kept/new-0")) == 50
        processes = up.processes()
        assert up.interrupt() == 0
        assert still_running(processes) == []
