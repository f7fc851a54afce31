"""The API in front of a real worker: what `test_recommendations` checks of the two together."""

from typing import Any

import httpx

from serving.models import ComparisonResponse, ExplanationResponse, RecommendationBody
from serving.settings import ServingSettings
from streams.strategies import registry
from tests.integration.serving.asking import stream
from tests.integration.serving.conftest import Database, Served, ServedClient, serve
from tests.integration.worker.conftest import Line
from tests.support.polling import until
from tests.support.services import PostgresServer
from tests.support.worker import publish, track_message


def served(line: Line, server: PostgresServer) -> Served:
    """The API over the worker's database and broker."""
    database = Database("", line.database_url, server.api_url_of(line.database_url))
    options = {"bootstrap_servers": line.servers}
    return Served(
        database,
        ServingSettings(health_ttl=0, min_offset_wait=20.0),
        kafka_options=options,
    )


def _path(track_id: str) -> str:
    return f"/recommend/{track_id.replace('/', '%2F')}"


def _body(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    RecommendationBody.model_validate(body)
    return body


async def check_every_strategy(client: ServedClient, track_id: str) -> None:
    """Each strategy is computed once, kept, and read from then on, with the same items."""
    for strategy in registry.STRATEGIES:
        for mode in (mode.name for mode in strategy.modes):
            params = {"strategy": strategy.name, **({"mode": mode} if mode else {})}
            first = _body(await client.get(_path(track_id), params=params))
            assert (first["strategy"], first["mode"]) == (strategy.name, mode)
            assert len(first["recommendations"]) == 10
            assert all(item["explanation"] for item in first["recommendations"])

            async def kept(params: dict[str, str] = params) -> bool:
                return bool(_body(await client.get(_path(track_id), params=params))["cached"])

            await until(kept)


async def check_questions(client: ServedClient, track_id: str, other: str) -> None:
    """Filters that nobody meets are given up and named; explanations and comparisons are the contract's."""
    relaxed = _body(await client.get(f"{_path(track_id)}?form=none%20such&at_least=5"))
    assert relaxed["relaxed"] == ["filters.form"]
    assert len(relaxed["recommendations"]) >= 5
    strict = _body(await client.get(f"{_path(track_id)}?form=none%20such&at_least=0"))
    assert (strict["recommendations"], strict["relaxed"]) == ([], [])
    seeds = {"seeds": [track_id, {"track_id": other, "weight": 2}], "caps": {"composer": 2}}
    several = _body(await client.post("/recommend", json=seeds))
    assert all(item["seed"] in {track_id, other} for item in several["recommendations"])
    explained = await client.get("/explain", params={"seed": track_id, "candidate": other, "top_k": 50})
    assert ExplanationResponse.model_validate(explained.json()).placement.candidate == other
    compared = ComparisonResponse.model_validate((await client.get(f"{_path(track_id)}/compare")).json())
    assert {found.strategy for found in compared.comparison.lists} >= {"similarity", "diverse", "popular"}
    refused = await client.post("/recommend", json={"embedding": [1.0, 2.0]})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "embedding")


async def check_own_writes(client: ServedClient, line: Line, near: str, vector: Any) -> None:
    """What was published is in the very next read that names its offset, and is pushed to who follows."""
    async with stream(client, f"{_path(near)}/stream") as events:
        await events.next()
        (partition, offset), *_ = await publish(
            line.servers, [track_message("http/new", vector, title="New", composer="Nobody")]
        )
        body = _body(await client.get(f"{_path('http/new')}?min_offset={partition}:{offset}"))
        assert (body["reference_metadata"]["title"], len(body["recommendations"])) == ("New", 10)
        body = _body(await client.get(f"{_path(near)}?min_offset={partition}:{offset}"))
        assert "http/new" in {item["track_id"] for item in body["recommendations"]}
        change = await events.next()
        while "http/new" not in (change["data"]["added"] or []):
            change = await events.next()
        assert change["data"]["source"]["topic"] == "track-ingest"
        ((partition, offset),) = await publish(line.servers, [(b"http/new", None)])
        body = _body(await client.get(f"{_path(near)}?min_offset={partition}:{offset}"))
        assert "http/new" not in {item["track_id"] for item in body["recommendations"]}
        assert (await client.get(_path("http/new"))).status_code == 404


async def check_all(line: Line, server: PostgresServer, names: list[str], vector: Any) -> None:
    """Everything, on one API."""
    async with serve(served(line, server)) as client:
        await check_every_strategy(client, names[0])
        await check_questions(client, names[0], names[1])
        await check_own_writes(client, line, names[0], vector)
