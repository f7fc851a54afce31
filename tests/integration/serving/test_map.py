"""The map: laid out from stored lists, newcomers placed among their neighbours, read in pages and followed."""

import asyncpg
import httpx
import numpy as np
import pytest

from serving import models
from store import map_positions
from store.pool import open_pool
from store.settings import StoreSettings
from streams.engine.map_layout import PrincipalPlane, turned_onto
from streams.maintenance.map_refresh import refresh_map
from tests.integration.serving.catalogue import ServedCatalogue
from tests.integration.serving.conftest import SIZE, Database

pytestmark = pytest.mark.integration


async def _whole(
    client: httpx.AsyncClient, **parameters: str | int
) -> dict[str, tuple[float, float, str | None]]:
    """Every point of the map, read page by page: its place and its value."""
    points: dict[str, tuple[float, float, str | None]] = {}
    after, more = 0, True
    while more:
        response = await client.get("/map", params={"after": after, "limit": 70, **parameters})
        assert response.status_code == 200, response.text
        page = response.json()
        models.MapPage.model_validate(page)
        columns = (page["ids"], page["x"], page["y"], page["values"])
        for track_id, x, y, value in zip(*columns, strict=True):
            assert track_id not in points
            points[track_id] = (x, y, page["names"][value])
        after, more = page["next"], page["more"]
    return points


async def _newcomer(url: str, like: str) -> None:
    """A track whose list is another's, with that other in front."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time)"
            " SELECT 'newcomer', 1, embedding, 0, 100000, now() FROM tracks WHERE track_id = $1",
            like,
        )
        await connection.execute(
            "INSERT INTO neighbour_lists SELECT 1, key || neighbours[1:49], 1.0::real || scores[1:49], 100000,"
            " source_partition, source_offset, event_time, now() FROM neighbour_lists AS l"
            " WHERE key = (SELECT key FROM tracks WHERE track_id = $1)",
            like,
        )
    finally:
        await connection.close()


async def test_laid_out_placed_and_laid_out_again(
    client: httpx.AsyncClient, database: Database, catalogue: ServedCatalogue
) -> None:
    """Near tracks are near; a newcomer moves nobody; a second layout leaves tracks where people know them."""
    store = StoreSettings(database_url=database.url)  # type: ignore[arg-type]  # pydantic reads text
    assert await _whole(client) == {}
    assert await refresh_map(store) == SIZE
    first = await _whole(client, field="composer")
    assert set(first) == set(catalogue.by_id)
    for track_id, (_, _, value) in first.items():
        assert value == catalogue.tracks[catalogue.by_id[track_id]].metadata["composer"]
    places = np.array([first[track.track_id][:2] for track in catalogue.tracks])
    near = np.linalg.norm(places[catalogue.neighbours[:, :5]] - places[:, None], axis=2).mean()
    anywhere = np.linalg.norm(places[:, None] - places[None], axis=2).mean()
    assert near < 0.75 * anywhere  # vectors are random, and leave little to be shown on a plane

    like = catalogue.tracks[40].track_id
    await _newcomer(database.url, like)
    pool = await open_pool(store, application_name="test")
    try:
        assert await map_positions.place_newcomers(pool, 100) == 1
        assert await map_positions.place_newcomers(pool, 100) == 0
    finally:
        await pool.close()
    grown = await _whole(client, field="extra.filename")
    x, y, _ = grown["newcomer"]
    assert {name: point[:2] for name, point in grown.items() if name != "newcomer"} == {
        name: point[:2] for name, point in first.items()
    }
    others = np.linalg.norm(places - (x, y), axis=1)
    assert others[40] < np.median(others)

    await database.execute("DELETE FROM tracks WHERE track_id = $1", like)
    assert await refresh_map(store) == SIZE
    again = await _whole(client)
    assert like not in again
    kept = [row for row, track in enumerate(catalogue.tracks) if track.track_id in again]
    moved = np.array([again[catalogue.tracks[row].track_id][:2] for row in kept]) - places[kept]
    assert np.median(np.linalg.norm(moved, axis=1)) < 0.15 * anywhere


async def test_following_brings_what_has_changed_alone(client: httpx.AsyncClient, database: Database) -> None:
    """Asked again with the last `next`, the map brings nothing, and then what has come."""
    store = StoreSettings(database_url=database.url)  # type: ignore[arg-type]  # likewise
    await refresh_map(store)
    page = (await client.get("/map")).json()
    assert len(page["ids"]) == SIZE
    empty = (await client.get("/map", params={"after": page["next"]})).json()
    assert (empty["ids"], empty["next"], empty["more"]) == ([], page["next"], False)
    await _newcomer(database.url, page["ids"][0])
    pool = await open_pool(store, application_name="test")
    try:
        await map_positions.place_newcomers(pool, 100)
    finally:
        await pool.close()
    assert (await client.get("/map", params={"after": page["next"]})).json()["ids"] == ["newcomer"]


@pytest.mark.parametrize("field", ["title", "tags", "year_composed", "artists", 'extra.it\'s "odd"; --'])
async def test_any_field_can_colour_it(client: httpx.AsyncClient, field: str) -> None:
    """Text, numbers, lists and the catalogue's own keys are values of a map, whatever they are called."""
    assert (await client.get("/map", params={"field": field})).status_code == 200


def test_a_turned_map_is_turned_back() -> None:
    """A layout that is moved, turned, mirrored and scaled lies on the old one again, newcomers with it."""
    random = np.random.default_rng(3)
    old = random.normal(size=(50, 2)).astype(np.float32)
    turn = np.array([[0.6, -0.8], [-0.8, -0.6]])
    places = (3 * old @ turn + 7).astype(np.float32)
    known = np.arange(50) < 40
    np.testing.assert_allclose(turned_onto(places, old, known), old, atol=1e-4)


def test_principal_plane_of_few_dimensions() -> None:
    """Vectors of one dimension, and all alike, still have places."""
    ones = np.ones((5, 1), np.float32)
    assert PrincipalPlane(ones).places(ones).shape == (5, 2)
    line = np.linspace(-1, 1, 20)[:, None] * np.ones(4)
    assert np.ptp(PrincipalPlane(line).places(line)[:, 0]) == pytest.approx(10.0, rel=1e-3)
