"""One call of the search process for all who ask at the same time.

A product of several queries with the catalogue takes hardly longer than that of one, since reading the catalogue is most
of it; and each call costs both processes and a thread as much as half a search. What is asked for while a call is under way
waits for it, and is asked for in one call then. Nobody who comes alone waits.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streams.neighbours.search.process import SearchCallError
from streams.neighbours.search.types import Found, LookedUp
from streams.neighbours.types import Keys, Scores, Vectors

# Searches for more than this are not made together: each of them would be as long as the longest.
_TOGETHER = 512

Vector = npt.NDArray[np.float32]


class Search(Protocol):
    """The part of `SearchProcess` that is used here."""

    async def search(
        self, queries: Vectors, count: int, *, among: Keys | None = None, without: Keys | None = None
    ) -> Found:
        """See `SearchProcess.search`."""

    async def look_up(
        self, keys: Keys, queries: Vectors | None, count: int, wanted: npt.NDArray[np.bool_]
    ) -> LookedUp:
        """See `SearchProcess.look_up`."""


@dataclass(frozen=True, eq=False, slots=True)
class Nearest:
    """What one search found, best first.

    Attributes:
        keys: int64 (m,).
        similarity: float32 (m,), cosines.
        vectors: float32 (m, d); None where they were not asked for.
    """

    keys: Keys
    similarity: Scores
    vectors: Vectors | None = None


@dataclass(frozen=True, eq=False, slots=True)
class _Query:
    vector: Vector
    count: int
    vectors: bool
    answer: asyncio.Future[Nearest]


@dataclass(frozen=True, eq=False, slots=True)
class _Named:
    keys: Keys
    answer: asyncio.Future[tuple[Vectors, npt.NDArray[np.bool_]]]


@dataclass(slots=True)
class _Waiting:
    queries: list[_Query] = field(default_factory=list)
    named: list[_Named] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.queries or self.named)

    def each(self) -> "Sequence[_Waiting]":
        return [_Waiting([one], []) for one in self.queries] + [_Waiting([], [one]) for one in self.named]

    @property
    def answers(self) -> "list[asyncio.Future[Any]]":
        return [query.answer for query in self.queries] + [named.answer for named in self.named]

    def fail(self, error: BaseException) -> None:
        for answer in self.answers:
            if not answer.done():
                answer.set_exception(error)

    def cancel(self) -> None:
        for answer in self.answers:
            answer.cancel()


class SharedSearch:
    """A search process that is asked by many at once.

    Args:
        search: Started.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._waiting = _Waiting()
        self._asking: asyncio.Task[None] | None = None

    async def nearest(
        self, vector: Vector, count: int, *, among: Keys | None = None, vectors: bool = False
    ) -> Nearest:
        """The tracks most similar to a vector, equal ones by track id.

        Args:
            vector: float32 (d,).
            count: How many.
            among: int64 (m,), the only tracks to consider.
            vectors: Whether to bring theirs.

        Raises:
            SearchCallError: The vector has another dimension, or is zero or not finite.
            SearchStoppedError: The process is gone.
        """
        if among is None and count <= _TOGETHER:
            query = _Query(vector, count, vectors, asyncio.get_running_loop().create_future())
            self._waiting.queries.append(query)
            self._ask()
            return await query.answer
        found = await self._search.search(vector[None], count, among=among)
        keys = found.keys[0, : found.lengths[0]]
        brought, there = await self.vectors(keys) if vectors else (None, slice(None))
        similarity = found.scores[0, : len(keys)]
        return Nearest(keys[there], similarity[there], None if brought is None else brought[there])

    async def vectors(self, keys: Keys) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of some tracks, float32 (m, d), zero where unknown, and which are known, bool (m,).

        Raises:
            SearchStoppedError: The process is gone.
        """
        named = _Named(keys, asyncio.get_running_loop().create_future())
        self._waiting.named.append(named)
        self._ask()
        return await named.answer

    def _ask(self) -> None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._run(), name="search")

    async def _run(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, _Waiting()
                await self._answer(waiting)
        finally:
            self._asking = None

    async def _answer(self, waiting: _Waiting) -> None:
        try:
            looked_up = await self._look_up(waiting)
        except (SearchCallError, ValueError) as error:
            apart = waiting.each()
            if len(apart) == 1:
                waiting.fail(error)
                return
            # One of them is refused: the others are not.
            for one in apart:
                await self._answer(one)
            return
        except Exception as error:  # noqa: BLE001 -- whoever waits hears of it
            waiting.fail(error)
            return
        except BaseException:
            waiting.cancel()
            raise
        _hand_out(waiting, looked_up)

    async def _look_up(self, waiting: _Waiting) -> LookedUp:
        keys = [one.keys for one in waiting.named]
        queries = [query.vector for query in waiting.queries]
        return await self._search.look_up(
            np.concatenate(keys) if keys else np.empty(0, dtype=np.int64),
            np.stack(queries) if queries else None,
            max((query.count for query in waiting.queries), default=0),
            np.array([query.vectors for query in waiting.queries], dtype=np.bool_),
        )


def _hand_out(waiting: _Waiting, looked_up: LookedUp) -> None:
    start = 0
    for named in waiting.named:
        part = slice(start, start := start + len(named.keys))
        if not named.answer.done():
            named.answer.set_result((looked_up.vectors[part], looked_up.known[part]))
    found, brought = looked_up.found, iter(looked_up.brought)
    for i, query in enumerate(waiting.queries):
        assert found is not None
        count = min(query.count, int(found.lengths[i]))
        vectors = next(brought)[:count] if query.vectors else None
        if not query.answer.done():
            query.answer.set_result(Nearest(found.keys[i, :count], found.scores[i, :count], vectors))
