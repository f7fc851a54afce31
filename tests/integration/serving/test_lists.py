"""Stored lists as they are read: many at a time, with texts that are at hand while nothing has changed in them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from serving.settings import ServingSettings
from store import listed
from tests.integration.serving.catalogue import ServedCatalogue
from tests.integration.serving.conftest import Database, Served, ServedClient, serve
from tests.integration.serving.gate import Gate
from tests.integration.serving.problems import problem_of
from tests.support.polling import until

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"


class _CountingPool:
    """What is asked of Postgres: lists once `go` is set, tracks after `before`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lists: list[list[tuple[str, int]]] = []
        self.tracks: list[list[int]] = []
        self.before: Any = None
        self.go = asyncio.Event()
        self.go.set()
        read_lists, read_tracks = listed.read_served_lists, listed.read_listed_tracks

        async def counted_lists(pool: Any, wanted: Sequence[tuple[str, int]]) -> Any:
            self.lists.append(list(wanted))
            await self.go.wait()
            return await read_lists(pool, wanted)

        async def counted_tracks(pool: Any, keys: Sequence[int]) -> Any:
            self.tracks.append(list(keys))
            if self.before is not None:
                await self.before()
            return await read_tracks(pool, keys)

        monkeypatch.setattr(listed, "read_served_lists", counted_lists)
        monkeypatch.setattr(listed, "read_listed_tracks", counted_tracks)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> _CountingPool:
    """Counts what is asked of Postgres."""
    return _CountingPool(monkeypatch)


@pytest.fixture
async def client(database: Database) -> AsyncIterator[ServedClient]:
    """The API without ready answers in memory, so that each comes from a list."""
    async with serve(Served(database, ServingSettings(memory_bytes=0))) as running:
        yield running


def _ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["track_id"] for item in response.json()["recommendations"]]


async def test_texts_are_read_once_while_nothing_changes(client: ServedClient, asked: _CountingPool) -> None:
    """A second read takes one round trip and says the same; one that names more tracks reads those alone."""
    first = await client.get(PATH)
    second = await client.get(PATH)
    assert [len(keys) for keys in asked.tracks] == [11]
    assert len(asked.lists) == 2
    assert first.headers["etag"] == second.headers["etag"]
    await client.get(PATH, params={"top_k": 12})
    assert [len(keys) for keys in asked.tracks] == [11, 2]
    metrics = (await client.get("/metrics")).text
    assert 'mess_api_tracks{what="entries"} 13.0' in metrics
    assert "mess_api_tracks_read 13.0" in metrics


async def test_a_text_that_has_changed_is_read_anew(
    client: ServedClient, asked: _CountingPool, catalogue: ServedCatalogue, database: Database
) -> None:
    """A track that was written since is said of as it is now, seed or neighbour, and only that one is read."""
    before = await client.get(PATH)
    neighbour = catalogue.expected(TRACK, 3)[2][0]
    for track_id in (TRACK, neighbour):
        await database.execute("UPDATE tracks SET title = title || ' II' WHERE track_id = $1", track_id)
    after = (await client.get(PATH)).json()
    assert len(asked.tracks[1]) == 2
    assert after["reference_metadata"]["title"].endswith(" II")
    titles = [item["title"] for item in after["recommendations"]]
    assert [title for title in titles if title.endswith(" II")] == [titles[2]]
    assert after["recommendations"][2]["metadata"]["title"] == titles[2]
    assert _ids(before) == [item["track_id"] for item in after["recommendations"]]


async def test_without_room_every_text_is_read(database: Database, asked: _CountingPool) -> None:
    """With no bytes for tracks the answer is the same, in two round trips each time."""
    settings = ServingSettings(memory_bytes=0, track_bytes=0)
    async with serve(Served(database, settings)) as client:
        first, second = await client.get(PATH), await client.get(PATH)
    assert [len(keys) for keys in asked.tracks] == [11, 11]
    assert first.headers["etag"] == second.headers["etag"]


async def test_readers_of_different_lists_share_queries(
    client: ServedClient, asked: _CountingPool, catalogue: ServedCatalogue
) -> None:
    """Of thirty who read at once each gets its own list, and few queries are made."""
    tracks = [track.track_id for track in catalogue.tracks[-30:]]
    paths = [f"/recommend/{quote(track_id, safe='')}" for track_id in tracks]
    responses = await asyncio.gather(*(client.get(path) for path in paths))
    for track_id, response in zip(tracks, responses, strict=True):
        assert _ids(response) == [other for other, _ in catalogue.expected(track_id, 10)]
    assert sorted(wanted for wanteds in asked.lists for wanted in wanteds) == sorted(
        (one, 10) for one in tracks
    )
    assert len(asked.lists) < 10
    assert len(asked.tracks) < 10


class TestWithdrawal:
    """Tracks that are withdrawn after the list was read, before their texts are."""

    async def test_a_neighbour_is_left_out(
        self, client: ServedClient, asked: _CountingPool, catalogue: ServedCatalogue, database: Database
    ) -> None:
        """The others are listed, ranks closed up, and a note says why there are fewer."""
        (gone, _), *rest = catalogue.expected(TRACK, 10)

        async def withdraw() -> None:
            await database.execute("DELETE FROM tracks WHERE track_id = $1", gone)

        asked.before = withdraw
        response = await client.get(PATH)
        assert _ids(response) == [track_id for track_id, _ in rest]
        assert [item["rank"] for item in response.json()["recommendations"]] == list(range(1, 10))
        assert response.json()["notes"] == ["only 9 candidates are left: the stored list holds 50"]

    async def test_the_track_itself_is_unknown(
        self, client: ServedClient, asked: _CountingPool, database: Database
    ) -> None:
        """There is nothing to recommend for it any more."""

        async def withdraw() -> None:
            await database.execute("DELETE FROM tracks WHERE track_id = $1", TRACK)

        asked.before = withdraw
        problem_of(await client.get(PATH), 404, "track-not-found")


async def test_who_goes_leaves_the_read_to_the_others(
    client: ServedClient, asked: _CountingPool, catalogue: ServedCatalogue
) -> None:
    """Of those who wait for the same list the one who reads it may go; another reads it then, for all who are left."""
    asked.go.clear()
    gone, *stay = (asyncio.create_task(client.get(PATH)) for _ in range(3))
    await until(lambda: bool(asked.lists), 0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    asked.go.set()
    for response in await asyncio.gather(*stay):
        assert _ids(response) == [track_id for track_id, _ in catalogue.expected(TRACK, 10)]
    assert asked.lists == [[(TRACK, 10)], [(TRACK, 10)]]


async def test_silence_between_both_reads_is_cut_short(database: Database, asked: _CountingPool) -> None:
    """A database that answers with the list and then no more costs a caller the store timeout once."""
    settings = ServingSettings(store_timeout=0.5)
    async with Gate(database.api_url) as gate, serve(Served(gate.before(database), settings)) as client:

        async def silence() -> None:
            gate.silent = True

        asked.before = silence
        problem_of(await client.get(PATH), 503, "store-unavailable")
