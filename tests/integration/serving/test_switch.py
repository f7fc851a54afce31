"""Another generation begins to serve while readers ask, over real tables of both."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from serving import models
from serving.recommend import offset_watcher
from serving.settings import ServingSettings
from store.roles import grant_reads
from streams.generations import GenerationName
from tests.integration.serving.asking import answering, body_of
from tests.integration.serving.catalogue import ServedCatalogue
from tests.integration.serving.conftest import Database, Served, ServedClient, serve
from tests.integration.serving.gate import Gate
from tests.integration.serving.two_generations import (
    KEPT_STRATEGY,
    SECOND,
    Readers,
    TwoGenerations,
    make_two_generations,
)
from tests.support.polling import until

pytestmark = pytest.mark.integration

PATH = "/recommend/test%2F00123"
BODY = f"/recommend/test%2F00030?strategy={KEPT_STRATEGY}"
QUIET = ServingSettings(health_ttl=0, access_log=False)


@pytest.fixture
async def both(database: Database, catalogue: ServedCatalogue) -> TwoGenerations:
    """Two generations with other lists, of which the first serves."""
    return await make_two_generations(database, catalogue)


@pytest.fixture
async def client(both: TwoGenerations) -> AsyncIterator[ServedClient]:
    """The API over both."""
    async with serve(Served(both.database, QUIET)) as running:
        yield running


async def _generation(client: httpx.AsyncClient, path: str = PATH) -> int:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return int(response.json()["generation"])


async def _checks(client: httpx.AsyncClient) -> dict[str, Any]:
    report = (await client.get("/health/detailed")).json()
    models.HealthReport.model_validate(report)
    checks: dict[str, Any] = report["checks"]
    return checks


async def _connections(both: TwoGenerations) -> int:
    """How many connections the API has."""
    connection = await asyncpg.connect(both.database.url)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'mess-api'",
            both.database.name,
        )
    finally:
        await connection.close()
    return count


async def test_readers_get_the_promoted_generation_whole_and_never_the_other_again(
    both: TwoGenerations, client: ServedClient
) -> None:
    """There and back, while they ask in seven ways: no answer fails or mixes, and once the new one is seen nobody gets the old."""
    async with Readers(both, client).asking() as readers:
        await readers.total(100)
        for number in (2, 1, 2, 1):
            await readers.promote(number)
            await readers.settled()
            await readers.total(100)
    kinds = {kind for kind, _ in readers.answers}
    assert readers.answers.keys() == {(kind, number) for kind in kinds for number in (1, 2)}
    assert len(kinds) == 7
    assert client.context.generation == GenerationName()
    # What served before is closed.
    await until(lambda: _has_connections_of_one(both))


async def _has_connections_of_one(both: TwoGenerations) -> bool:
    return await _connections(both) <= Served(both.database).pool_max_size


async def test_promotions_that_follow_each_other_at_once_end_with_the_last(
    both: TwoGenerations, client: ServedClient
) -> None:
    """However soon the next one comes: no answer fails or mixes, and in the end all are of the last one."""
    async with Readers(both, client, possible={1, 2}, ordered=False).asking() as readers:
        for pause in (0.0, 0.0, 0.01, 0.02, 0.04, 0.06, 0.0):
            await readers.promote(3 - readers.promoted[-1])
            await asyncio.sleep(pause)
        assert readers.promoted[-1] == 2
        await until(lambda: client.context.generation == SECOND)
        # A poll of before the last promotion may still be under way.
        await asyncio.sleep(0.3)
        readers.possible = {2}
        await readers.total(200)
    await until(lambda: _has_connections_of_one(both))


@pytest.mark.parametrize(
    ("path", "body"),
    [(PATH, None), (BODY, None), ("/tracks/test%2F00123", None), ("/recommend", {"track_id": "test/00123"})],
    ids=["list", "body", "track", "posted"],
)
async def test_the_first_reader_after_a_quiet_time_gets_the_generation_that_serves(
    both: TwoGenerations, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, str] | None
) -> None:
    """Nobody has asked since the promotion, and polls are rare: the first answer is of the new generation all the same."""
    monkeypatch.setattr(offset_watcher, "_UNATTENDED", 60.0)
    monkeypatch.setattr(offset_watcher, "_ATTENDED", 0.1)

    async def ask() -> int:
        response = await (client.get(path) if body is None else client.post(path, json=body))
        assert response.status_code == 200, response.text
        answer = response.json()
        if "generation" in answer:
            return both.check(answer)
        return 2 if answer["source"]["topic"] == SECOND.topic else 1

    async with serve(Served(both.database, QUIET)) as client:
        for number in (2, 1, 2):
            # A memory that has the answer does not give it, either.
            assert await ask() == await ask() == 3 - number
            await until(lambda: not client.context.recommending.watch.trusted(time.perf_counter()))
            await asyncio.sleep(0.2)
            await both.promote(number)
            assert await ask() == number


async def test_a_body_of_another_generation_is_not_taken_for_current(
    database: Database, catalogue: ServedCatalogue
) -> None:
    """Though both store the same bytes and the same tag, a reader who has the one gets the other after the switch."""
    both = await make_two_generations(database, catalogue, alike=True)
    async with serve(Served(both.database, QUIET)) as client:
        first = await client.get(BODY)
        same = await client.get(BODY, headers={"if-none-match": first.headers["etag"]})
        assert (first.json()["generation"], same.status_code) == (1, 304)
        await both.promote(2)
        await until(lambda: client.context.generation == SECOND)
        second = await client.get(BODY, headers={"if-none-match": first.headers["etag"]})
        assert (second.status_code, second.json()["generation"]) == (200, 2)
        assert second.json()["recommendations"] == first.json()["recommendations"]
        same = await client.get(BODY, headers={"if-none-match": second.headers["etag"]})
        assert same.status_code == 304


async def test_a_generation_that_may_not_be_read_leaves_the_one_of_before_serving(
    both: TwoGenerations, client: ServedClient
) -> None:
    """Readers notice nothing; the log and `/health/detailed` say why, until the role has its rights."""
    with capture_logs() as lines:
        async with Readers(both, client).asking() as readers:
            await readers.promote(2, both.turn)
            await until(lambda: client.exchange.trouble is not None)
            await readers.total(100)
            assert all(number == 1 for _, number in readers.answers)
            check = (await _checks(client))["generation"]
            assert (check["status"], check["generation"]) == ("degraded", 1)
            for said in (
                "default/2 should serve",
                "default/1 does",
                "schema mess_default_2",
                "mess roles grant",
            ):
                assert said in check["detail"]
            await _grant(both)
            await readers.settled()
        assert (await _checks(client))["generation"] == {
            "status": "ok",
            "detail": "default/2 serves",
            "space": "default",
            "generation": 2,
        }
    told = [line for line in lines if line["event"] == "a generation cannot be served"]
    assert [(line["generation"], line["log_level"]) for line in told] == [("default/2", "warning")]


async def test_a_table_that_may_not_be_read_is_found_before_the_switch(
    both: TwoGenerations, client: ServedClient
) -> None:
    """A role with some rights only would fail at a reader's question; going back ends the trouble."""
    await _grant(both)
    (role,) = await _fetch(
        both,
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants WHERE table_schema = 'mess_default_2' AND grantee <> grantor",
    )
    await both.database.execute(f'REVOKE SELECT ON mess_default_2.map_positions FROM "{role}"')
    await both.turn(2)
    await until(lambda: client.exchange.trouble is not None)
    assert "may not read map_positions" in (await _checks(client))["generation"]["detail"]
    assert await _generation(client) == 1
    await both.turn(1)
    await until(lambda: client.exchange.trouble is None)
    assert (await _checks(client))["generation"]["status"] == "ok"


async def _grant(both: TwoGenerations) -> None:
    async with asyncpg.create_pool(both.database.url, min_size=1, max_size=1) as pool:
        (role,) = await _fetch(
            both,
            "SELECT DISTINCT grantee FROM information_schema.role_table_grants"
            " WHERE table_schema = 'public' AND table_name = 'neighbour_lists' AND grantee <> grantor",
        )
        await grant_reads(pool, role)


async def _fetch(both: TwoGenerations, statement: str) -> list[str]:
    connection = await asyncpg.connect(both.database.url)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_a_process_starts_with_the_generation_that_serves(both: TwoGenerations) -> None:
    """Its first answer is of it; without rights to read it the first generation serves, and is said to."""
    await both.turn(2)
    async with serve(Served(both.database, QUIET)) as client:
        assert await _generation(client) == 1
        assert (await _checks(client))["generation"]["status"] == "degraded"
    await both.turn(1)
    await both.promote(2)
    async with serve(Served(both.database, QUIET)) as client:
        assert await _generation(client) == 2
        assert (await _checks(client))["generation"]["status"] == "ok"


async def test_a_slow_postgres_delays_a_switch_and_fails_nobody(both: TwoGenerations) -> None:
    """Each answer of Postgres takes a while: readers wait, and get one generation or the other."""
    async with (
        Gate(both.database.api_url) as gate,
        serve(Served(gate.before(both.database), QUIET)) as client,
    ):
        gate.delay = 0.15
        async with Readers(both, client).asking() as readers:
            for number in (2, 1):
                await readers.promote(number)
                await readers.settled()


async def test_a_postgres_that_goes_away_during_a_switch_is_asked_again(both: TwoGenerations) -> None:
    """Memory answers meanwhile, marked stale; when Postgres is back, the new generation serves."""
    async with (
        Gate(both.database.api_url) as gate,
        serve(Served(gate.before(both.database), QUIET)) as client,
    ):
        assert await _generation(client) == 1
        gate.delay = 0.1
        await both.promote(2)
        await until(lambda: client.context.recommending.watch.seen.serving["default"] == SECOND)
        await gate.close()
        await until(lambda: client.exchange.trouble is not None)
        response = await client.get(PATH)
        assert (response.json()["generation"], response.json()["stale"]) == (1, True)
        gate.delay = 0.0
        await gate.open()
        await until(lambda: client.context.generation == SECOND)
        assert await _generation(client) == 2


async def test_a_process_stops_while_a_context_is_opened(both: TwoGenerations) -> None:
    """Nothing of either generation is left open."""
    async with asyncio.timeout(15):
        async with (
            Gate(both.database.api_url) as gate,
            serve(Served(gate.before(both.database), QUIET)) as client,
        ):
            gate.delay = 0.3
            await both.promote(2)
            await until(lambda: client.context.recommending.watch.seen.serving["default"] == SECOND)
            assert client.context.generation == GenerationName()
        await until(lambda: _has_no_connections(both))


async def _has_no_connections(both: TwoGenerations) -> bool:
    return await _connections(both) == 0


async def test_what_a_request_has_is_closed_after_it(both: TwoGenerations, client: ServedClient) -> None:
    """A question that a worker of the old generation is answering gets its answer long after the switch."""
    async with answering(both.database, "one") as old, answering(both.of(SECOND), "two") as new:
        old.reply = lambda _: None
        new.reply = lambda request: {"status": "ok", **body_of(request, generation=2)}
        seeds = {"seeds": ["test/00123", "test/00124"]}
        waiting = asyncio.create_task(client.post("/recommend", json=seeds))
        (request,) = await old.asked(1)
        before = client.context
        await both.promote(2)
        await until(lambda: client.context.generation == SECOND)
        assert (await client.post("/recommend", json=seeds)).json()["generation"] == 2
        assert (await _generation(client), before.requests) == (2, 1)
        old.reply = lambda _: {"status": "ok", **body_of(request, generation=1)}
        assert (await waiting).json()["generation"] == 1
        await until(before.pool.is_closing)


async def test_health_and_metrics_are_of_what_serves(both: TwoGenerations) -> None:
    """Workers, counts, lag and connections are the new generation's; what memory answered before is not forgotten."""
    ends = _NotedEnds()
    settings = ServingSettings(health_ttl=0, lag_degraded=0)
    async with serve(Served(both.database, settings, ends)) as client, answering(both.of(SECOND), "two"):
        assert (await _checks(client))["consumer_lag"]["lag"] == 0
        await _generation(client)
        registry = client.context.metrics.registry
        before = client.context
        while before.memory.hits < 3:
            await _generation(client)
        await both.promote(2)
        await until(lambda: client.context.generation == SECOND)
        await both.database.execute("DELETE FROM mess_default_2.tracks WHERE track_id = 'test/00123'")
        checks = await _checks(client)
        assert [worker["name"] for worker in checks["workers"]["workers"]] == ["two"]
        assert (checks["broker"]["detail"], checks["consumer_lag"]["lag"]) == (
            f"{SECOND.topic} has 8 partitions",
            8,
        )
        assert checks["catalogue"]["tracks"] == len(both.catalogues[2].tracks) - 1
        await client.get("/metrics")
        assert (registry.get_sample_value("mess_api_reads_total", {"source": "memory"}) or 0) >= 3
        open_now = registry.get_sample_value("mess_api_store_connections", {"state": "open"})
        assert open_now == client.context.pool.get_size()
        assert registry.get_sample_value("mess_api_memory", {"what": "entries"}) == len(client.context.memory)


class _NotedEnds:
    """Topics of eight partitions, of which the second generation's have one message more than is consumed."""

    def __init__(self) -> None:
        self._ends = {partition: len(range(partition, 300, 8)) for partition in range(8)}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        return {p: end + (topic == SECOND.topic) for p, end in self._ends.items()}

    async def close(self) -> None:
        """Nothing is open."""
