"""Many who ask the search at once: one call for all of them, and to each the answer that it would have had alone."""

import asyncio
from typing import Any

import numpy as np
import pytest

from streams.agents.recommender.shared_search import SharedSearch
from streams.neighbours.search.process import SearchCallError, SearchStoppedError
from streams.neighbours.search.searcher import Searcher
from streams.neighbours.search.types import Found, LookedUp, SearchSettings

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
        asyncio.create_task(shared.nearest(process.vectors[i], i + 1, vectors=i % 2 == 0))
        for i in range(1, 9)
    ]
    named = [asyncio.create_task(shared.vectors(np.array(keys))) for keys in ([7, 1_000], [9])]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert process.calls == ["look_up"]
    process.open.set()
    await first
    for i, one in enumerate([await task for task in asked], start=1):
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
    found = await SharedSearch(process).nearest(process.vectors[0], 10, among=among, vectors=True)
    order = sorted((3, 17, 250), key=lambda key: -float(process.vectors[key] @ process.vectors[0]))
    assert found.keys.tolist() == order
    np.testing.assert_array_equal(found.vectors, process.vectors[order])
