"""Two spaces serve side by side: each has lists of its own on a feed of its own, and answers what asks for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from mess.cli import build_cli
from streams.contracts import RecommendationReply
from streams.kafka.clients import admin_client
from streams.kafka.topics import partition_counts
from tests.integration.worker.beside import TRACKS, Beside, beside, generation_of, in_catalogue, name_of
from tests.integration.worker.conftest import Line
from tests.integration.worker.test_promoted_feed import messages, until_told
from tests.integration.worker.test_recommendations import TopicClient, client_of
from tests.integration.worker.test_switching import ask_directly, named, stored_lists, workers_of
from tests.support.polling import until
from tests.support.worker import publish, settle, wrong_lists

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

FEED, MELODY_FEED = "recommendations", "recommendations.melody"
GONE = 4


@pytest.fixture
async def melody(line: Line) -> AsyncIterator[Beside]:
    """The first generation of a further space, with a vector of every track and a worker that can answer."""
    async with generation_of(line, "melody") as made:
        await publish(line.servers, [in_catalogue(i) for i in range(TRACKS)])
        await settle(line.database_url, line.servers)
        made.another_worker()
        await made.publish([beside(i) for i in range(TRACKS)])
        await made.until_has(TRACKS)

        async def answering() -> bool:
            return len(await workers_of(made)) == 1

        await until(answering)
        yield made


def mess(line: Line, *words: str) -> tuple[int, str]:
    """A command's exit code and output."""
    environment = {
        "MESS_DATABASE_URL": line.database_url,
        "MESS_KAFKA_BOOTSTRAP_SERVERS": line.servers,
        "MESS_CONSUMER_GROUP": line.broker.group,
    }
    done = CliRunner().invoke(build_cli(), list(words), env=environment)
    return done.exit_code, done.output


async def run(line: Line, *words: str) -> str:
    """What a command prints, which must succeed."""
    code, told = await asyncio.to_thread(mess, line, *words)
    assert code == 0, told
    return told


async def problem_of(client: TopicClient, **fields: Any) -> tuple[str, str | None]:
    """The kind of problem that a request is replied with, and its detail."""
    error = (await client.ask(**fields)).error
    assert error is not None
    return error.type.rpartition(":")[2], error.detail


async def test_two_spaces_serve_at_once(line: Line, melody: Beside) -> None:
    """From a promotion that has nothing before it to the end of the space: lists, feeds, requests and deletions."""
    assert str(melody.name) == "melody/1"
    async with client_of(line) as client:
        kind, detail = await problem_of(client, track_id=name_of(1), space="melody")
        assert kind == "unknown-space"
        assert detail == "No generation of space 'melody' serves; spaces that serve: default."
        assert "melody/1 serves readers now" in await run(line, "spaces", "promote", "melody/1")
        assert (await run(line, "spaces", "serving", "--all")).split() == ["default/1", "melody/1"]

        assert "1.000000" in await run(line, "audit", "--of", "melody/1")
        for words, reason in (
            (("rollback", "--space", "melody"), "nothing to go back to"),
            (("serving", "--space", "mood"), "no generation of space mood serves"),
            (("create", "--space", "Mood"), "is no name of a space"),
        ):
            code, told = await asyncio.to_thread(mess, line, "spaces", *words)
            assert (code != 0, reason in told) == (True, True), told

        for topic, url in ((FEED, line.database_url), (MELODY_FEED, melody.own_url)):
            changes = await until_told(line, url, 1, topic)
            assert len(changes) == TRACKS
            space, reason = ("melody", "promoted") if topic == MELODY_FEED else ("default", None)
            assert {(change["space"], change["reason"]) for change in changes} == {(space, reason)}
        await requests_are_answered_by_their_space(line, melody, client)
        await changes_stay_in_their_space_and_deletions_do_not(line, melody)
        await the_space_ends(line, melody, client)


async def requests_are_answered_by_their_space(line: Line, melody: Beside, client: TopicClient) -> None:
    """Each once, in its vectors; what no space can answer has one problem."""
    lists = {
        "default": await stored_lists(line.database_url),
        "melody": await stored_lists(melody.own_url),
    }
    assert lists["default"] != lists["melody"]
    asked = {
        await client.put(track_id=name_of(i), strategy="similarity", **fields): (space, name_of(i))
        for i in range(30)
        for space, fields in (
            ("default", {}),
            ("default", {"space": "default"}),
            ("melody", {"space": "melody"}),
        )
    }

    async def answered() -> bool:
        # Until the workers have looked, either may say that nobody serves the space, or both may answer.
        await client.look()
        return asked.keys() <= client.raw.keys()

    await until(answered)
    for request_id, (space, track) in asked.items():
        (reply,) = await client.replies(request_id)
        assert (reply.space, reply.generation) == (space, 1)
        assert named(reply) == lists[space][track]
    mine = dict(lists["melody"])
    vector = await client.ask(seeds=[name_of(2), name_of(3)], strategy="similarity", space="melody")
    assert vector.space == "melody"
    assert await problem_of(client, track_id=name_of(1), space="mood") == (
        "unknown-space",
        "No generation of space 'mood' serves; spaces that serve: default, melody.",
    )
    assert (await problem_of(client, track_id=name_of(1), space="Mood"))[0] == "invalid-parameters"
    (worker,) = await workers_of(melody)
    assert (
        named(await ask_directly(worker, track_id=name_of(1), strategy="similarity", space="melody"))
        == mine[name_of(1)]
    )
    refused: RecommendationReply = await ask_directly(worker, track_id=name_of(1), strategy="similarity")
    assert refused.error is not None
    assert [each.field for each in refused.error.errors] == ["space"]


async def changes_stay_in_their_space_and_deletions_do_not(line: Line, melody: Beside) -> None:
    """A vector is told of on its space's feed alone; a deleted track is gone from both."""
    before = len(await messages(line, FEED))
    await melody.publish([beside(i, version=1) for i in range(20)])
    await melody.until_has(TRACKS)
    await until_told(line, melody.own_url, 1, MELODY_FEED)
    assert len(await messages(line, FEED)) == before

    await publish(line.servers, [(name_of(GONE).encode(), None)])
    await settle(line.database_url, line.servers)
    await melody.until_has(TRACKS - 1)
    for topic, url in ((FEED, line.database_url), (MELODY_FEED, melody.own_url)):
        assert await wrong_lists(url) == []
        told = await until_told(line, url, 1, topic)
        assert name_of(GONE) not in {change["track_id"] for change in told}
        assert not [change for change in told if name_of(GONE) in str(change["recommendations"])]

        async def taken_back(topic: str = topic) -> bool:
            last = {record.key.decode(): record.value for record in await messages(line, topic)}
            return last[name_of(GONE)] is None

        await until(taken_back)


async def the_space_ends(line: Line, melody: Beside, client: TopicClient) -> None:
    """Its only generation is retired while it serves, once its workers are stopped; its feed goes, and the other stays."""
    retire = "spaces", "retire", "melody/1", "--yes", "melody/1"
    code, told = await asyncio.to_thread(mess, line, *retire)
    assert (code, "still run; stop them first" in told) == (2, True), told
    for worker in melody.workers:
        await asyncio.to_thread(worker.stop)
    retiring = asyncio.create_task(run(line, *retire))
    connection = await asyncpg.connect(line.database_url)
    try:

        async def ended() -> bool:
            serves = "SELECT serving FROM generations WHERE space = 'melody'"
            return not await connection.fetchval(serves)

        await until(ended)

        async def unknown() -> bool:
            request_id = await client.put(track_id=name_of(1), space="melody", timeout_ms=2_000)
            await asyncio.sleep(0.5)
            await client.look()
            return request_id in client.raw

        # Until its look a worker of the other space leaves requests to this one.
        await until(unknown)
        assert not retiring.done()
        # A minute later.
        await connection.execute("UPDATE generations SET served_until = served_until - interval '1 minute'")
    finally:
        await connection.close()
    assert "retired melody/1" in await retiring
    async with admin_client(melody.kafka) as admin:
        topics = await partition_counts(admin)
    assert FEED in topics
    assert not {MELODY_FEED, melody.name.topic} & topics.keys()
    assert (await problem_of(client, track_id=name_of(1), space="melody"))[0] == "unknown-space"
    # What comes next of that name is another generation, on a new feed.
    assert "created melody/2" in await run(line, "spaces", "create", "--space", "melody")
    async with admin_client(melody.kafka) as admin:
        assert MELODY_FEED in await partition_counts(admin)
    await run(line, "spaces", "retire", "melody/2", "--yes", "melody/2")
    async with admin_client(melody.kafka) as admin:
        assert MELODY_FEED not in await partition_counts(admin)
