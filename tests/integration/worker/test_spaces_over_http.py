"""The API in front of real workers of two spaces: each answers in its own vectors, from its first request to its end."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from serving.models import ComparisonResponse, ExplanationResponse
from tests.integration.serving.asking import stream
from tests.integration.serving.conftest import ServedClient, serve
from tests.integration.serving.problems import problem_of
from tests.integration.worker.beside import Beside, beside, name_of
from tests.integration.worker.conftest import Line
from tests.integration.worker.over_http import served
from tests.integration.worker.test_spaces import melody, run  # noqa: F401 -- the fixture
from tests.integration.worker.test_switching import stored_lists
from tests.support.polling import until
from tests.support.services import PostgresServer
from tests.support.worker import publish

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

IN_MELODY = {"space": "melody"}


def _path(number: int) -> str:
    return f"/recommend/{name_of(number).replace('/', '%2F')}"


def _body(response: httpx.Response, space: str) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert (body["space"], body["generation"]) == (space, 1)
    return body


def _named(body: dict[str, Any]) -> list[str]:
    return [item["track_id"] for item in body["recommendations"]]


async def test_two_spaces_over_http(
    line: Line,
    postgres_server: PostgresServer,
    melody: Beside,  # noqa: F811 -- the fixture
) -> None:
    """Lists, searches, strategies, changes and one's own writes of both, on an API that began before the space did."""
    async with serve(served(line, postgres_server)) as client:
        problem_of(await client.get(_path(1), params=IN_MELODY), 404, "unknown-space")
        await run(line, "spaces", "promote", "melody/1")
        lists = {
            "default": await stored_lists(line.database_url),
            "melody": await stored_lists(melody.own_url),
        }
        for number in range(20):
            for space, stored in lists.items():
                body = _body(await client.get(_path(number), params={"space": space}), space)
                assert _named(body) == stored[name_of(number)]
        await _computed(client)
        await _own_writes(client, melody)
        await _ends(client, line, melody)


async def _computed(client: ServedClient) -> None:
    """What is computed is of the space's own vectors, whose workers know no other."""
    strategies = {
        space: _named(
            _body(await client.get(_path(1), params={"strategy": "diverse", "space": space}), space)
        )
        for space in ("default", "melody")
    }
    assert strategies["default"] != strategies["melody"]
    explained = await client.get(
        "/explain", params={"seed": name_of(1), "candidate": name_of(2), **IN_MELODY}
    )
    assert ExplanationResponse.model_validate(explained.json()).space == "melody"
    compared = await client.get(f"{_path(1)}/compare", params=IN_MELODY)
    assert ComparisonResponse.model_validate(compared.json()).space == "melody"
    # Of as many components as the vectors of its model have.
    for space, size in (("default", 6), ("melody", 4)):
        vector = {"embedding": [1.0] * size, "space": space}
        _body(await client.post("/recommend", json=vector), space)
    refused = await client.post("/recommend", json={"embedding": [1.0] * 6, "space": "melody"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "embedding")


async def _own_writes(client: ServedClient, melody: Beside) -> None:  # noqa: F811 -- not the fixture
    """A vector that was published is in the next read that names its offset, and in the space's stream alone."""
    async with (
        stream(client, f"{_path(1)}/stream?space=melody") as told,
        stream(client, f"{_path(1)}/stream") as untold,
    ):
        await told.next()
        await untold.next()
        ((partition, offset),) = await publish(melody.line.servers, [beside(1, version=1)], melody.name.topic)
        body = _body(
            await client.get(_path(1), params={"min_offset": f"{partition}:{offset}", **IN_MELODY}), "melody"
        )
        assert (body["source"]["topic"], body["source"]["offset"]) == (melody.name.topic, offset)
        change = await told.next()
        assert (change["data"]["space"], change["data"]["source"]["offset"]) == ("melody", offset)
        assert change["id"].startswith("melody@")
        following = asyncio.create_task(untold.next())
        assert not (await asyncio.wait({following}, timeout=2))[0]
        following.cancel()


async def _ends(client: ServedClient, line: Line, melody: Beside) -> None:  # noqa: F811 -- not the fixture
    """Readers are told that the space is not there before its tables go; those of the other notice nothing."""
    for worker in melody.workers:
        await asyncio.to_thread(worker.stop)
    retiring = asyncio.create_task(run(line, "spaces", "retire", "melody/1", "--yes", "melody/1"))

    async def gone() -> bool:
        answer = await client.get(_path(2), params=IN_MELODY)
        if answer.status_code == 200:
            _body(answer, "melody")
            return False
        problem_of(answer, 404, "unknown-space")
        return True

    await until(gone)
    assert not retiring.done()
    assert client.spaces.open == ["default"]
    # A minute later.
    connection = await asyncpg.connect(line.database_url)
    await connection.execute("UPDATE generations SET served_until = served_until - interval '1 minute'")
    await connection.close()
    assert "retired melody/1" in await retiring
    problem_of(await client.get(_path(2), params=IN_MELODY), 404, "unknown-space")
    _body(await client.get(_path(2)), "default")
