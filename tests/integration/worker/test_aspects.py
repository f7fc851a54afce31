"""A catalogue whose embeddings have aspects: from events in parts to weighted questions, by a real worker and the API."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import numpy as np
import pytest

from streams.contracts import parse_track_event, track_key
from streams.contracts.tracks import TrackUpsert
from streams.strategies.aspects import Layout
from tests.integration.serving.conftest import serve
from tests.integration.worker.conftest import Line
from tests.integration.worker.over_http import served
from tests.integration.worker.test_recommendations import client_of
from tests.support.polling import until
from tests.support.services import PostgresServer
from tests.support.worker import publish, read_topic, settle, track_message, wrong_lists

pytestmark = pytest.mark.integration

TRACKS = 70
SIZES = {"harmony": 4, "melody": 6, "rhythm": 5}
LAYOUT = Layout.of_sizes(SIZES, {"harmony": 1, "melody": 2, "rhythm": 1})
WEIGHTS = {"rhythm": 0.7, "harmony": -0.3}
ASKED = {"weights": "rhythm:0.7,harmony:-0.3", "top_k": "20"}


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    """A worker of a catalogue in which melody counts most."""
    return {
        "MESS_ASPECT_WEIGHTS": "melody:2,harmony:1,rhythm:1",
        "MESS_RECOMMENDER_REFRESHES_PER_SECOND": "100",
    }


def name_of(number: int) -> str:
    """The id of a track."""
    return f"parts/{number:03}"


def message(number: int, *, version: int = 0) -> tuple[bytes, bytes]:
    """A track event in parts, of which one is missing now and then."""
    random = np.random.default_rng([number, version])
    missing = sorted(SIZES)[number % 3] if number % 5 == 4 else ""
    parts = {name: random.standard_normal(size) * (name != missing) for name, size in SIZES.items()}
    return track_message(name_of(number), parts, title=f"Title {number}", composer="Somebody")


def vectors_of(messages: Mapping[str, tuple[bytes, bytes]]) -> dict[str, np.ndarray]:
    """The vectors that events mean."""
    found = {name: parse_track_event(*each, layout=LAYOUT) for name, each in messages.items()}
    return {name: each.vector for name, each in found.items() if isinstance(each, TrackUpsert)}


def cosines(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """The cosine of each part; 0 where either is missing."""
    found = {}
    for name, where in LAYOUT.parts.items():
        a, b = one[where].astype("f8"), other[where].astype("f8")
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        found[name] = float(a @ b) / lengths if lengths else 0.0
    return found


def brute_force(vectors: Mapping[str, np.ndarray], seed: str, count: int) -> list[tuple[str, float]]:
    """The tracks nearest to one by `WEIGHTS`, best first."""
    means = {
        name: sum(weight * cosines(vectors[seed], vector)[part] for part, weight in WEIGHTS.items())
        for name, vector in vectors.items()
        if name != seed
    }
    return sorted(means.items(), key=lambda one: -one[1])[:count]


def check_list(body: Mapping[str, Any], vectors: Mapping[str, np.ndarray], seed: str) -> None:
    """Hold a weighted list, and what it says by aspect, against brute force."""
    assert body["weights"] == {"harmony": -0.3, "rhythm": 0.7}
    expected = brute_force(vectors, seed, 20)
    assert [item["track_id"] for item in body["recommendations"]] == [name for name, _ in expected]
    for item, (name, mean) in zip(body["recommendations"], expected, strict=True):
        assert item["similarity_score"] == pytest.approx(mean, abs=2e-6)
        check_aspects(item["aspects"], vectors[seed], vectors[name])
        assert item["explanation"].startswith(f"Similarity {mean:.3f}, weighted by rhythm 0.7, harmony -0.3")


def check_aspects(aspects: Mapping[str, float | None], one: np.ndarray, other: np.ndarray) -> None:
    """Hold a similarity by aspect against the vectors."""
    found = cosines(one, other)
    assert {name: value or 0.0 for name, value in aspects.items()} == pytest.approx(found, abs=2e-6)


async def test_a_question_weighs_the_aspects(line: Line, postgres_server: PostgresServer) -> None:
    """Lists are exact by the catalogue's weights, answers by the question's: over HTTP and Kafka, kept and refreshed."""
    messages = {name_of(i): message(i) for i in range(TRACKS)}
    vectors = vectors_of(messages)
    seed = name_of(1)
    flat = track_message("flat", np.ones(15))
    strange = track_message("strange", {"tempo": [1.0]})
    await publish(line.servers, [flat, strange, *messages.values()])
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []
    letters = await read_topic(line.servers, "dead-letters")
    reasons = {letter.key.decode(): dict(letter.headers)["mess.error"] for letter in letters}
    assert reasons == {"flat": b"wrong_aspects", "strange": b"wrong_aspects"}

    async with serve(served(line, postgres_server)) as http, client_of(line) as kafka:
        path = f"/recommend/{seed.replace('/', '%2F')}"

        async def ready() -> bool:
            return bool((await http.get(path, params=ASKED)).is_success)

        await until(ready)
        first = (await http.get(path, params=ASKED)).json()
        check_list(first, vectors, seed)
        posted = await http.post("/recommend", json={"track_id": seed, "weights": WEIGHTS, "top_k": 20})
        check_list(posted.json(), vectors, seed)
        # In other units it is the same question, which is kept by now.
        same = {"weights": "harmony:-3,rhythm:7,melody:0", "top_k": "20"}

        async def kept() -> bool:
            return bool((await http.get(path, params=same)).json()["cached"])

        await until(kept)
        reply = await kafka.ask(track_id=seed, weights=WEIGHTS, top_k=20)
        assert reply.cached
        check_list(reply.model_dump(mode="json"), vectors, seed)

        await check_plain(http, vectors, seed)
        await check_compared(http, vectors, seed)
        await check_refusals(http, path)

        # The kept answer follows the catalogue: the best track becomes another one.
        best = first["recommendations"][0]["track_id"]
        messages[best] = message(int(best[-3:]), version=1)
        await publish(line.servers, [messages[best]])
        vectors = vectors_of(messages)

        async def refreshed() -> bool:
            items = (await http.get(path, params=ASKED)).json()["recommendations"]
            return [item["track_id"] for item in items] == [n for n, _ in brute_force(vectors, seed, 20)]

        await until(refreshed)
        check_list((await http.get(path, params=ASKED)).json(), vectors, seed)

    await check_restart(line)


async def check_plain(http: Any, vectors: Mapping[str, np.ndarray], seed: str) -> None:
    """A stored list, an explanation and a comparison say the similarity by aspect, in the same words."""
    path = f"/recommend/{seed.replace('/', '%2F')}"
    body = (await http.get(path, params={"top_k": 5})).json()
    assert (body["weights"], body["cached"]) == (None, True)
    for item in body["recommendations"]:
        check_aspects(item["aspects"], vectors[seed], vectors[item["track_id"]])
        assert "; most alike in " in item["explanation"]
    second = body["recommendations"][1]
    explained = (await http.get("/explain", params={"seed": seed, "candidate": second["track_id"]})).json()
    assert explained["placement"]["aspects"] == pytest.approx(second["aspects"], abs=1e-6)
    assert explained["placement"]["recommendation"]["explanation"] == second["explanation"]
    compared = (await http.get(f"{path}/compare", params={"top_k": 3})).json()
    for found in compared["comparison"]["lists"]:
        for item in found["recommendations"]:
            check_aspects(item["aspects"], vectors[seed], vectors[item["track_id"]])


async def check_compared(http: Any, vectors: Mapping[str, np.ndarray], seed: str) -> None:
    """A comparison with weights has the list that the question with these weights has, and weighs all others likewise."""
    path = f"/recommend/{seed.replace('/', '%2F')}"
    compared = (await http.get(f"{path}/compare", params=ASKED)).json()
    assert compared["weights"] == pytest.approx({"harmony": -0.3, "rhythm": 0.7})
    similar, *others = compared["comparison"]["lists"]
    assert [item["track_id"] for item in similar["recommendations"]] == [
        name for name, _ in brute_force(vectors, seed, 20)
    ]
    truth = dict(brute_force(vectors, seed, len(vectors)))
    for item in (item for found in others for item in found["recommendations"]):
        assert item["similarity_score"] == pytest.approx(truth[item["track_id"]], abs=1e-5)


async def check_refusals(http: Any, path: str) -> None:
    """What cannot be weighed is a 422 that names the field and what there is."""
    cases = {
        "tempo:1": "this catalogue has no aspect tempo; it has harmony, melody, rhythm",
        "rhythm:x": "no name:weight",
        "rhythm:0": "must not all be zero",
    }
    for weights, message in cases.items():
        for asked in (path, f"{path}/compare"):
            response = await http.get(asked, params={"weights": weights})
            (error,) = response.json()["errors"]
            assert (response.status_code, error["field"]) == (422, "weights")
            assert message in error["message"]
    # A track of which an aspect is missing has nothing to ask by it.
    lacking = name_of(4).replace("/", "%2F")
    missing = sorted(SIZES)[4 % 3]
    response = await http.get(f"/recommend/{lacking}", params={"weights": missing})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "weights")


async def check_restart(line: Line) -> None:
    """Other weights in the settings change nothing of a catalogue that has some, and lists made anew are the same."""
    line.worker.stop()
    other = line.another_worker("other", MESS_ASPECT_WEIGHTS="tempo:1")
    connection = await asyncpg.connect(line.database_url)
    try:
        await connection.execute("DELETE FROM neighbour_lists WHERE key = $1", track_key(name_of(2)))
        other.start()
        await publish(line.servers, [message(TRACKS), message(3, version=2)])
        await settle(line.database_url, line.servers)
        assert await wrong_lists(line.database_url) == []
        assert await connection.fetchval("SELECT count(*) FROM tracks") == TRACKS + 1
        assert "the catalogue has other aspects or weights" in other.log.read_text()
    finally:
        await connection.close()
        other.kill()
