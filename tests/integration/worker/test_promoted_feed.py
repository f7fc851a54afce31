"""The change feed while generations take turns in serving: it ends with the lists of the one that serves, and is exact."""

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import numpy as np
import pytest
from aiokafka import ConsumerRecord

from store.pool import open_pool, transaction
from store.promotion import promote_generation
from streams.contracts import track_key
from streams.generations import FIRST_GENERATION, GenerationName
from tests.integration.worker.beside import Beside, beside, generation_of, in_catalogue, name_of, store_of
from tests.integration.worker.conftest import Line
from tests.support.feed import feed_faults, unexplained_switches
from tests.support.polling import until
from tests.support.worker import publish, read_topic, settle, track_message

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TRACKS = 60
# The last ones are not in the other generation.
COMMON = 57


@pytest.fixture
async def filled(line: Line) -> AsyncIterator[Beside]:
    """Two generations with a worker each, and lists of the same tracks."""
    async with generation_of(line) as generation:
        yield await fill(line, generation)


async def fill(line: Line, generation: Beside) -> Beside:
    """Publish the tracks of both, and wait for their lists."""
    await publish(line.servers, [in_catalogue(i) for i in range(TRACKS)])
    await settle(line.database_url, line.servers)
    generation.another_worker()
    await generation.publish([beside(i) for i in range(COMMON)])
    await generation.until_has(COMMON)
    return generation


async def promote(line: Line, name: GenerationName) -> None:
    """Let a generation serve."""
    async with (
        await open_pool(store_of(line), application_name="test") as pool,
        transaction(pool) as connection,
    ):
        await promote_generation(connection, name)


async def messages(line: Line, topic: str = "recommendations") -> list[ConsumerRecord]:
    """What a feed has, which is exact."""
    found = await read_topic(line.servers, topic)
    assert feed_faults(found) == []
    return found


async def until_told(
    line: Line, url: str, number: int, topic: str = "recommendations"
) -> list[dict[str, Any]]:
    """Wait until a feed's last message of each track is a generation's list; returns these messages."""
    last: dict[str, Any] = {}

    async def told() -> bool:
        nonlocal last
        last = {r.key.decode(): r.value and json.loads(r.value) for r in await messages(line, topic)}
        last = {name: change for name, change in last.items() if change}
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(
                "SELECT track_id, version, l.neighbours FROM tracks JOIN neighbour_lists AS l USING (key)"
            )
        finally:
            await connection.close()
        stored = {row[0]: (number, row[1], list(row[2])) for row in rows}
        return stored == {
            name: (c["generation"], c["version"], [track_key(n["track_id"]) for n in c["recommendations"]])
            for name, c in last.items()
        }

    await until(told, 0.5)
    return list(last.values())


async def changing(line: Line, generation: Beside) -> AsyncIterator[None]:
    """Changes both generations' vectors, a few tracks with each step."""
    for turn in itertools.count(1):
        some = [(turn * 7 + i) % COMMON for i in range(5)]
        vectors = np.random.default_rng(turn).standard_normal((len(some), 6))
        tracks = [track_message(name_of(i), v, title="Title") for i, v in zip(some, vectors, strict=True)]
        await publish(line.servers, tracks)
        await generation.publish([beside(i, version=turn) for i in some])
        yield


async def switch(line: Line, names: Sequence[GenerationName], pauses: Sequence[float]) -> None:
    """Promote one after the other."""
    for name, pause in zip(names, pauses, strict=True):
        await promote(line, name)
        await asyncio.sleep(pause)


async def test_the_feed_follows_whichever_generation_serves(line: Line, filled: Beside) -> None:
    """Back and forth, slow and quick, while events come: the last lists are told, each message is exact."""
    first = await until_told(line, line.database_url, 1)
    assert {change["reason"] for change in first} == {None}

    changes = changing(line, filled)
    switching = asyncio.create_task(
        switch(
            line,
            [filled.name, FIRST_GENERATION, filled.name, FIRST_GENERATION, filled.name],
            [3.0, 0.05, 0.4, 2.0, 1.0],
        )
    )
    while not switching.done():
        await anext(changes)
        await asyncio.sleep(0.2)
    await switching
    await settle(line.database_url, line.servers)
    await filled.until_has(COMMON)
    second = await until_told(line, filled.own_url, filled.name.number)
    assert len(second) == COMMON
    assert {change["source"]["topic"] for change in second} == {filled.name.topic}
    gone = {record.key.decode() for record in await messages(line) if record.value is None}
    assert {name_of(i) for i in range(COMMON, TRACKS)} <= gone

    # Nothing but the promotion changes: that is why each list is told.
    await promote(line, FIRST_GENERATION)
    third = await until_told(line, line.database_url, 1)
    assert len(third) == TRACKS
    assert unexplained_switches(await messages(line)) == []
    assert {c["reason"] for c in third if c["track_id"] < name_of(COMMON)} == {"promoted"}


async def test_a_frozen_worker_loses_its_right_with_its_lease(line: Line, filled: Beside) -> None:
    """The other generation publishes in its stead, and what it still had to say when it woke is not said."""
    await until_told(line, line.database_url, 1)
    process = line.worker.process
    assert process is not None
    await publish(line.servers, [in_catalogue(i, title="Frozen") for i in range(TRACKS)])
    process.send_signal(signal.SIGSTOP)
    try:
        await promote(line, filled.name)
        told = await until_told(line, filled.own_url, filled.name.number)
    finally:
        process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(process.wait, 60)
    assert {change["track_id"]: change["version"] for change in told} == {
        change["track_id"]: change["version"]
        for change in await until_told(line, filled.own_url, filled.name.number)
    }
    line.worker.start()
    await promote(line, FIRST_GENERATION)
    await until_told(line, line.database_url, 1)
