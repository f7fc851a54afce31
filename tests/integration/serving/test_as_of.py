"""`GET /recommend/{track_id}?as_of=`: stored lists as they were."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from serving.models import PastRecommendation, PastRecommendationBody
from store import list_history, lists, tracks
from store.pool import open_pool, transaction
from store.rows import ListRows
from store.settings import StoreSettings
from store.tracks import Withdrawal
from streams.contracts import times, track_key
from tests.integration.serving.catalogue import ServedCatalogue
from tests.integration.serving.conftest import Database
from tests.integration.serving.problems import problem_of

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"
FIRST, SECOND = ["test/00124", "test/00125", "test/00126"], ["test/00127", "test/00124"]
NOW = "9" * 18


async def flush(
    database: Database, wanted: dict[str, Sequence[str]], withdrawn: Sequence[str] = ()
) -> tuple[int, datetime]:
    """Write lists as a worker does that keeps those it replaces, and withdraw tracks; returns the version and its time."""
    settings = StoreSettings(database_url=SecretStr(database.url))
    width = max(map(len, wanted.values()), default=0)
    neighbours = np.zeros((len(wanted), width), dtype=np.int64)
    for row, names in enumerate(wanted.values()):
        neighbours[row, : len(names)] = [track_key(name) for name in names]
    count = len(wanted)
    rows = ListRows(
        keys=np.array([track_key(name) for name in wanted], dtype=np.int64),
        neighbours=neighbours,
        scores=np.linspace(0.9, 0.5, width, dtype=np.float32)[None].repeat(count, axis=0),
        lengths=np.array([len(names) for names in wanted.values()], dtype=np.int64),
        partitions=np.zeros(count, dtype=np.int32),
        offsets=np.full(count, 500),
        event_times=np.full(count, times.now_microseconds()),
    )
    async with await open_pool(settings, application_name="test") as pool, transaction(pool) as connection:
        gone = [Withdrawal(name, track_key(name), 0, 900 + int(name[-3:])) for name in withdrawn]
        if gone:
            await connection.execute("UPDATE tracks SET source_partition = 0, source_offset = 0")
            await tracks.withdraw_tracks(connection, gone)
        keys = np.array([each.key for each in gone], dtype=np.int64)
        version, made = await lists.flush_lists(connection, rows, keys, keep=True)
    return version, times.moment_of(made)


async def past(client: httpx.AsyncClient, as_of: object, **parameters: object) -> dict[str, Any]:
    """The body of a list as it was."""
    moment = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
    response = await client.get(PATH, params={"as_of": moment, **parameters})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert body.keys() == PastRecommendationBody.model_fields.keys()
    PastRecommendationBody.model_validate(body)
    for item in body["recommendations"]:
        assert item.keys() == PastRecommendation.model_fields.keys()
    return body


def names(body: dict[str, Any]) -> list[str | None]:
    """The ids in a body."""
    return [item["track_id"] for item in body["recommendations"]]


async def test_a_list_is_read_as_it_was(
    client: httpx.AsyncClient, database: Database, catalogue: ServedCatalogue
) -> None:
    """By time and by version, until the next one; the one that stands is read so, too."""
    original = [name for name, _ in catalogue.expected(TRACK, 50)]
    stored = (await client.get("/tracks/test%2F00123")).json()["neighbour_list"]
    first, first_at = await flush(database, {TRACK: FIRST})
    second, second_at = await flush(database, {TRACK: SECOND})
    blink = timedelta(microseconds=1)
    for as_of, wanted in (
        (stored["version"], original),
        (datetime.fromisoformat(stored["generated_at"]), original),
        (first_at - blink, original),
        (first_at, FIRST),
        (first, FIRST),
        (second_at - blink, FIRST),
        (second, SECOND),
        (datetime.now(UTC), SECOND),
        (NOW, SECOND),
    ):
        assert names(await past(client, as_of, top_k=50)) == wanted, as_of
    body = await past(client, first, top_k=2, exclude="test/00124")
    assert names(body) == FIRST[1:]
    scores = [item["similarity_score"] for item in body["recommendations"]]
    assert scores == pytest.approx([0.7, 0.5])
    assert (body["version"], body["cached"], body["reference_track"]) == (first, True, TRACK)
    assert datetime.fromisoformat(body["generated_at"]) == first_at
    assert datetime.fromisoformat(body["replaced_at"]) == second_at
    assert body["recommendations"][0]["explanation"].startswith("Cosine similarity 0.700")
    assert (await past(client, NOW))["replaced_at"] is None
    assert body["source"]["offset"] == 500


async def test_its_entity_tag_is_that_of_what_it_says(client: httpx.AsyncClient, database: Database) -> None:
    """It is the same for the same list however it is named, and another once a track of it is described anew."""
    first, at = await flush(database, {TRACK: FIRST})
    await flush(database, {TRACK: SECOND})
    by_version = await client.get(PATH, params={"as_of": first})
    by_time = await client.get(PATH, params={"as_of": at.isoformat()})
    tag = by_version.headers["etag"]
    assert (by_time.headers["etag"], by_version.headers["cache-control"]) == (tag, "no-cache")
    assert (await client.get(PATH)).headers["etag"] != tag
    again = await client.get(PATH, params={"as_of": first}, headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    await database.execute("UPDATE tracks SET title = 'Another' WHERE track_id = 'test/00125'")
    changed = await client.get(PATH, params={"as_of": first}, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.json()["recommendations"][1]["title"] == "Another"


async def test_tracks_that_have_gone_have_no_name(client: httpx.AsyncClient, database: Database) -> None:
    """The item keeps its place and score, and says so; the list of a deleted track can be read, too."""
    first, _ = await flush(database, {TRACK: FIRST})
    gone, _ = await flush(database, {}, withdrawn=["test/00125"])
    body = await past(client, first)
    assert names(body) == ["test/00124", None, "test/00126"]
    item = body["recommendations"][1]
    assert (item["rank"], item["title"], item["metadata"], item["tags"]) == (2, None, {}, [])
    assert item["similarity_score"] == pytest.approx(0.7)
    assert item["explanation"] == "Cosine similarity 0.700; the track has been deleted since"
    playlist = await client.get(PATH, params={"as_of": first, "format": "jspf"})
    assert len(playlist.json()["playlist"]["track"]) == 2

    end, ended_at = await flush(database, {}, withdrawn=[TRACK])
    body = await past(client, gone)
    assert (body["reference_track"], body["reference_metadata"]) == (TRACK, None)
    assert names(body) == ["test/00124", None, "test/00126"]
    assert datetime.fromisoformat(body["replaced_at"]) == ended_at
    problem_of(await client.get(PATH, params={"as_of": end}), 404, "no-list-then")


async def test_where_history_does_not_reach_it_says_how_far_it_goes(
    client: httpx.AsyncClient, database: Database
) -> None:
    """410 with the oldest time and version; 404 where there was no list or is no track."""
    nothing = problem_of(
        await client.get(PATH, params={"as_of": "2020-01-01T00:00:00Z"}), 410, "list-not-kept"
    )
    assert (nothing["kept_since"], nothing["kept_since_version"]) == (None, None)
    assert "MESS_LIST_HISTORY" in nothing["detail"]
    version, at = await flush(database, {TRACK: FIRST})
    moment = at.isoformat().replace("+00:00", "Z")
    for as_of in ("2020-01-01T00:00:00Z", 0):
        problem = problem_of(await client.get(PATH, params={"as_of": as_of}), 410, "list-not-kept")
        assert (problem["kept_since"], problem["kept_since_version"]) == (moment, version)
        assert f"since {moment}, version {version}" in problem["detail"]
    problem_of(await client.get("/recommend/nothing", params={"as_of": version}), 404, "track-not-found")
    # What is over is deleted; how far lists go follows.
    settings = StoreSettings(database_url=SecretStr(database.url))
    await asyncio.sleep(0.01)
    await flush(database, {TRACK: SECOND})
    async with await open_pool(settings, application_name="test") as pool:
        assert await list_history.prune_history(pool, timedelta(), 1) == 1
    problem = problem_of(await client.get(PATH, params={"as_of": version - 1}), 410, "list-not-kept")
    assert problem["kept_since_version"] > version


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"strategy": "diverse"}, "strategy"),
        ({"era": "Baroque", "weights": "a:1"}, "era, weights"),
        ({"min_offset": "0:1"}, "min_offset"),
        ({"extra.key": "1"}, "extra"),
        ({"as_of": "yesterday"}, "neither a list version nor a time"),
        ({"as_of": "2026-03-01T12:00:00"}, "with its zone"),
        ({"as_of": "2026-03-01"}, "with its zone"),
        ({"as_of": "9999-01-01T00:00:00Z"}, "a time to come"),
        ({"as_of": "-3"}, "neither"),
    ],
)
async def test_what_no_stored_list_answers_is_refused(
    client: httpx.AsyncClient, parameters: dict[str, str], said: str
) -> None:
    """A 422 of `as_of`, with what stands against it."""
    problem = problem_of(
        await client.get(PATH, params={"as_of": "1", **parameters}), 422, "invalid-parameters"
    )
    (error,) = problem["errors"]
    assert error["field"] == "as_of"
    assert said in error["message"]
