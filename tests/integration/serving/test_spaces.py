"""Two spaces with other embeddings over real tables: which one answers, and what happens when one of them turns or goes."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from asyncpg.pool import PoolConnectionProxy

from serving import models
from serving.settings import ServingSettings
from store.generations import drop_generation, end_service
from streams.generations import GenerationName
from tests.integration.serving.asking import FeedWriter, answering, body_of, own_feed, stream
from tests.integration.serving.catalogue import AWKWARD_IDS, ServedCatalogue, make_catalogue
from tests.integration.serving.conftest import SIZE, Database, Served, ServedClient, serve
from tests.integration.serving.problems import fields_of, problem_of
from tests.integration.serving.two_generations import (
    FIRST,
    KEPT_STRATEGY,
    add_generation,
    check_answer,
    database_of,
    promote,
    store_bodies,
)
from tests.support.generations import let_serve
from tests.support.polling import until
from tests.support.services import KafkaBroker

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"
STORED = f"/recommend/test%2F00030?strategy={KEPT_STRATEGY}"
MELODY, SECOND = GenerationName("melody"), GenerationName("melody", 2)
QUIET = ServingSettings(health_ttl=0, access_log=False)


@dataclass(frozen=True)
class TwoSpaces:
    """The tracks of one catalogue in two spaces, of one of which there are two generations.

    Attributes:
        database: The catalogue's.
        catalogues: Tracks and lists of each generation.
    """

    database: Database
    catalogues: dict[GenerationName, ServedCatalogue]

    def check(self, body: dict[str, Any], space: str) -> GenerationName:
        """The generation that an answer is of, as a whole; it must be one of the space that was asked for."""
        name = GenerationName(body["space"], body["generation"])
        assert name.space == space
        check_answer(self.catalogues[name], name, body)
        return name


@pytest.fixture(scope="session")
def others() -> dict[GenerationName, ServedCatalogue]:
    """The lists of two generations of another space."""
    return {name: make_catalogue(SIZE, seed=20 + name.number, ids=AWKWARD_IDS) for name in (MELODY, SECOND)}


@pytest.fixture
async def both(
    database: Database, catalogue: ServedCatalogue, others: dict[GenerationName, ServedCatalogue]
) -> TwoSpaces:
    """The spaces `default` and `melody`, each served by its first generation."""
    for name, filled in others.items():
        assert await add_generation(database, "melody", filled) == name
    made = TwoSpaces(database, {FIRST: catalogue, **others})
    for name, filled in made.catalogues.items():
        await store_bodies(database_of(database, name).url, filled, name.topic)
    await promote(database, MELODY)
    return made


@pytest.fixture
async def client(both: TwoSpaces) -> AsyncIterator[ServedClient]:
    """The API over both."""
    async with serve(Served(both.database, QUIET)) as running:
        yield running


def _in(space: str, path: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}space={space}"


async def _source(client: ServedClient, path: str) -> str:
    """Where an answer came from, by the metrics."""
    registry = client.context.metrics.registry

    def counts() -> dict[str, float]:
        client.context.metrics.render()
        return {
            name: registry.get_sample_value("mess_api_reads_total", {"source": name}) or 0
            for name in ("memory", "checked", "lists", "bodies", "workers", "fallback")
        }

    before = counts()
    assert (await client.get(path)).status_code == 200
    (source,) = [name for name, count in counts().items() if count > before[name]]
    return source


async def test_each_space_answers_from_its_own_lists_and_its_own_memory(
    both: TwoSpaces, client: ServedClient
) -> None:
    """Lists, stored bodies, questions in a body and tracks: none mixes, and each space's memory has its own answers."""
    for path in (PATH, STORED):
        asked = {"default": path, "melody": _in("melody", path)}
        found = {space: (await client.get(target)).json() for space, target in asked.items()}
        assert {both.check(body, space) for space, body in found.items()} == {FIRST, MELODY}
        assert found["default"]["recommendations"] != found["melody"]["recommendations"]
        for target in asked.values():
            assert await _source(client, target) in {"memory", "checked"}
    assert await _source(client, _in("default", PATH)) == "lists"
    for space in ("default", "melody"):
        answer = await client.post("/recommend", json={"track_id": TRACK, "top_k": 7, "space": space})
        both.check(answer.json(), space)
        assert both.check((await client.get(_in(space, PATH))).json(), space).space == space
        past = (await client.get(_in(space, f"{PATH}?as_of=999999"))).json()
        assert both.check(past, space).space == space
        track = (await client.get(_in(space, "/tracks/test%2F00123"))).json()
        assert track["source"]["topic"] == {"default": FIRST, "melody": MELODY}[space].topic


async def test_an_entity_tag_of_one_space_is_none_of_another(client: ServedClient, both: TwoSpaces) -> None:
    """Though both store the same bytes: the space that an answer names is not among them."""
    await both.database.execute(
        "UPDATE mess_melody_1.materialised_recommendations AS m SET body = d.body, tag = d.tag"
        " FROM public.materialised_recommendations AS d WHERE d.key = m.key AND d.strategy = m.strategy"
    )
    first = await client.get(STORED)
    for path, status in ((STORED, 304), (_in("melody", STORED), 200)):
        answer = await client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert answer.status_code == status
    assert (first.json()["space"], answer.json()["space"]) == ("default", "melody")
    assert answer.json()["recommendations"] == first.json()["recommendations"]


async def test_a_batch_may_ask_in_several_spaces(both: TwoSpaces, client: ServedClient) -> None:
    """Each entry is answered from its own; one of a space that there is not gets a problem in its place."""
    spaces = ["melody", "default", "mood", "melody", "Melody"]
    asked = [{"track_id": TRACK, "top_k": 3, "space": space} for space in spaces] + [{"track_id": TRACK}]
    results = (await client.post("/recommend/batch", json={"requests": asked})).json()["results"]
    for at, space in ((0, "melody"), (1, "default"), (3, "melody"), (5, "default")):
        both.check(results[at], space)
    assert (results[2]["type"], results[2]["status"]) == ("urn:mess-ai:problem:unknown-space", 404)
    assert (results[4]["status"], fields_of(results[4])) == (422, ["space"])
    assert client.context.requests == 0
    assert client.spaces.at_hand(b"space=melody").requests == 0


@pytest.mark.parametrize(
    "query", ["%73pace=melody", "space=%6delody", "top_k=5&space=melody", "format=jspf&space=melody"]
)
async def test_however_a_space_is_written_it_is_the_one_that_answers(
    both: TwoSpaces, client: ServedClient, query: str
) -> None:
    """Percent-encoded, behind other parameters, as a playlist: the first answer and one from memory."""
    expected = both.catalogues[MELODY].expected(TRACK, 5)
    for _ in range(2):
        answer = await client.get(f"{PATH}?{query}")
        assert answer.status_code == 200, answer.text
        if "jspf" not in query:
            both.check(answer.json(), "melody")
            continue
        tracks = answer.json()["playlist"]["track"]
        assert [track["identifier"][-1].rpartition(":")[2] for track in tracks[:5]] == [
            quote(track_id, safe="") for track_id, _ in expected
        ]


@pytest.mark.parametrize(
    "path",
    [
        PATH,
        STORED,
        f"{PATH}/compare",
        f"{PATH}/stream",
        "/explain?seed=test%2F00123&candidate=test%2F00124",
        "/tracks",
        "/tracks/test%2F00123",
        "/tracks/test%2F00123/metadata",
        "/map",
        "/composers",
        "/tags",
        "/changes",
        "/health/detailed",
    ],
)
async def test_a_space_that_nothing_serves_is_a_problem_on_every_path(
    client: ServedClient, path: str
) -> None:
    """404 that names those that serve, also of a space of which there are generations and none serves."""
    document = problem_of(await client.get(_in("mood", path)), 404, "unknown-space")
    assert (document["known"], fields_of(document)) == (["default", "melody"], ["space"])
    assert "'mood'" in document["detail"]
    assert client.spaces.open == ["default"]


async def test_the_spaces_that_serve_can_be_listed(both: TwoSpaces, client: ServedClient) -> None:
    """With the generation of each; what does not serve is not there."""
    listed = {
        "spaces": [{"space": "default", "generation": 1}, {"space": "melody", "generation": 1}],
        "default": "default",
    }
    answer = (await client.get("/spaces")).json()
    models.SpaceList.model_validate(answer)
    assert answer == listed
    await let_serve(both.database.url, None, "melody")
    watch = client.context.recommending.watch
    await until(lambda: "melody" not in watch.seen.serving)
    assert (await client.get("/spaces")).json()["spaces"] == listed["spaces"][:1]


async def test_a_page_of_tracks_goes_on_in_its_space(client: ServedClient) -> None:
    """Its cursor is refused in another, with the reason."""
    page = (await client.get(_in("melody", "/tracks?limit=5"))).json()
    further = f"/tracks?limit=5&cursor={page['next']}"
    assert (await client.get(_in("melody", further))).status_code == 200
    document = problem_of(await client.get(further), 422, "invalid-parameters")
    assert (fields_of(document), "of another space" in document["detail"]) == (["cursor"], True)


async def test_what_must_be_computed_is_asked_of_the_workers_of_the_space(
    both: TwoSpaces, client: ServedClient
) -> None:
    """Comparisons, explanations and searches reach those of the generation that serves it, with its name."""
    async with (
        answering(both.database, "one") as first,
        answering(database_of(both.database, MELODY), "two") as second,
    ):
        for worker, name in ((first, FIRST), (second, MELODY)):
            worker.reply = lambda request, name=name: {  # type: ignore[misc]
                "status": "ok",
                **body_of(request, space=name.space, generation=name.number),
            }
        for space, worker in (("melody", second), ("default", first)):
            for path in (f"{PATH}/compare", f"{PATH}?era=Baroque", "/explain?seed=a&candidate=b"):
                assert (await client.get(_in(space, path))).json()["space"] == space
            seeds = {"seeds": ["test/00123", "test/00124"], "space": space}
            assert (await client.post("/recommend", json=seeds)).json()["space"] == space
            asked = await worker.asked(4)
            assert [request.get("space", "default") for request in asked] == [space] * 4


@dataclass
class _Readers:
    """Ask in both spaces without pause; counts answers by generation."""

    both: TwoSpaces
    client: httpx.AsyncClient
    answers: dict[GenerationName, int] = field(default_factory=dict)

    async def ask(self, space: str, *, posted: bool) -> None:
        """For ever."""
        tracks = self.both.catalogues[FIRST].tracks[100:130]
        for number in itertools.count():
            track_id = tracks[number % len(tracks)].track_id
            if posted:
                body = {"track_id": track_id, "top_k": 5, "space": space}
                answer = await self.client.post("/recommend/batch", json={"requests": [body] * 2})
                assert answer.status_code == 200, answer.text
                found = answer.json()["results"]
            else:
                answer = await self.client.get(_in(space, f"/recommend/{quote(track_id, safe='')}?top_k=5"))
                assert answer.status_code == 200, answer.text
                found = [answer.json()]
            assert all("recommendations" in each for each in found), found
            (name,) = {self.both.check(each, space) for each in found}
            self.answers[name] = self.answers.get(name, 0) + 1
            await asyncio.sleep(0.005)


async def test_a_promotion_inside_a_space_fails_no_reader_of_any(
    both: TwoSpaces, client: ServedClient
) -> None:
    """There and back, while both spaces are read: no answer fails, mixes, or is of a generation that has not served."""
    readers = _Readers(both, client)

    async def until_answered(name: GenerationName) -> None:
        before = readers.answers.get(name, 0)
        await until(lambda: readers.answers.get(name, 0) > before + 10, 0.005)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(readers.ask(space, posted=posted))
            for space in ("default", "melody")
            for posted in (True, False)
        ]
        for name in (MELODY, SECOND, MELODY, SECOND):
            if name != MELODY or SECOND in readers.answers:
                await promote(both.database, name)
            await until_answered(name)
            await until_answered(FIRST)
        for task in tasks:
            task.cancel()
    assert readers.answers.keys() == {FIRST, MELODY, SECOND}
    assert client.context.generation == FIRST
    before = client.context
    assert both.check((await client.get(_in("melody", PATH))).json(), "melody") == SECOND
    assert client.context is before


async def test_a_space_that_is_taken_away_is_gone_for_readers_and_closed(
    both: TwoSpaces, client: ServedClient
) -> None:
    """A request that has begun is answered from it; then 404, no connection is left, and its tables can be dropped."""
    async with answering(database_of(both.database, MELODY)) as worker:
        worker.reply = lambda _: None
        waiting = asyncio.create_task(
            client.post("/recommend", json={"seeds": [TRACK, "test/00124"], "space": "melody"})
        )
        (request,) = await worker.asked(1)
        context = client.spaces.at_hand(b"space=melody")
        # Its worker stops taking requests, and the other generation is not there.
        await both.database.execute("UPDATE mess_melody_1.worker_lives SET ended_at = now()")
        await both.database.execute("DELETE FROM generations WHERE space = 'melody' AND number = 2")
        async with _transaction(both.database) as connection:
            await end_service(connection, MELODY)
        await until(lambda: client.spaces.open == ["default"])
        problem_of(await client.get(_in("melody", PATH)), 404, "unknown-space")
        assert not context.pool.is_closing()
        worker.reply = lambda _: {"status": "ok", **body_of(request, space="melody")}
        assert (await waiting).json()["space"] == "melody"
        await until(context.pool.is_closing)
    # A minute passes.
    await both.database.execute("UPDATE generations SET served_until = served_until - interval '1 minute'")
    async with _transaction(both.database) as connection:
        await drop_generation(connection, MELODY)
    problem_of(await client.get(_in("melody", PATH)), 404, "unknown-space")
    assert both.check((await client.get(PATH)).json(), "default") == FIRST


@asynccontextmanager
async def _transaction(database: Database) -> AsyncIterator[PoolConnectionProxy]:
    """A transaction as the owner's."""
    async with (
        asyncpg.create_pool(database.url, min_size=1, max_size=1) as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        yield connection


async def test_a_space_that_may_not_be_read_fails_alone(both: TwoSpaces, client: ServedClient) -> None:
    """503 there, with the reason in `/health/detailed`; readiness is about `default`, which goes on, and rights mend it."""
    role = (await _roles(both.database))[0]
    await both.database.execute(f'REVOKE SELECT ON mess_melody_1.map_positions FROM "{role}"')
    problem_of(await client.get(_in("melody", PATH)), 503, "space-unavailable")
    assert both.check((await client.get(PATH)).json(), "default") == FIRST
    assert (await client.get(_in("melody", "/health/ready"))).json()["status"] == "ok"
    check = (await client.get("/health/detailed")).json()["checks"]["spaces"]
    assert (check["status"], check["open"]) == ("degraded", ["default"])
    assert check["serving"] == ["default/1", "melody/1"]
    assert "may not read map_positions of generation melody/1" in check["detail"]
    await both.database.execute(f'GRANT SELECT ON mess_melody_1.map_positions TO "{role}"')

    async def answered() -> bool:
        return (await client.get(_in("melody", PATH))).status_code == 200

    await until(answered)
    check = (await client.get("/health/detailed")).json()["checks"]["spaces"]
    assert (check["status"], check["open"]) == ("ok", ["default", "melody"])


async def _roles(database: Database) -> list[str]:
    """Who may read lists, apart from their owner."""
    connection = await asyncpg.connect(database.url)
    try:
        rows = await connection.fetch(
            "SELECT DISTINCT grantee FROM information_schema.role_table_grants"
            " WHERE table_schema = 'mess_melody_1' AND table_name = 'neighbour_lists' AND grantee <> grantor"
        )
    finally:
        await connection.close()
    return [row[0] for row in rows]


async def test_health_and_metrics_tell_spaces_apart(both: TwoSpaces, client: ServedClient) -> None:
    """A detailed report is of one space; gauges are of all that are open together, and one says which generations serve."""
    await both.database.execute("DELETE FROM mess_melody_1.tracks WHERE track_id = $1", TRACK)
    checks = {
        space: (await client.get(_in(space, "/health/detailed"))).json()["checks"]
        for space in ("default", "melody")
    }
    tracks = {space: found["catalogue"]["tracks"] for space, found in checks.items()}
    assert tracks == {"default": SIZE, "melody": SIZE - 1}
    assert checks["melody"]["generation"]["space"] == "melody"
    await client.get(PATH)
    await client.get(_in("melody", "/recommend/test%2F00124"))
    registry = client.context.metrics.registry

    def serving(name: GenerationName) -> float | None:
        labels = {"space": name.space, "generation": str(name.number)}
        return registry.get_sample_value("mess_api_serving_info", labels)

    assert (serving(FIRST), serving(MELODY), serving(SECOND)) == (1, 1, None)
    assert registry.get_sample_value("mess_api_memory", {"what": "entries"}) == 2
    await promote(both.database, SECOND)
    await until(lambda: serving(SECOND) == 1)
    assert (serving(FIRST), serving(MELODY)) == (1, None)
    await let_serve(both.database.url, None, "melody")
    await until(lambda: serving(SECOND) is None)
    await until(lambda: client.spaces.open == ["default"])
    assert registry.get_sample_value("mess_api_memory", {"what": "entries"}) == 1


@pytest.fixture
async def feed(kafka_broker: KafkaBroker) -> AsyncIterator[FeedWriter]:
    """A change feed of `default`, and one of `melody`, of the test's own."""
    async with own_feed(kafka_broker) as writer:
        yield writer


async def test_changes_of_a_space_are_told_in_its_streams_and_outdate_its_memory(
    both: TwoSpaces, feed: FeedWriter
) -> None:
    """Nothing of one reaches the other; an id of the one is refused by the other; without the space its streams end."""
    melody = feed.of_space("melody")
    async with serve(Served(both.database, feed.settings, kafka_options=feed.options)) as client:
        async with (
            stream(client, "/changes") as everything,
            stream(client, "/changes?space=melody") as of_melody,
            stream(client, f"{PATH}/stream?space=melody") as of_track,
        ):
            opened = [await events.next() for events in (everything, of_melody, of_track)]
            memory = client.spaces.at_hand(b"space=melody").memory
            for path in (PATH, _in("melody", PATH)):
                await client.get(path)
            await melody.change(TRACK, ["m"], [])
            assert (await of_melody.next())["data"]["added"] == ["m"]
            told = await of_track.next()
            assert (told["data"]["added"], told["id"].partition("@")[0]) == (["m"], "melody")
            await until(lambda: memory.invalidated == 1)
            assert client.context.memory.invalidated == 0
            await feed.change(TRACK, ["d"], [])
            first = await everything.next()
            assert first["data"]["added"] == ["d"]
            await until(lambda: client.context.memory.invalidated == 1)
            assert memory.invalidated == 1
            for path, given in (("/changes", told["id"]), ("/changes?space=melody", first["id"])):
                answer = await client.get(path, headers={"last-event-id": given})
                document = problem_of(answer, 422, "invalid-parameters")
                assert fields_of(document) == ["Last-Event-ID"]
                assert "of the changes of space" in document["detail"]
            async with stream(client, "/changes?space=melody", opened[1]["id"]) as again:
                await again.next()
                assert (await again.next())["data"]["added"] == ["m"]
            await let_serve(both.database.url, None, "melody")
            for events in (of_melody, of_track):
                assert (await events.next())["data"] == {"reason": "unserved"}
            await feed.change(TRACK, ["still"], [])
            assert (await everything.next())["data"]["added"] == ["still"]
        problem_of(await client.get("/changes?space=melody"), 404, "unknown-space")
        assert client.context.streams.open == 0
