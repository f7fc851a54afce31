"""Many who ask the search at once: one call for all of them, and to each the answer that it would have had alone."""

import asyncio
from typing import Any

import numpy as np
import pytest

from streams.engine.search.process import SearchCallError, SearchStoppedError
from streams.engine.search.searcher import Searcher
from streams.engine.search.types import Found, LookedUp, SearchSettings
from streams.recommender.search_batching import SharedSearch, Start

pytestmark = pytest.mark.unit

SIZE, DIMENSION = 300, 8


class Process:
    """A searcher behind asynchronous calls that wait until they are let through; notes which were made."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        vectors = rng.standard_normal((SIZE, DIMENSION)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.searcher = Searcher(DIMENSION, SearchSettings())
        self.searcher.load(np.arange(SIZE), [f"{i:04}" for i in range(SIZE)], self.vectors)
        self.open = asyncio.Event()
        self.calls: list[str] = []
        self.gone = False

    async def _call(self, name: str, *arguments: Any) -> Any:
        self.calls.append(name)
        await self.open.wait()
        if self.gone:
            raise SearchStoppedError("it is gone")
        try:
            return getattr(self.searcher, name)(*arguments)
        except ValueError as error:
            raise SearchCallError(str(error)) from None

    async def search(self, queries: Any, count: int, *, among: Any = None, without: Any = None) -> Found:
        """As `SearchProcess.search`."""
        found: Found = await self._call("search", queries, count, among, without)
        return found

    async def look_up(self, *arguments: Any) -> LookedUp:
        """As `SearchProcess.look_up`."""
        found: LookedUp = await self._call("look_up", *arguments)
        return found


async def test_who_asks_while_a_call_is_under_way_shares_the_next() -> None:
    """One call for the first, one for all others; each gets as many as it asked for, and vectors only if it did."""
    process = Process()
    shared = SharedSearch(process)
    first = asyncio.create_task(shared.nearest(process.vectors[0], 5))
    await asyncio.sleep(0)
    asked = [
        asyncio.create_task(shared.begin(Start(np.array([i]), np.ones(1), None, i + 1, vectors=i % 2 == 0)))
        for i in range(1, 9)
    ]
    named = [asyncio.create_task(shared.vectors(np.array(keys))) for keys in ([7, 1_000], [9])]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert process.calls == ["look_up"]
    process.open.set()
    await first
    for i, one in enumerate([(await task).nearest for task in asked], start=1):
        assert one.keys.tolist() == np.argsort(-process.vectors @ process.vectors[i])[: i + 1].tolist()
        np.testing.assert_allclose(
            one.similarity, process.vectors[one.keys] @ process.vectors[i], rtol=0, atol=1e-6
        )
        if i % 2:
            assert one.vectors is None
        else:
            np.testing.assert_array_equal(one.vectors, process.vectors[one.keys])
    (two, known), (one_more, _) = [await task for task in named]
    assert known.tolist() == [True, False]
    np.testing.assert_array_equal(two, [process.vectors[7], np.zeros(DIMENSION)])
    np.testing.assert_array_equal(one_more, [process.vectors[9]])
    assert process.calls == ["look_up", "look_up"]


@pytest.mark.parametrize("refused", [np.zeros(DIMENSION), np.ones(DIMENSION + 1)])
async def test_a_query_that_is_refused_does_not_spoil_the_others(refused: np.ndarray) -> None:
    """It is told, alone; those who asked in the same call have their answers."""
    process = Process()
    shared = SharedSearch(process)
    tasks = [
        asyncio.create_task(shared.nearest(vector, 3))
        for vector in (process.vectors[0], process.vectors[1], refused.astype(np.float32), process.vectors[2])
    ]
    named = asyncio.create_task(shared.vectors(np.array([5])))
    process.open.set()
    with pytest.raises(SearchCallError):
        await tasks.pop(2)
    assert [(await task).keys[0] for task in tasks] == [0, 1, 2]
    assert (await named)[1].all()


async def test_a_search_from_tracks_is_one_call() -> None:
    """It finds what is nearest to their sum, and brings their vectors and the cosines to the first of them."""
    process = Process()
    process.open.set()
    base, vectors = process.vectors[40], process.vectors
    start = Start(np.array([7, 8, 9]), np.array([0.5, 0.25, -0.25]), base, 12, seeds=2, vectors=True)
    begun = await SharedSearch(process).begin(start)
    assert process.calls == ["look_up"]
    assert begun.known.all()
    np.testing.assert_array_equal(begun.vectors, vectors[[7, 8, 9]])
    mixed = 0.5 * vectors[7] + 0.25 * vectors[8] - 0.25 * vectors[9] + base
    found = begun.nearest
    assert found.keys.tolist() == np.argsort(-vectors @ mixed)[:12].tolist()
    np.testing.assert_allclose(
        found.similarity, vectors[found.keys] @ mixed / np.linalg.norm(mixed), atol=1e-6
    )
    np.testing.assert_allclose(found.to_seeds, vectors[found.keys] @ vectors[[7, 8]].T, atol=1e-6)
    np.testing.assert_array_equal(found.vectors, vectors[found.keys])


async def test_a_search_from_one_track_keeps_every_bit() -> None:
    """Its similarities are those that a search by its vector has, whatever its coefficient."""
    process = Process()
    process.open.set()
    shared = SharedSearch(process)
    begun = await shared.begin(Start(np.array([3]), np.array([0.75]), None, 20))
    by_vector = await shared.nearest(process.vectors[3], 20)
    np.testing.assert_array_equal(begun.nearest.keys, by_vector.keys)
    np.testing.assert_array_equal(begun.nearest.similarity, by_vector.similarity)
    assert begun.nearest.vectors is None
    assert begun.nearest.to_seeds is None


async def test_a_search_from_an_unknown_track_finds_nothing() -> None:
    """It is told which is unknown; those who asked in the same call have their answers."""
    process = Process()
    shared = SharedSearch(process)
    starts = [
        Start(np.array(keys), np.ones(len(keys)), None, 4, seeds=len(keys))
        for keys in ([1], [2, 1_000], [3, 4])
    ]
    tasks = [asyncio.create_task(shared.begin(start)) for start in starts]
    process.open.set()
    one, unknown, two = [await task for task in tasks]
    assert unknown.known.tolist() == [True, False]
    assert not len(unknown.nearest.keys)
    assert one.nearest.keys[0] == 1
    both = process.vectors[3] + process.vectors[4]
    assert two.nearest.keys.tolist() == np.argsort(-process.vectors @ both)[:4].tolist()
    assert process.calls == ["look_up"]


async def test_tracks_that_cancel_out_are_refused_alone() -> None:
    """A track less itself is no query; the question beside it is answered."""
    process = Process()
    shared = SharedSearch(process)
    nothing = asyncio.create_task(shared.begin(Start(np.array([5, 5]), np.array([1.0, -1.0]), None, 4)))
    fine = asyncio.create_task(shared.begin(Start(np.array([5]), np.ones(1), None, 4)))
    process.open.set()
    with pytest.raises(SearchCallError, match="zero"):
        await nothing
    assert (await fine).nearest.keys[0] == 5


async def test_who_gives_up_leaves_the_others_alone() -> None:
    """A cancelled question changes nothing for those that share its call."""
    process = Process()
    shared = SharedSearch(process)
    tasks = [asyncio.create_task(shared.nearest(process.vectors[i], 3)) for i in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    process.open.set()
    assert [(await tasks[i]).keys[0] for i in (0, 2)] == [0, 2]


async def test_a_process_that_is_gone_is_told_to_all() -> None:
    """Whoever waits hears of it, and who asks later too."""
    process = Process()
    shared = SharedSearch(process)
    tasks = [asyncio.create_task(shared.nearest(process.vectors[i], 3)) for i in range(3)]
    process.gone = True
    process.open.set()
    for task in tasks:
        with pytest.raises(SearchStoppedError):
            await task
    with pytest.raises(SearchStoppedError):
        await shared.vectors(np.array([1]))


async def test_some_tracks_alone_are_searched_apart() -> None:
    """With `among`, nothing else is found, and unknown tracks are passed over."""
    process = Process()
    process.open.set()
    among = np.array([3, 250, 17, 5_000])
    found = await SharedSearch(process).nearest(process.vectors[0], 10, among=among)
    order = sorted((3, 17, 250), key=lambda key: -float(process.vectors[key] @ process.vectors[0]))
    assert found.keys.tolist() == order
    np.testing.assert_allclose(found.similarity, process.vectors[order] @ process.vectors[0], atol=1e-6)
