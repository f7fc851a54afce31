"""Two generations with workers of their own: either can answer at any time, and the one that serves does."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import asyncpg
import pytest

from streams.contracts import RecommendationReply
from tests.integration.worker.beside import (
    TRACKS,
    Beside,
    beside,
    generation_of,
    in_catalogue,
    name_of,
)
from tests.integration.worker.conftest import Line
from tests.integration.worker.test_recommendations import TopicClient, client_of
from tests.support.generations import let_serve
from tests.support.polling import until
from tests.support.services import unique_name
from tests.support.worker import WorkerProcess, publish, settle

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
async def generation(line: Line) -> AsyncIterator[Beside]:
    """A generation with a vector of every track of the catalogue, and two workers."""
    async with generation_of(line) as made:
        await publish(line.servers, [in_catalogue(i) for i in range(TRACKS)])
        await settle(line.database_url, line.servers)
        await made.publish([beside(i) for i in range(TRACKS)])
        for _ in range(2):
            made.another_worker()
        await made.until_has(TRACKS)
        await until(lambda: _answering(made, 2))
        try:
            yield made
        finally:
            await let_serve(line.database_url, 1)


async def _answering(generation: Beside, count: int) -> bool:
    return len(await workers_of(generation)) == count


async def workers_of(generation: Beside) -> list[tuple[str, str]]:
    """URL and token of the workers of a generation that answer questions, as the API finds them."""
    connection = await asyncpg.connect(generation.own_url)
    try:
        rows = await connection.fetch(
            "SELECT questions_url, questions_token FROM worker_lives "
            "WHERE ended_at IS NULL AND questions_url IS NOT NULL ORDER BY worker"
        )
        return [(row[0], row[1]) for row in rows]
    finally:
        await connection.close()


async def ask_directly(worker: tuple[str, str], **fields: Any) -> RecommendationReply:
    """Ask one worker, as the API does."""
    url, token = worker
    asked = {"request_id": unique_name("direct"), **fields}
    request = urllib.request.Request(
        url, json.dumps(asked).encode(), {"Authorization": f"Bearer {token}"}, method="POST"
    )

    def answer() -> bytes:
        with urllib.request.urlopen(request, timeout=30) as reply:
            body: bytes = reply.read()
            return body

    return RecommendationReply.model_validate_json(await asyncio.to_thread(answer))


async def stored_lists(url: str) -> dict[str, list[str]]:
    """By track, its first ten neighbours in the tables of a generation."""
    connection = await asyncpg.connect(url)
    try:
        names = {row[0]: row[1] for row in await connection.fetch("SELECT key, track_id FROM tracks")}
        rows = await connection.fetch("SELECT key, neighbours FROM neighbour_lists")
        return {names[row[0]]: [names[key] for key in row[1][:10]] for row in rows}
    finally:
        await connection.close()


def named(reply: RecommendationReply) -> list[str]:
    """The tracks that a reply recommends."""
    assert reply.error is None, reply.error
    return [item.track_id for item in reply.recommendations or []]


def count_of(worker: WorkerProcess, outcome: str) -> float:
    """How many requests a worker has counted under an outcome."""
    return worker.metrics().get(f"mess_recommendation_requests_total{{outcome={outcome}}}", 0.0)


async def until_noticed(line: Line, generation: Beside) -> None:
    """Wait until every worker has noticed who serves now."""

    def last(worker: WorkerProcess) -> bool:
        lines = [each for each in worker.log.read_text().splitlines() if "this generation" in each]
        return bool(lines) and "this generation serves" in lines[-1]

    connection = await asyncpg.connect(line.database_url)
    number = await connection.fetchval("SELECT number FROM generations WHERE serving")
    await connection.close()
    await until(
        lambda: (
            last(line.worker) == (number == 1)
            and all(last(each) == (number == generation.name.number) for each in generation.workers)
        )
    )


async def test_requests_around_a_switch_are_all_answered(line: Line, generation: Beside) -> None:
    """Before, during and after; afterwards by the generation that serves; back again likewise; late ones by nobody."""
    second = generation.name.number
    lists = {1: await stored_lists(line.database_url), second: await stored_lists(generation.own_url)}
    # Before the switch its workers answer who asks them.
    for worker in await workers_of(generation):
        reply = await ask_directly(worker, track_id=name_of(1), strategy="similarity")
        assert (reply.space, reply.generation) == ("default", second)
        assert named(reply) == lists[second][name_of(1)] != lists[1][name_of(1)]
        assert reply.source is not None
        assert reply.source.topic == generation.name.topic

    async with client_of(line) as client:
        await until_noticed(line, generation)
        early = [
            await client.put(track_id=name_of(i), strategy="similarity", timeout_ms=8_000) for i in range(30)
        ]
        for request_id in early:
            assert (await client.replies(request_id))[0].generation == 1
        await until(lambda: sum(count_of(each, "left") for each in generation.workers) >= len(early))

        for number in (second, 1):
            await check_switch(line, generation, client, lists, number)
        # What was over before a switch is answered only once.
        assert {len(client.raw[request_id]) for request_id in early} == {1}


async def check_switch(
    line: Line, generation: Beside, client: TopicClient, lists: dict[int, dict[str, list[str]]], number: int
) -> None:
    """Ask all the time while another generation begins to serve."""
    asked: dict[str, str] = {}
    stopped = asyncio.Event()

    async def ask_on() -> None:
        while not stopped.is_set():
            track = name_of(len(asked) % TRACKS)
            limit = {"timeout_ms": 60_000} if len(asked) % 2 else {}
            asked[await client.put(track_id=track, strategy="similarity", **limit)] = track
            await asyncio.sleep(0.02)

    asking = asyncio.create_task(ask_on())
    await until(lambda: len(asked) > 30)
    await let_serve(generation.line.database_url, number)
    await until_noticed(line, generation)
    before = len(asked)
    await until(lambda: len(asked) > before + 30)
    stopped.set()
    await asking
    for at, (request_id, track) in enumerate(asked.items()):
        replies = await client.replies(request_id)
        for reply in replies:
            assert reply.generation in lists
            assert named(reply) == lists[reply.generation][track]
        if at > before:
            assert {reply.generation for reply in replies} == {number}


async def test_changed_metadata_reach_every_search_of_a_generation(line: Line, generation: Beside) -> None:
    """Filters and answers have them, kept ones too, whichever worker wrote them to the generation's tables."""
    workers = await workers_of(generation)
    asked = {"track_id": name_of(1), "strategy": "similarity", "top_k": 50}
    near = [int(name.rpartition("/")[2]) for name in named(await ask_directly(workers[0], **asked))]
    for worker in workers:
        assert {f"Title {number}" for number in near} == await _titles(worker, asked)
    wanted = {**asked, "filters": {"composer": "Verdi"}}
    for round_ in range(3):
        numbers = near[round_ * 5 :][:5]
        events = [in_catalogue(number, title=f"Other{round_}") for number in numbers]
        verdis = [json.loads(value) | {"composer": "Verdi"} for _, value in events]
        await publish(
            line.servers,
            [(key, json.dumps(event).encode()) for (key, _), event in zip(events, verdis, strict=True)],
        )
        for worker in workers:
            await until(partial(_finds, worker, wanted, {name_of(number) for number in numbers}))
            await until(partial(_shows, worker, asked, {f"Other{round_} {number}" for number in numbers}))
    # A vector that comes again has the metadata of now.
    again = near[0]
    await generation.publish([beside(again, version=5)])
    await generation.until_has(TRACKS)
    for worker in workers:
        assert await _finds(worker, wanted, {name_of(again)})


async def _titles(worker: tuple[str, str], asked: dict[str, Any]) -> set[str]:
    reply = await ask_directly(worker, **asked)
    assert reply.error is None, reply.error
    return {str(item.title) for item in reply.recommendations or []}


async def _finds(worker: tuple[str, str], asked: dict[str, Any], wanted: set[str]) -> bool:
    return wanted <= set(named(await ask_directly(worker, **asked)))


async def _shows(worker: tuple[str, str], asked: dict[str, Any], wanted: set[str]) -> bool:
    return wanted <= await _titles(worker, asked)
