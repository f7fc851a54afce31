"""`GET /recommend/{track_id}` against real lists in Postgres."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from serving.models import Recommendation, RecommendationBody
from serving.recommend import service
from serving.settings import ServingSettings
from store.columns import METADATA_FIELDS
from streams.strategies import registry
from tests.integration.serving.catalogue import AWKWARD_IDS, ServedCatalogue
from tests.integration.serving.conftest import Database, Served, serve
from tests.integration.serving.problems import fields_of, problem_of

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"


def _pairs(response: httpx.Response) -> list[tuple[str, float]]:
    assert response.status_code == 200, response.text
    return [(item["track_id"], item["score"]) for item in response.json()["recommendations"]]


def _same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [track_id for track_id, _ in found] == [track_id for track_id, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)


@pytest.mark.parametrize("top_k", [1, 10, 50])
async def test_answers_with_the_exact_neighbours(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, top_k: int
) -> None:
    """The first top_k of the stored list come back in order with their cosine similarities."""
    response = await client.get(PATH, params={"top_k": top_k})
    _same(_pairs(response), catalogue.expected(TRACK, top_k))


async def test_answers_with_ten_if_not_told(client: httpx.AsyncClient, catalogue: ServedCatalogue) -> None:
    """top_k is 10 and the strategy similarity unless the caller says otherwise."""
    response = await client.get(PATH)
    _same(_pairs(response), catalogue.expected(TRACK, 10))
    assert response.json()["strategy"] == "similarity"


async def test_body_has_exactly_the_promised_members(
    client: httpx.AsyncClient, catalogue: ServedCatalogue
) -> None:
    """The body and each item have every member of the contract, no other, and values of its types."""
    body = (await client.get(PATH, params={"top_k": 3})).json()
    assert set(body) == set(RecommendationBody.model_fields)
    RecommendationBody.model_validate(body)
    for rank, item in enumerate(body["recommendations"], start=1):
        assert set(item) == set(Recommendation.model_fields)
        assert item["rank"] == rank
        assert item["score"] == item["similarity_score"]
        assert item["strategy_used"] == "similarity"
        assert item["cached"] is True
        assert set(item["metadata"]) == set(METADATA_FIELDS)
        track = catalogue.tracks[catalogue.by_id[item["track_id"]]]
        assert item["title"] == track.metadata["title"]
        assert item["filename"] == track.metadata["extra"].get("filename")
        assert f"{item['score']:.3f}" in item["explanation"]


async def test_body_says_where_the_list_comes_from(
    client: httpx.AsyncClient, catalogue: ServedCatalogue
) -> None:
    """source, generated_at, stale and cached are those of the stored list."""
    row = catalogue.by_id[TRACK]
    body = (await client.get(PATH)).json()
    assert body["reference_track"] == TRACK
    assert body["reference_metadata"]["title"] == catalogue.tracks[row].metadata["title"]
    assert body["source"] == {
        "topic": "track-ingest",
        "partition": catalogue.tracks[row].partition,
        "offset": catalogue.tracks[row].offset,
        "event_time": "2026-02-03T04:07:09Z",
    }
    assert body["generated_at"] == "2026-02-03T04:07:09.250000Z"
    assert body["stale"] is False
    assert body["cached"] is True
    assert 0 < body["computation_time_ms"] < 60_000


async def test_alias_is_its_strategy(client: httpx.AsyncClient) -> None:
    """A strategy's alias gives the strategy's answer, under the strategy's own name."""
    plain = await client.get(PATH)
    aliased = await client.get(PATH, params={"strategy": "similar"})
    assert aliased.json()["strategy"] == "similarity"
    assert aliased.headers["etag"] == plain.headers["etag"]


@pytest.mark.parametrize("strategy", ["Similarity", "x"])
async def test_unknown_strategy_lists_the_known(client: httpx.AsyncClient, strategy: str) -> None:
    """What isn't a strategy here is refused with the list of those that are."""
    response = await client.get(PATH, params={"strategy": strategy})
    document = problem_of(response, 422, "unknown-strategy")
    assert document["known"] == [*(each.name for each in registry.STRATEGIES), *registry.ALIASES]
    assert fields_of(document) == ["strategy"]


async def test_mode_of_a_strategy_without_modes_is_refused(client: httpx.AsyncClient) -> None:
    """A mode that the strategy doesn't have is refused, not ignored."""
    response = await client.get(PATH, params={"mode": "mmr"})
    assert fields_of(problem_of(response, 422, "invalid-parameters")) == ["mode"]


async def test_every_bad_parameter_is_named_at_once(client: httpx.AsyncClient) -> None:
    """Two mistakes are told in one answer, with the parameters that there are."""
    response = await client.get(f"{PATH}?top_k=99&eras=Baroque")
    document = problem_of(response, 422, "invalid-parameters")
    assert sorted(fields_of(document)) == ["eras", "top_k"]
    assert {"era", "era_not", "exclude", "extra.*", "top_k", "year_composed_min"} <= set(document["known"])


async def test_of_several_values_it_is_told_which(client: httpx.AsyncClient) -> None:
    """A parameter is called by its name, however often it is given."""
    response = await client.get(f"{PATH}?exclude=a&exclude=b%0Ac&year_composed=1700&year_composed=early")
    assert problem_of(response, 422, "invalid-parameters")["errors"] == [
        {"field": "exclude", "message": "value 2: 'b\\nc' contains a control or format character"},
        {"field": "year_composed", "message": "value 2: must be a number"},
    ]


async def test_a_long_name_is_told_in_short(client: httpx.AsyncClient) -> None:
    """A parameter that nobody knows is not sent back whole."""
    response = await client.get(f"{PATH}?{'k' * 3000}=1")
    (field,) = fields_of(problem_of(response, 422, "invalid-parameters"))
    assert len(field) <= 120


async def test_unknown_track(client: httpx.AsyncClient) -> None:
    """A track that isn't there is a 404 that names it."""
    document = problem_of(await client.get("/recommend/no%2Fsuch"), 404, "track-not-found")
    assert "no/such" in document["detail"]


@pytest.mark.parametrize("segment", ["%FF", "%00", "a%0Ab", "", "x" * 513])
async def test_impossible_track_id(client: httpx.AsyncClient, segment: str) -> None:
    """An id that no track can have is a 422 about track_id."""
    response = await client.get(f"/recommend/{segment}")
    assert fields_of(problem_of(response, 422, "invalid-parameters")) == ["track_id"]


@pytest.mark.parametrize("track_id", AWKWARD_IDS)
async def test_any_id_can_be_read(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, track_id: str
) -> None:
    """A percent-encoded id finds its own track, whatever characters it has."""
    encoded = quote(track_id, safe="").replace(".", "%2E")  # or a client resolves `..` itself
    response = await client.get(f"/recommend/{encoded}?top_k=5")
    assert response.json()["reference_track"] == track_id
    _same(_pairs(response), catalogue.expected(track_id, 5))


@pytest.mark.parametrize("track_id", ["a/b/c", "a/metadata", "test/00123", "trailing/"])
async def test_plain_slashes_work_too(client: httpx.AsyncClient, track_id: str) -> None:
    """An id may be written with its slashes as they are."""
    assert (await client.get(f"/recommend/{track_id}")).json()["reference_track"] == track_id


async def test_excluded_tracks_are_replaced_by_the_next(
    client: httpx.AsyncClient, catalogue: ServedCatalogue
) -> None:
    """exclude, repeated, removes exactly these tracks, and the ranks close up behind them."""
    expected = catalogue.expected(TRACK, 12)
    excluded = [expected[0][0], expected[5][0], "no such track", TRACK]
    response = await client.get(PATH, params={"exclude": excluded})
    _same(_pairs(response), [pair for pair in expected if pair[0] not in excluded])
    assert [item["rank"] for item in response.json()["recommendations"]] == list(range(1, 11))


@pytest.mark.parametrize("gone", [1, 5, 20, 50])
async def test_withdrawn_neighbours_drop_out(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, database: Database, gone: int
) -> None:
    """Neighbours that were withdrawn are left out and replaced from the rest of the list, however many."""
    expected = catalogue.expected(TRACK, 50)
    await database.execute(
        "DELETE FROM tracks WHERE track_id = ANY ($1)", [track_id for track_id, _ in expected[:gone]]
    )
    _same(_pairs(await client.get(PATH)), expected[gone : gone + 10])


async def test_withdrawn_track_is_unknown(client: httpx.AsyncClient, database: Database) -> None:
    """A track that was withdrawn is a 404 at once, its list notwithstanding."""
    await database.execute("DELETE FROM tracks WHERE track_id = $1", TRACK)
    problem_of(await client.get(PATH), 404, "track-not-found")


async def test_list_that_is_not_there_yet(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, database: Database
) -> None:
    """A known track without a list is a 503 that asks to come back in a second."""
    key = catalogue.tracks[catalogue.by_id[TRACK]].key
    await database.execute("DELETE FROM neighbour_lists WHERE key = $1", key)
    response = await client.get(PATH)
    problem_of(response, 503, "list-not-ready")
    assert response.headers["retry-after"] == "1"


async def test_a_reader_of_a_new_track_gets_its_list_once_it_is_flushed(
    client: httpx.AsyncClient,
    catalogue: ServedCatalogue,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks while the first list is on its way gets the stored one, past a flush of other lists."""
    monkeypatch.setattr(service, "_FIRST_LIST_SECONDS", 30.0)
    track = catalogue.tracks[catalogue.by_id[TRACK]]
    absorb = "UPDATE owner_progress SET absorbed[7] = absorbed[7] + 1 WHERE owner_partition"
    await database.execute(
        "CREATE TABLE kept_away AS SELECT * FROM neighbour_lists WHERE key = $1", track.key
    )
    await database.execute("DELETE FROM neighbour_lists WHERE key = $1", track.key)
    await database.execute(
        "UPDATE ingest_partitions SET consumed_offset = consumed_offset + 1 WHERE partition = 6"
    )
    reading = asyncio.create_task(client.get(PATH))
    await asyncio.sleep(0.2)
    await database.execute(f"{absorb} <> $1", track.partition)
    await asyncio.sleep(0.2)
    assert not reading.done()
    await database.execute("INSERT INTO neighbour_lists SELECT * FROM kept_away")
    await database.execute(f"{absorb} = $1", track.partition)
    _same(_pairs(await reading), catalogue.expected(TRACK, 10))


async def test_only_track_has_an_empty_list(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, database: Database
) -> None:
    """A list that is stored empty is an answer, not an error."""
    key = catalogue.tracks[catalogue.by_id[TRACK]].key
    await database.execute("UPDATE neighbour_lists SET neighbours = '{}', scores = '{}' WHERE key = $1", key)
    assert _pairs(await client.get(PATH)) == []


async def _body_when(
    client: httpx.AsyncClient, wanted: Callable[[dict[str, Any]], bool]
) -> tuple[dict[str, Any], str]:
    """The first body that is as wanted, and its tag; every one on the way is stale exactly beyond a second."""
    async with asyncio.timeout(60):
        while True:
            response = await client.get(PATH)
            body = response.json()
            assert body["stale"] is (body["behind_seconds"] > 1), body
            if wanted(body):
                return body, response.headers["etag"]
            await asyncio.sleep(0.02)


async def test_stale_once_an_accepted_event_has_waited_for_more_than_a_second(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, database: Database
) -> None:
    """A body says how old the oldest event is that its owner's lists lack, and is stale beyond a second."""
    owner = catalogue.tracks[catalogue.by_id[TRACK]].partition
    other = next(track for track in catalogue.tracks if track.partition != owner)
    before = await client.get(PATH)
    assert (before.json()["behind_seconds"], before.json()["stale"]) == (0, False)
    await database.execute(
        "UPDATE owner_progress SET absorbed[7] = absorbed[7] + 1 WHERE owner_partition <> $1", owner
    )
    await database.execute(
        "UPDATE ingest_partitions SET consumed_offset = consumed_offset + 1 WHERE partition = 6"
    )
    first, tag = await _body_when(client, lambda body: bool(body["behind_seconds"]))
    assert first["stale"] or tag == before.headers["etag"]
    _, tag = await _body_when(client, lambda body: bool(body["stale"]))
    assert tag != before.headers["etag"]
    untouched = (await client.get(f"/recommend/{quote(other.track_id, safe='')}")).json()
    assert (untouched["behind_seconds"], untouched["stale"]) == (0, False)
    await database.execute(
        "UPDATE owner_progress SET absorbed[7] = absorbed[7] + 1 WHERE owner_partition = $1", owner
    )
    _, tag = await _body_when(client, lambda body: body["behind_seconds"] == 0)
    assert tag == before.headers["etag"]


async def test_an_api_that_has_just_begun_knows_how_long_events_have_waited(database: Database) -> None:
    """What was accepted forty seconds before an API's start and is not absorbed makes its first answer stale."""
    await database.execute("UPDATE owner_progress SET absorbed[7] = absorbed[7] - 2")
    await database.execute(
        "UPDATE tracks SET updated_at = now() - interval '40 s' WHERE source_partition = 6"
    )
    async with serve(Served(database)) as client:
        body = (await client.get(PATH)).json()
    assert body["stale"] is True
    assert 40 <= body["behind_seconds"] < 400


async def test_the_first_reader_after_a_quiet_time_is_not_told_of_what_was_absorbed_in_it(
    database: Database,
) -> None:
    """While nobody reads, polls are rare; what the last one saw waiting does not make a list stale that has it."""
    await database.execute("UPDATE owner_progress SET absorbed[7] = absorbed[7] - 2")
    await database.execute(
        "UPDATE tracks SET updated_at = now() - interval '40 s' WHERE source_partition = 6"
    )
    async with serve(Served(database)) as client:
        await database.execute("UPDATE owner_progress SET absorbed[7] = absorbed[7] + 2")
        await asyncio.sleep(0.1)  # longer than polls are apart while somebody reads
        body = (await client.get(PATH)).json()
    assert (body["behind_seconds"], body["stale"]) == (0, False)


@pytest.fixture
async def forgetful(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """The API without a memory, for changes that come past the pipeline, which would move the offsets."""
    async with serve(Served(database, ServingSettings(memory_bytes=0))) as running:
        yield running


class TestEntityTag:
    """`ETag` and `If-None-Match`."""

    async def test_unchanged_body_is_not_sent_again(self, client: httpx.AsyncClient) -> None:
        """The tag of an unchanged answer gives 304 without a body, also in a list and as `*`."""
        tag = (await client.get(PATH)).headers["etag"]
        assert tag.startswith('W/"')
        for header in (tag, f'"other", {tag}', "*", tag.removeprefix("W/")):
            response = await client.get(PATH, headers={"if-none-match": header})
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["etag"] == tag

    async def test_tag_belongs_to_the_parameters(self, client: httpx.AsyncClient) -> None:
        """Other parameters have another tag."""
        tag = (await client.get(PATH)).headers["etag"]
        response = await client.get(PATH, params={"top_k": 9}, headers={"if-none-match": tag})
        assert response.status_code == 200

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE neighbour_lists SET scores = scores[1:49] || 0.001::real WHERE key = {key}",
            "UPDATE neighbour_lists SET source_offset = source_offset + 1 WHERE key = {key}",
            "UPDATE tracks SET title = 'Renamed' WHERE key = {key}",
            "UPDATE tracks SET extra = jsonb_build_object('label', 1) WHERE track_id = '{neighbour}'",
            "DELETE FROM tracks WHERE track_id = '{neighbour}'",
        ],
    )
    async def test_any_change_of_the_body_changes_the_tag(
        self, forgetful: httpx.AsyncClient, catalogue: ServedCatalogue, database: Database, change: str
    ) -> None:
        """A new list, source, title, neighbour's metadata or withdrawal is sent in full."""
        client = forgetful
        url = f"{PATH}?top_k=50"
        before = await client.get(url)
        key = catalogue.tracks[catalogue.by_id[TRACK]].key
        neighbour = catalogue.expected(TRACK, 1)[0][0]
        await database.execute(change.format(key=key, neighbour=neighbour))
        after = await client.get(url, headers={"if-none-match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.headers["etag"] != before.headers["etag"]
