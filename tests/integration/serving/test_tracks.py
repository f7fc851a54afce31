"""`/tracks`, `/composers`, `/tags`, `/strategies` against a real catalogue."""

from collections import Counter
from urllib.parse import quote

import httpx
import pytest

from serving import models
from store.columns import METADATA_FIELDS
from tests.integration.serving.catalogue import ABSENT, AWKWARD_IDS, ServedCatalogue
from tests.integration.serving.conftest import Database
from tests.integration.serving.problems import fields_of, problem_of

pytestmark = pytest.mark.integration


async def _pages(client: httpx.AsyncClient, **parameters: str | int) -> list[dict[str, object]]:
    """Every track of a listing, followed page by page to its end."""
    tracks: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    while True:
        response = await client.get("/tracks", params={**parameters, **cursor})
        assert response.status_code == 200, response.text
        page = response.json()
        models.TracksPage.model_validate(page)
        tracks += page["tracks"]
        if page["next"] is None:
            assert page["total"] == len(tracks)
            return tracks
        assert page["total"] > len(tracks)
        cursor = {"cursor": page["next"]}


@pytest.mark.parametrize("limit", [7, 100, 299, 300, 500])
async def test_pages_hold_every_track_once(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, limit: int
) -> None:
    """Following `next` visits each track exactly once, whatever the size of a page."""
    seen = [track["track_id"] for track in await _pages(client, limit=limit)]
    assert sorted(seen) == sorted(catalogue.by_id)


async def test_fifty_tracks_a_page_if_not_told(client: httpx.AsyncClient) -> None:
    """A page has 50 tracks by default, and the total counts all pages."""
    page = (await client.get("/tracks")).json()
    assert (len(page["tracks"]), page["total"]) == (50, 300)


@pytest.mark.parametrize(
    "wanted",
    [
        {"composer": "Bach"},
        {"composer": "Dvořák", "form": "dance"},
        {"era": "Renaissance"},
        {"form": "string quartet", "era": "Classical", "composer": "Haydn"},
        {"composer": "bach"},
        {"composer": "Bach", "era": "Romantic"},
    ],
)
async def test_filters_are_exact_and_all_hold(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, wanted: dict[str, str]
) -> None:
    """A listing with filters has exactly the tracks whose metadata equal all of them."""
    expected = {
        track.track_id
        for track in catalogue.tracks
        if all(track.metadata.get(name) == value for name, value in wanted.items())
    }
    found = await _pages(client, limit=20, **wanted)
    assert {track["track_id"] for track in found} == expected


@pytest.mark.parametrize(
    ("search", "matches"),
    [
        ("chorale", lambda t: t["form"] == "chorale"),
        ("CHOR bac", lambda t: t["form"] == "chorale" and t["composer"] == "Bach"),
        ("joh seb", lambda t: t["composer"] == "Bach"),
        ("bwv", lambda t: t["composer"] == "Bach"),
        ("dvořák roman dan", lambda t: t["composer"] == "Dvořák" and "dance" in [t["form"], *t["tags"]]),
        ("nothing xqzw", lambda _: False),
        ("!!! ' \" \\ ):* &|", lambda _: False),
    ],
)
async def test_search_finds_beginnings_of_words(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, search: str, matches: object
) -> None:
    """A search has the tracks that hold, for every word asked for, a word that begins with it."""
    assert callable(matches)
    expected = {track.track_id for track in catalogue.tracks if matches(track.metadata)}
    assert {track["track_id"] for track in await _pages(client, search=search, limit=50)} == expected


@pytest.mark.parametrize(
    ("search", "first", "matches"),
    [
        (
            "dvorak romantic dance",
            "form",
            lambda t: t["composer"] == "Dvořák" and "dance" in [t["form"], *t["tags"]],
        ),
        (
            "DVOR\u030cA\u0301K romantic quart",
            "form",
            lambda t: t["composer"] == "Dvořák" and t["form"] != "dance",
        ),
        ("bahc fuge", "composer", lambda t: t["composer"] == "Bach" and t["form"] == "fugue"),
        ("estrina motet", "form", lambda t: t["composer"] == "Palestrina" and t["form"] == "motet"),
        ("bach madrigal", "composer", lambda t: t["composer"] == "Bach" or t["form"] == "madrigal"),
        ("madrigal of claudio unheard", "form", lambda t: t["form"] == "madrigal"),
    ],
)
async def test_search_forgives(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, search: str, first: str, matches: object
) -> None:
    """Accents, composition, typos, parts of words and superfluous words are forgiven, and nothing else is found."""
    assert callable(matches)
    expected = {track.track_id for track in catalogue.tracks if matches(track.metadata)}
    assert expected
    found = await _pages(client, search=search, limit=7)
    assert {track["track_id"] for track in found} == expected
    assert found[0][first] is not None


async def test_best_hits_come_first(client: httpx.AsyncClient, database: Database) -> None:
    """The track of that id, whole words in names, whole words elsewhere, then beginnings of words."""
    row = "INSERT INTO tracks (track_id, key, search, embedding, source_partition, source_offset, event_time)"
    searched = {
        "zz/4": "'waltzer':1A",
        "zz/3": "'waltz':2B",
        "zz/2": "'waltz':1A 'slow':2B",
        "waltz": "'x':1A",
    }
    for key, (track_id, words) in enumerate(searched.items()):
        values = f"VALUES ($1, {key}, $2::text::tsvector, '', 0, {90_000 + key}, now())"
        await database.execute(f"{row} {values}", track_id, words)
    found = await _pages(client, search="waltz", limit=1)
    assert [track["track_id"] for track in found] == ["waltz", "zz/2", "zz/3", "zz/4"]
    narrowed = await _pages(client, search="waltz", composer="Bach")
    assert narrowed == []


@pytest.mark.parametrize("track_id", [*AWKWARD_IDS, "test/00123"])
async def test_search_finds_a_whole_track_id(client: httpx.AsyncClient, track_id: str) -> None:
    """A track id pasted into the search finds its track."""
    found = await _pages(client, search=track_id)
    assert track_id in {track["track_id"] for track in found}


async def test_cursor_of_another_listing_is_refused(client: httpx.AsyncClient) -> None:
    """A cursor goes on only with the filters it was made under."""
    cursor = (await client.get("/tracks?form=chorale&limit=1")).json()["next"]
    assert (await client.get("/tracks", params={"form": "chorale", "cursor": cursor})).status_code == 200
    response = await client.get("/tracks", params={"form": "reel", "cursor": cursor})
    document = problem_of(response, 422, "invalid-parameters")
    assert fields_of(document) == ["cursor"]
    assert "other filters" in document["detail"]


async def test_pages_go_on_when_the_last_track_is_gone(client: httpx.AsyncClient, database: Database) -> None:
    """A cursor stays good after the track it stands behind was withdrawn."""
    first = (await client.get("/tracks?limit=10")).json()
    second = (await client.get("/tracks", params={"limit": 10, "cursor": first["next"]})).json()
    await database.execute("DELETE FROM tracks WHERE track_id = $1", first["tracks"][-1]["track_id"])
    again = (await client.get("/tracks", params={"limit": 10, "cursor": first["next"]})).json()
    assert again["tracks"] == second["tracks"]
    assert again["total"] == 299


@pytest.mark.parametrize("track_id", [*AWKWARD_IDS, "test/00101"])
async def test_track_and_its_metadata(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, track_id: str
) -> None:
    """A track is read by its encoded id, and its metadata under `/metadata`, whatever the id looks like."""
    encoded = quote(track_id, safe="").replace(".", "%2E")
    track = catalogue.tracks[catalogue.by_id[track_id]]
    body = (await client.get(f"/tracks/{encoded}")).json()
    assert set(body) == set(models.TrackDetail.model_fields)
    models.TrackDetail.model_validate(body)
    assert body["track_id"] == track_id
    assert (body["source"]["partition"], body["source"]["offset"]) == (track.partition, track.offset)
    assert (body["neighbour_list"]["length"], body["neighbour_list"]["version"]) == (
        50,
        catalogue.by_id[track_id] + 1,
    )
    metadata = (await client.get(f"/tracks/{encoded}/metadata")).json()
    assert metadata == body["metadata"]
    assert metadata == {name: track.metadata.get(name, ABSENT.get(name)) for name in METADATA_FIELDS}


async def test_slash_tells_a_path_from_an_id(client: httpx.AsyncClient, database: Database) -> None:
    """`a%2Fmetadata` is the track a/metadata; `a/metadata` is the metadata of a, which isn't there."""
    assert (await client.get("/tracks/a%2Fmetadata")).json()["track_id"] == "a/metadata"
    document = problem_of(await client.get("/tracks/a/metadata"), 404, "track-not-found")
    assert "'a'" in document["detail"]
    nested = await client.get("/tracks/a/metadata/metadata")
    assert nested.json() == (await client.get("/tracks/a%2Fmetadata/metadata")).json()


async def test_track_without_a_list(
    client: httpx.AsyncClient, catalogue: ServedCatalogue, database: Database
) -> None:
    """A track whose list is not computed yet says so with null."""
    key = catalogue.tracks[catalogue.by_id["a+b"]].key
    await database.execute("DELETE FROM neighbour_lists WHERE key = $1", key)
    body = (await client.get("/tracks/a+b")).json()
    assert body["neighbour_list"] is None
    models.TrackDetail.model_validate(body)


@pytest.mark.parametrize("path", ["/tracks/nothing", "/tracks/nothing/metadata"])
async def test_unknown_track(client: httpx.AsyncClient, path: str) -> None:
    """Nothing is known of a track that isn't there: 404."""
    problem_of(await client.get(path), 404, "track-not-found")


async def test_composers_are_counted(client: httpx.AsyncClient, catalogue: ServedCatalogue) -> None:
    """Every composer comes with the number of tracks, the most frequent first; no composer is no name."""
    counts = Counter(track.metadata["composer"] for track in catalogue.tracks if track.metadata["composer"])
    body = (await client.get("/composers")).json()
    models.ComposerList.model_validate(body)
    found = [(each["name"], each["count"]) for each in body["composers"]]
    assert dict(found) == counts
    assert [count for _, count in found] == sorted(counts.values(), reverse=True)
    assert body["total"] == len(counts)


async def test_tags_are_counted(client: httpx.AsyncClient, catalogue: ServedCatalogue) -> None:
    """Every tag comes with the number of tracks; a limit keeps the most frequent and the total."""
    counts = Counter(tag for track in catalogue.tracks for tag in track.metadata["tags"])
    body = (await client.get("/tags")).json()
    models.TagList.model_validate(body)
    assert {each["name"]: each["count"] for each in body["tags"]} == counts
    short = (await client.get("/tags?limit=2")).json()
    assert short["tags"] == body["tags"][:2]
    assert short["total"] == len(counts)


async def test_empty_catalogue(client: httpx.AsyncClient, database: Database) -> None:
    """With no tracks, listings are empty and no error."""
    await database.execute("TRUNCATE tracks, neighbour_lists")
    assert (await client.get("/tracks")).json() == {
        "tracks": [],
        "total": 0,
        "total_exact": True,
        "next": None,
    }
    assert (await client.get("/composers")).json() == {"composers": [], "total": 0}
    assert (await client.get("/tags")).json() == {"tags": [], "total": 0}


async def test_strategies_are_those_that_work(client: httpx.AsyncClient) -> None:
    """Each strategy and alias that is listed is one that `/recommend` takes; what is not stored needs a worker."""
    body = (await client.get("/strategies")).json()
    models.StrategyList.model_validate(body)
    aliases = [alias["name"] for each in body["strategies"] for alias in each["aliases"]]
    names = [*(each["name"] for each in body["strategies"]), *aliases]
    assert set(aliases) == {"similar", "balanced", "complementary", "exploration"}
    assert body["default"] in names
    for name in names:
        response = await client.get("/recommend/a+b", params={"strategy": name})
        if name in {"similarity", "similar"}:
            assert response.status_code == 200
        else:
            problem_of(response, 503, "no-worker")


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/strategies?x=1", None),
        ("/changes?x=1", ["space"]),
        ("/tracks/a+b?top_k=3", ["space"]),
        ("/composers?composer=Bach", ["limit", "space"]),
    ],
)
async def test_unknown_parameters_are_refused_everywhere(
    client: httpx.AsyncClient, path: str, known: list[str] | None
) -> None:
    """Paths without parameters, too, refuse those they don't know; where there are some, they are listed."""
    assert problem_of(await client.get(path), 422, "invalid-parameters").get("known") == known
