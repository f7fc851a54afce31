"""`/incipits`: what the local stack has derived, and what it is to derive first."""

from pathlib import Path

import pytest

from serving import models
from serving.incipits import IncipitFile
from serving.settings import ServingSettings
from tests.integration.serving.conftest import Database, Served, serve
from tests.integration.serving.problems import fields_of, problem_of

pytestmark = pytest.mark.integration


async def test_ready_pending_and_none(database: Database, tmp_path: Path) -> None:
    """What is derived is told; what is pending is derived next, in the order asked; of others the reason is told."""
    file = IncipitFile(tmp_path / "incipits.sqlite")
    file.create(["ready", "later", "first", "second", "broken"])
    file.write("ready", [[0, 500, 60]], None)
    file.write("broken", None, "malformed")
    settings = ServingSettings(health_ttl=0, incipits=tmp_path / "incipits.sqlite")
    async with serve(Served(database, settings=settings)) as client:
        asked = ["first", "ready", "second", "broken", "stranger", "first"]
        response = await client.get("/incipits", params={"track_id": asked})
        body = response.json()
        models.Incipits.model_validate(body)
        assert body["missing"] is None
        told = [(each["track_id"], each["status"]) for each in body["incipits"]]
        expected = ["pending", "ready", "pending", "none", "none"]
        assert told == list(zip(asked[:5], expected, strict=True))
        assert body["incipits"][1]["parts"] == [[0, 500, 60]]
        assert body["incipits"][3]["detail"] == "malformed"
        assert file.next_work() == "first"
        file.say_missing("music21 is needed")
        body = (await client.get("/incipits", params={"track_id": "first"})).json()
        assert (body["missing"], body["incipits"][0]["status"]) == ("music21 is needed", "none")


@pytest.mark.parametrize("there", [False, True])
async def test_without_a_usable_file(database: Database, tmp_path: Path, there: bool) -> None:
    """Without the file, and with one that cannot be read, everything is answered, and what is missing is said."""
    path = tmp_path / "incipits.sqlite"
    path.write_bytes(b"not a database at all, but longer than a header would be" * 20)
    settings = ServingSettings(health_ttl=0, incipits=path if there else None)
    async with serve(Served(database, settings=settings)) as client:
        response = await client.get("/incipits", params={"track_id": "a"})
        assert response.status_code == 200
        body = response.json()
        assert body["missing"]
        assert body["incipits"] == [
            {"track_id": "a", "status": "none", "parts": None, "detail": body["missing"]}
        ]


async def test_what_is_asked_for_is_bounded(database: Database) -> None:
    """None and more than a hundred are refused by name."""
    async with serve(Served(database)) as client:
        assert fields_of(problem_of(await client.get("/incipits"), 422, "invalid-parameters")) == ["track_id"]
        many = {"track_id": [str(number) for number in range(101)]}
        response = await client.get("/incipits", params=many)
        assert fields_of(problem_of(response, 422, "invalid-parameters")) == ["track_id"]
