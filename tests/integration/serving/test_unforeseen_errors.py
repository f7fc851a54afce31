"""Whatever fails below a path, callers are told in time, and the next one is served."""

import asyncio
from typing import Any

import orjson
import pytest

from serving.recommend.batching import RequestBatcher
from serving.recommend.service import ReadService
from store import listed, materialised, progress, reads
from tests.integration.serving.asking import body_of
from tests.integration.serving.conftest import Database, ServedClient
from tests.integration.serving.problems import problem_of

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"
KEPT = f"{PATH}?strategy=popular"


class _RouteFailedError(Exception):
    pass


async def _fail(*_: Any, **__: Any) -> Any:
    await asyncio.sleep(0)
    raise _RouteFailedError


async def _never(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("module", "name", "path"),
    [
        (listed, "read_served_lists", PATH),
        (listed, "read_listed_tracks", PATH),
        (materialised, "read_bodies", KEPT),
        (reads, "fetch_track", "/tracks/test%2F00123"),
        (reads, "fetch_track", f"{PATH}/stream"),
        (reads, "read_track_page", "/tracks"),
        (reads, "count_composers", "/composers"),
        (reads, "count_tags", "/tags"),
    ],
)
async def test_an_unforeseen_error_of_the_store_is_told_to_all_who_wait(
    client: ServedClient, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, path: str
) -> None:
    """Five who ask at the same time are each told that it is a defect, and afterwards the path works."""
    async with asyncio.timeout(20):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, _fail)
            responses = await asyncio.gather(*(client.get(path) for _ in range(5)))
        for response in responses:
            problem_of(response, 500, "internal-error")
        if path not in (KEPT, f"{PATH}/stream"):
            assert (await client.get(path)).status_code == 200


async def test_an_unforeseen_error_while_memory_is_checked_is_told(
    client: ServedClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at the version of a list and of a body that memory holds fail likewise."""
    await _keep(database)
    for path, module, name in ((PATH, progress, "fetch_versions"), (KEPT, materialised, "check_bodies")):
        assert (await client.get(path)).status_code == 200
        memory = client.context.memory
        with monkeypatch.context() as patched:
            patched.setattr(module, name, _fail)
            patched.setattr(ReadService, "certain", lambda *_: False)
            responses = await asyncio.gather(*(client.get(path) for _ in range(5)))
        assert {response.status_code for response in responses} == {500}
        assert len(memory) > 0
        assert (await client.get(path)).status_code == 200


async def test_an_unforeseen_error_is_told_to_each_entry_of_a_batch(
    client: ServedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries that needed what failed say so, and the others are answered."""
    monkeypatch.setattr(materialised, "read_bodies", _fail)
    entries = [{"track_id": TRACK, "strategy": "popular"}, {"track_id": TRACK}]
    response = await client.post("/recommend/batch", json={"requests": entries})
    failed, fine = response.json()["results"]
    assert (failed["status"], fine["reference_track"]) == (500, TRACK)


async def test_a_wait_that_nobody_bounded_ends_all_the_same(
    client: ServedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a step below hang, reads and batches end when the longest way there is would have."""
    client.context.recommending.bound = 0.2
    monkeypatch.setattr(RequestBatcher, "get", _never)
    entries = [{"track_id": TRACK, "top_k": top_k} for top_k in range(1, 40)]
    async with asyncio.timeout(10):
        read, batch = await asyncio.gather(
            client.get(PATH), client.post("/recommend/batch", json={"requests": entries})
        )
    problem_of(read, 504, "no-reply")
    assert {result["status"] for result in batch.json()["results"]} == {504}


async def _keep(database: Database) -> None:
    body = body_of({"track_id": TRACK, "strategy": "popular"})
    kept = orjson.dumps(
        {
            k: v
            for k, v in body.items()
            if k not in ("cached", "stale", "behind_seconds", "computation_time_ms")
        }
    )
    await database.execute(
        "INSERT INTO materialised_recommendations (key, strategy, mode, variant, body, tag, members, list_version,"
        " generated_at, heat) SELECT key, 'popular', '', 0, $1, 'W/\"a\"', '{}', version, now(), 1"
        " FROM neighbour_lists JOIN tracks USING (key) WHERE track_id = $2",
        kept,
        TRACK,
    )
