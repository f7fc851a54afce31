"""Playlists over HTTP, from lists in the store."""

from urllib.parse import quote
from xml.etree import ElementTree

import httpx
import pytest

from tests.integration.serving.catalogue import ServedCatalogue
from tests.integration.serving.conftest import Database, Served, serve
from tests.integration.serving.problems import fields_of, problem_of

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"


async def test_a_list_comes_in_the_form_that_is_asked_for(
    client: httpx.AsyncClient, catalogue: ServedCatalogue
) -> None:
    """By `format` or `Accept`, from the store and again from memory, by GET and POST: the same tracks in the same order."""
    expected = [f"urn:mess-ai:track:{quote(name, safe='')}" for name, _ in catalogue.expected(TRACK, 5)]
    for _ in range(2):
        plain = await client.get(f"{PATH}?top_k=5")
        assert (plain.headers["content-type"], plain.headers["vary"]) == ("application/json", "accept")
        named = await client.get(f"{PATH}?top_k=5&format=jspf")
        assert named.headers["content-type"] == "application/jspf+json"
        tracks = named.json()["playlist"]["track"]
        accepted = await client.get(f"{PATH}?top_k=5", headers={"accept": "application/xspf+xml"})
        assert accepted.headers["content-type"].partition(";")[0] == "application/xspf+xml"
        found = ElementTree.fromstring(accepted.content).iter("{http://xspf.org/ns/0/}identifier")
        assert [each.text for each in found] == expected
        assert [each["identifier"][-1] for each in tracks] == expected
    asked = {"track_id": TRACK, "top_k": 5}
    posted = await client.post("/recommend", json=asked, headers={"accept": "application/xspf+xml"})
    assert ElementTree.fromstring(posted.content)[-1].tag == "{http://xspf.org/ns/0/}trackList"


async def test_each_form_has_an_entity_tag_of_its_own(client: httpx.AsyncClient) -> None:
    """What a cache holds in one form is not taken for another."""
    tags = {}
    for form in ("json", "jspf", "xspf"):
        answer = await client.get(f"{PATH}?format={form}")
        tags[form] = answer.headers["etag"]
        again = await client.get(f"{PATH}?format={form}", headers={"if-none-match": tags[form]})
        assert (again.status_code, again.content) == (304, b"")
    assert len(set(tags.values())) == 3


async def test_what_cannot_be_is_refused(client: httpx.AsyncClient) -> None:
    """An unknown form, and one that is not accepted."""
    unknown = problem_of(await client.get(f"{PATH}?format=pls"), 422, "invalid-parameters")
    assert fields_of(unknown) == ["format"]
    refused = problem_of(await client.get(PATH, headers={"accept": "image/png"}), 406, "not-acceptable")
    assert "application/xspf+xml" in refused["available"]


async def test_an_m3u8_needs_to_know_where_tracks_are(database: Database, catalogue: ServedCatalogue) -> None:
    """It is made of the catalogue's own fields; a list of tracks of which none has one is refused."""
    names = [name for name, _ in catalogue.expected(TRACK, 3)]
    await database.execute("UPDATE tracks SET extra = '{}'")
    async with serve(Served(database)) as client:
        nowhere = problem_of(await client.get(f"{PATH}?format=m3u8&top_k=3"), 422, "invalid-parameters")
        assert "no track of this one has any" in nowhere["errors"][0]["message"]
    await database.execute(
        """UPDATE tracks SET extra = '{"filename": "a b.flac"}' WHERE track_id = ANY($1)""", names[1:]
    )
    async with serve(Served(database)) as client:
        found = await client.get(f"{PATH}?top_k=3", headers={"accept": "audio/x-mpegurl"})
    assert found.headers["content-type"].partition(";")[0] == "application/vnd.apple.mpegurl"
    lines = found.text.splitlines()
    assert (lines[3][:25], lines[5::2]) == ("# no location is known of", ["a%20b.flac", "a%20b.flac"])
