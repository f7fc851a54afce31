"""A generation beside the catalogue: filled from a topic of its own, exact, and gone when it is retired."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial

import asyncpg
import pytest
from typer.testing import CliRunner

from mess.cli import build_cli
from mess.spaces import comparison
from store import generations
from store.pool import open_pool
from streams.generations import TRACK_INGEST, GenerationName
from streams.kafka.clients import admin_client
from streams.kafka.topics import partition_counts
from tests.integration.worker.beside import (
    TRACKS,
    Beside,
    beside,
    cleared,
    generation_of,
    in_catalogue,
    name_of,
    store_of,
)
from tests.integration.worker.conftest import Line
from tests.support.polling import until
from tests.support.worker import publish, read_topic, settle, wrong_lists

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
async def generation(line: Line) -> AsyncIterator[Beside]:
    """A new generation, without workers."""
    async with generation_of(line) as made:
        yield made


async def test_a_generation_is_filled_beside_the_catalogue(line: Line, generation: Beside) -> None:
    """Its lists are exact, its tracks are the catalogue's, and readers and feed are told of nothing."""
    await publish(line.servers, [in_catalogue(i) for i in range(TRACKS)])
    worker = generation.another_worker()
    # Some come before their track, which is then waited for; one has none.
    await generation.publish([beside(i) for i in range(60)])
    await generation.publish([beside(900), beside(1, model="m-3"), beside(2, size=5)])
    await generation.until_has(60)
    assert await wrong_lists(generation.own_url) == []
    assert (await generation.titles())[name_of(7)] == "Title 7"
    letters = await generation.letters()
    reasons = {key: headers["mess.error"] for key, headers in letters.items()}
    assert reasons == {
        name_of(900): b"unknown_track",
        name_of(1): b"wrong_model",
        name_of(2): b"wrong_dimension",
    }
    assert b"generation default/2" in letters[name_of(1)]["mess.detail"]
    assert b"mess spaces create" in letters[name_of(2)]["mess.detail"]

    await changes_of_the_catalogue(line, generation)

    # A worker that dies leaves nothing behind that the next one does not find.
    await generation.publish([beside(i, version=1) for i in range(20, 70)])
    worker.kill()
    generation.another_worker()
    await generation.until_has(68)
    assert await wrong_lists(generation.own_url) == []

    # The catalogue has gone its own way.
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []
    feed = await read_topic(line.servers, "recommendations")
    sources = {json.loads(change.value)["source"]["topic"] for change in feed if change.value}
    assert sources == {"track-ingest"}


async def changes_of_the_catalogue(line: Line, generation: Beside) -> None:
    """What the catalogue changes and withdraws reaches the generation; its own tombstones take vectors alone."""
    await publish(line.servers, [in_catalogue(3, title="Other"), (name_of(4).encode(), None)])
    await generation.publish([(name_of(5).encode(), None)])
    await generation.until_has(58)

    async def renamed() -> bool:
        return (await generation.titles())[name_of(3)] == "Other 3"

    await until(renamed)
    assert name_of(4) not in await generation.titles()
    assert await wrong_lists(generation.own_url) == []
    await a_track_that_comes_back(line, generation)
    status = await generation.status()
    assert (status.counts.tracks, status.counts.missing) == (TRACKS - 1, 11)
    assert status.counts.first_missing[0] == name_of(5)


async def a_track_that_comes_back(line: Line, generation: Beside) -> None:
    """Its old vector is gone, however soon it is back, and a new one stays."""
    await publish(line.servers, [(name_of(6).encode(), None)])
    connection = await asyncpg.connect(line.database_url)
    try:

        async def gone() -> bool:
            sought = "SELECT count(*) FROM tracks WHERE track_id = $1"
            return not await connection.fetchval(sought, name_of(6))

        await until(gone, 0.01)
    finally:
        await connection.close()
    await publish(line.servers, [in_catalogue(6)])
    await generation.until_has(57)
    await generation.publish([beside(6, version=2)])
    await generation.until_has(58)


async def test_a_generation_is_built_from_the_log_of_another_compared_and_retired(line: Line) -> None:
    """It has the same lists, and those of what comes; what is retired leaves no table and no topic, and asks twice."""
    environment = {
        "MESS_DATABASE_URL": line.database_url,
        "MESS_KAFKA_BOOTSTRAP_SERVERS": line.servers,
        "MESS_CONSUMER_GROUP": line.broker.group,
    }
    await publish(line.servers, [in_catalogue(i) for i in range(TRACKS)])
    await publish(line.servers, [(name_of(59).encode(), None)])
    await settle(line.database_url, line.servers)
    code, told = await mess(environment, "spaces", "create", "--from-log", "default/1")
    assert code == 0, told
    name = GenerationName.parse(told.split()[1].rstrip(","))
    async with await open_pool(store_of(line), application_name="test") as pool:
        made = await generations.find_generation(pool, name)
    async with cleared(Beside(line, made)) as generation:
        await check_built(line, generation, environment)


async def mess(environment: Mapping[str, str], *words: str) -> tuple[int, str]:
    """A command, as a person gives it: its exit code, and what it says."""
    done = await asyncio.to_thread(CliRunner().invoke, build_cli(), words, env=dict(environment))
    return done.exit_code, done.output


async def check_built(line: Line, generation: Beside, environment: Mapping[str, str]) -> None:
    """What came to the log since is copied by a command more; then nothing is missing, and no list differs."""
    generation.another_worker()
    await generation.until_has(TRACKS - 1)
    await publish(line.servers, [in_catalogue(i) for i in range(58, TRACKS)])
    await settle(line.database_url, line.servers)
    code, told = await mess(environment, "topics", "copy", TRACK_INGEST, generation.name.topic)
    assert (code, told.startswith(f"{TRACKS - 58} messages")) == (0, True), told
    await generation.until_has(TRACKS)
    code, told = await mess(environment, "spaces", "create", "--from-log", "default/9")
    assert (code, "there is no generation default/9" in told) == (2, True)
    first = GenerationName()
    async with await open_pool(store_of(line), application_name="test") as pool:
        found = await comparison.compare(pool, first, generation.name, sample=1_000)
    assert (found.common, found.compared) == (TRACKS, TRACKS)
    assert found.overlap == pytest.approx(1.0)
    assert found.rank_biased == pytest.approx(1.0)
    assert [(each.left == each.right, each.tracks) for each in found.labels if each.label == "composer"] == [
        (True, TRACKS)
    ]
    await check_commands(generation, environment)


async def check_commands(generation: Beside, environment: Mapping[str, str]) -> None:
    """The commands, as a person gives them."""

    def run(*words: str, answers: str = "") -> tuple[int, str]:
        done = CliRunner().invoke(build_cli(), ["spaces", *words], env=dict(environment), input=answers)
        return done.exit_code, done.output

    name = str(generation.name)
    code, told = await asyncio.to_thread(run, "status", name)
    assert code == 0, told
    assert "lag: 0 events" in told
    code, told = await asyncio.to_thread(run, "list")
    assert name in told
    assert "serving" in told

    audit = partial(mess, environment, "audit")

    code, told = await audit("--of", name)
    assert (code, "1.000000" in told) == (0, True), told
    code, told = await audit("--against", name)
    assert (code, told.strip()) == (0, f"lists of default/1 and {name}: {TRACKS} equal, 0 different")
    await lists_that_differ(generation, audit)
    code, told = await asyncio.to_thread(run, "compare", "default/1", name)
    assert "overlap@50 1.000" in told
    assert (await asyncio.to_thread(run, "retire", name, answers="y\ndefault/1\n"))[0] == 1
    code, told = await asyncio.to_thread(run, "retire", name, "--yes", name)
    assert (code, "still run" in told) == (2, True)
    for worker in generation.workers:
        worker.stop()
    code, told = await asyncio.to_thread(run, "retire", name, answers=f"y\n{name}\n")
    assert code == 0, told
    async with admin_client(generation.kafka) as client:
        assert generation.name.topic not in await partition_counts(client)
    code, told = await asyncio.to_thread(run, "status", name)
    assert (code, "was retired on" in told) == (2, True)
    assert (await asyncio.to_thread(run, "retire", "default/1", "--yes", "default/1"))[0] == 2


async def lists_that_differ(generation: Beside, audit: Callable[..., Awaitable[tuple[int, str]]]) -> None:
    """A list that is another is told, with its track."""
    connection = await asyncpg.connect(generation.own_url)
    try:
        before = await connection.fetch("SELECT key, neighbours FROM neighbour_lists")
        keys = {
            row["track_id"]: row["key"] for row in await connection.fetch("SELECT track_id, key FROM tracks")
        }
        spoiled = keys[name_of(3)]
        await connection.execute(
            "UPDATE neighbour_lists SET neighbours = neighbours[2:] || neighbours[1] WHERE key = $1", spoiled
        )
        code, told = await audit("--against", str(generation.name))
        assert code == 1
        assert f"{TRACKS - 1} equal, 1 different" in told
        assert name_of(3) in told
        stored = {row["key"]: row["neighbours"] for row in before}
        await connection.execute(
            "UPDATE neighbour_lists SET neighbours = $2 WHERE key = $1", spoiled, stored[spoiled]
        )
    finally:
        await connection.close()
