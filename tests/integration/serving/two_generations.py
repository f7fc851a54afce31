"""A database with two generations of other lists and metadata, and readers who see to it that no answer mixes them."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import orjson

from serving.recommend import replies
from serving.recommend.lists import ListReader
from serving.recommend.track_fragments import TrackFragments
from store import materialised
from store.generations import create_generation
from store.pool import open_pool, transaction
from store.promotion import promote_generation
from store.settings import StoreSettings
from streams.contracts import track_key
from streams.generations import GenerationName
from tests.integration.serving.catalogue import AWKWARD_IDS, ServedCatalogue, make_catalogue, write_catalogue
from tests.integration.serving.conftest import SIZE, Database
from tests.support.generations import let_serve
from tests.support.polling import until

FIRST, SECOND = GenerationName(), GenerationName("default", 2)
# Those with ids that are awkward in paths come before; the first of these have a body of another strategy.
_PLAIN = len(AWKWARD_IDS)
_STORED = range(_PLAIN, _PLAIN + 20)
KEPT_STRATEGY = "popular"


@dataclass(frozen=True)
class TwoGenerations:
    """Two generations of the same tracks.

    Attributes:
        database: The catalogue's.
        catalogues: Each generation's tracks and lists, by number.
    """

    database: Database
    catalogues: dict[int, ServedCatalogue]

    def of(self, name: GenerationName) -> Database:
        """The database as a generation's worker sees it."""
        return database_of(self.database, name)

    async def promote(self, number: int) -> None:
        """Let a generation serve, with every right to read it."""
        await promote(self.database, GenerationName("default", number))

    async def turn(self, number: int) -> None:
        """Let a generation serve, whatever rights there are."""
        await let_serve(self.database.url, number)

    def check(self, body: dict[str, Any]) -> int:
        """The generation that an answer for a track is of, of which all of it must be."""
        number: int = body["generation"]
        assert body["space"] == "default"
        check_answer(self.catalogues[number], GenerationName("default", number), body)
        return number


def database_of(database: Database, name: GenerationName) -> Database:
    """The database as a generation's worker sees it."""
    store = StoreSettings(database_url=database.url).of_schema(name.schema)  # type: ignore[arg-type]
    return replace(database, url=store.database_url.get_secret_value())


async def promote(database: Database, name: GenerationName) -> None:
    """Let a generation serve, with every right to read it."""
    async with _opened(database.url) as pool, transaction(pool) as connection:
        await promote_generation(connection, name)


def check_answer(catalogue: ServedCatalogue, name: GenerationName, body: dict[str, Any]) -> None:
    """All of an answer for a track must be of one generation, which holds `catalogue`."""
    assert (body["space"], body["generation"]) == (name.space, name.number)
    reference = catalogue.tracks[catalogue.by_id[body["reference_track"]]]
    assert body["reference_metadata"]["title"] == reference.metadata["title"]
    assert body["source"]["topic"] == name.topic
    items = body["recommendations"]
    expected = catalogue.expected(reference.track_id, len(items))
    assert [item["track_id"] for item in items] == [track_id for track_id, _ in expected]
    for item in items:
        track = catalogue.tracks[catalogue.by_id[item["track_id"]]]
        assert item["title"] == item["metadata"]["title"] == track.metadata["title"]


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(StoreSettings(database_url=url), application_name="test") as pool:  # type: ignore[arg-type]
        yield pool


async def make_two_generations(
    database: Database, catalogue: ServedCatalogue, *, alike: bool = False
) -> TwoGenerations:
    """Create the second generation beside a filled catalogue, and fill it; store some bodies in both.

    Args:
        database: Of the catalogue.
        catalogue: What it holds.
        alike: Whether the second generation has the same vectors and lists.
    """
    other = catalogue if alike else make_catalogue(SIZE, seed=8, ids=AWKWARD_IDS)
    both = TwoGenerations(database, {1: catalogue, 2: other})
    await add_generation(database, "default", other)
    for name in (FIRST, SECOND):
        # The same bytes in both, where the lists are the same.
        topic = FIRST.topic if alike else name.topic
        await store_bodies(both.of(name).url, both.catalogues[name.number], topic)
    return both


async def add_generation(database: Database, space: str, catalogue: ServedCatalogue) -> GenerationName:
    """Create the next generation of a space, which nobody reads yet, and fill it."""
    async with _opened(database.url) as pool, transaction(pool) as connection:
        made = await create_generation(connection, space, None)
    connection = await asyncpg.connect(database_of(database, made.name).url)
    try:
        await write_catalogue(connection, catalogue)
    finally:
        await connection.close()
    return made.name


async def store_bodies(url: str, catalogue: ServedCatalogue, topic: str) -> None:
    """Store some bodies of another strategy in a generation.

    Args:
        url: Of its database, as its worker sees it.
        catalogue: What it holds.
        topic: Where the bodies say that they come from.
    """
    async with _opened(url) as pool:
        lists = ListReader(pool, TrackFragments(pool, 2**24, 30.0), 30.0)
        for track in catalogue.tracks[_STORED.start : _STORED.stop]:
            found = await lists.read(track.track_id, limit=10)
            assert found is not None
            opened, tag = replies.list_body(found, topic, 10)
            body = orjson.dumps({**orjson.loads(opened + b"}"), "strategy": KEPT_STRATEGY})
            new = materialised.NewBody(
                key=track.key,
                strategy=KEPT_STRATEGY,
                mode=None,
                variant=0,
                question={},
                body=body,
                tag=tag,
                members=[track_key(card.track_id) for card, _ in found.neighbours],
                list_version=found.header.version,
                generated_at=found.header.generated_at,
            )
            await materialised.write_bodies(pool, [new])


@dataclass
class Readers:
    """Ask without pause, in every way in which stored lists are read.

    Attributes:
        both: What is read.
        client: Whom they ask.
        possible: The generations that an answer to a question that begins now may be of.
        promoted: Those that were promoted, in order.
        answers: How many answers there were of each kind and generation.
        ordered: Whether an answer of the generation that was promoted last means that no other one follows: not so while one
            promotion follows another before it is seen.
    """

    both: TwoGenerations
    client: httpx.AsyncClient
    possible: set[int] = field(default_factory=lambda: {1})
    promoted: list[int] = field(default_factory=lambda: [1])
    answers: dict[tuple[str, int], int] = field(default_factory=dict)
    ordered: bool = True
    _tags: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def promote(self, number: int, how: Callable[[int], Awaitable[None]] | None = None) -> None:
        """Promote a generation: from now on answers may be of it."""
        self.possible.add(number)
        self.promoted.append(number)
        await (how or self.both.promote)(number)

    async def settled(self) -> None:
        """Wait until an answer is of the generation that was promoted last: then no later one is of another."""
        await until(lambda: self.possible == {self.promoted[-1]}, 0.005)

    async def total(self, more: int) -> None:
        """Wait for a number of further answers."""
        wanted = sum(self.answers.values()) + more
        await until(lambda: sum(self.answers.values()) >= wanted, 0.005)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator["Readers"]:
        """Ask during a block; a wrong or failed answer fails it."""
        kinds = (
            self._memory,
            self._lists,
            self._bodies,
            self._posted,
            self._batch,
            self._track,
            self._unless,
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(kind), name=kind.__name__) for kind in kinds]
            yield self
            for task in tasks:
                task.cancel()

    async def _ask(self, kind: Callable[[int], Awaitable[int]]) -> None:
        for number in itertools.count():
            allowed, since = set(self.possible), len(self.promoted)
            generation = await kind(number)
            allowed.update(self.promoted[since:])
            assert generation in allowed, f"{kind.__name__} answered {generation}, not {allowed}"
            if since == len(self.promoted) and generation == self.promoted[-1] and self.ordered:
                self.possible = {generation}
            name = kind.__name__.strip("_")
            self.answers[name, generation] = self.answers.get((name, generation), 0) + 1
            await asyncio.sleep(0)

    async def _memory(self, number: int) -> int:
        return await self._whole(f"/recommend/test%2F00{number % 4 + 100}?top_k=5")

    async def _lists(self, _: int) -> int:
        track = random.choice(self.both.catalogues[1].tracks[_PLAIN:])
        return await self._whole(f"/recommend/{quote(track.track_id, safe='')}?top_k={random.randint(1, 50)}")

    async def _bodies(self, number: int) -> int:
        track = self.both.catalogues[1].tracks[_STORED[number % len(_STORED)]]
        return await self._whole(f"/recommend/{quote(track.track_id, safe='')}?strategy={KEPT_STRATEGY}")

    async def _whole(self, path: str) -> int:
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        return self.both.check(response.json())

    async def _posted(self, number: int) -> int:
        track = self.both.catalogues[1].tracks[_STORED[number % len(_STORED)]]
        response = await self.client.post("/recommend", json={"track_id": track.track_id, "top_k": 7})
        assert response.status_code == 200, response.text
        return self.both.check(response.json())

    async def _batch(self, number: int) -> int:
        ids = [self.both.catalogues[1].tracks[(number + at) % SIZE].track_id for at in range(8)]
        asked = {"requests": [{"track_id": each, "top_k": 3} for each in ids]}
        response = await self.client.post("/recommend/batch", json=asked)
        assert response.status_code == 200, response.text
        (generation,) = {self.both.check(body) for body in response.json()["results"]}
        return generation

    async def _track(self, number: int) -> int:
        track = self.both.catalogues[1].tracks[100 + number % 100]
        response = await self.client.get(f"/tracks/{quote(track.track_id, safe='')}")
        assert response.status_code == 200, response.text
        topics = {FIRST.topic: 1, SECOND.topic: 2}
        generation = topics[response.json()["source"]["topic"]]
        catalogue = self.both.catalogues[generation]
        title = catalogue.tracks[catalogue.by_id[track.track_id]].metadata["title"]
        assert response.json()["title"] == title
        return generation

    async def _unless(self, number: int) -> int:
        path = f"/recommend/test%2F00{number % 2 + 110}?top_k=5"
        generation, tag = self._tags.get(path, (0, ""))
        response = await self.client.get(path, headers={"if-none-match": tag})
        if response.status_code == 304:
            return generation
        assert response.status_code == 200, response.text
        generation = self.both.check(response.json())
        self._tags[path] = generation, response.headers["etag"]
        return generation
