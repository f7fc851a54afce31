"""One call of the search process for all who ask at the same time.

A product of several queries with the catalogue takes hardly longer than that of one, since reading the catalogue is most
of it; and each call costs both processes and a thread as much as half a search. What is asked for while a call is under way
waits for it, and is asked for in one call then. Nobody who comes alone waits. For the same reason a search that starts
from tracks is one call, not a second one after that for their vectors.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streams.engine.search.process import SearchCallError
from streams.engine.search.types import Found, LookedUp, Mix
from streams.engine.types import Keys, Scores, Vectors

# Searches for more than this are not made together: each of them would be as long as the longest.
TOGETHER = 512

Vector = npt.NDArray[np.float32]

_NOBODY: Keys = np.empty(0, dtype=np.int64)
_NOTHING: npt.NDArray[np.float64] = np.empty(0)


class Search(Protocol):
    """The part of `SearchProcess` that is used here."""

    async def search(
        self, queries: Vectors, count: int, *, among: Keys | None = None, without: Keys | None = None
    ) -> Found:
        """See `SearchProcess.search`."""

    async def look_up(self, keys: Keys, mixes: Sequence[Mix], count: int) -> LookedUp:
        """See `SearchProcess.look_up`."""


@dataclass(frozen=True, eq=False, slots=True)
class Nearest:
    """What one search found, best first.

    Attributes:
        keys: int64 (m,).
        similarity: float32 (m,), cosines.
        vectors: float32 (m, d); None where they were not asked for.
        to_seeds: float32 (m, s), the cosines to each of s seeds; None where they were not asked for.
    """

    keys: Keys
    similarity: Scores
    vectors: Vectors | None = None
    to_seeds: npt.NDArray[np.float32] | None = None

    def first(self, count: int) -> "Nearest":
        """The best of them."""
        vectors, to_seeds = self.vectors, self.to_seeds
        return Nearest(
            self.keys[:count],
            self.similarity[:count],
            None if vectors is None else vectors[:count],
            None if to_seeds is None else to_seeds[:count],
        )


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """What a search starts from, and what it is to bring.

    Attributes:
        keys: int64 (m,), tracks.
        coefficients: float64 (m,): the query is the sum of so much of each of them, and `base`.
        base: float32 (d,); None for nothing.
        count: How many are wanted, `TOGETHER` at most.
        seeds: The cosines to so many of the first of `keys` are wanted.
        vectors: Whether the vectors of what is found are wanted.
    """

    keys: Keys
    coefficients: npt.NDArray[np.float64]
    base: Vector | None
    count: int
    seeds: int = 0
    vectors: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Begun:
    """What a search from tracks has found.

    Attributes:
        vectors: float32 (m, d), of the tracks that it started from; zero where unknown.
        known: bool (m,), which of them are known.
        nearest: What is most similar to all of them; nothing where one is unknown.
    """

    vectors: Vectors
    known: npt.NDArray[np.bool_]
    nearest: Nearest


@dataclass(frozen=True, eq=False, slots=True)
class _Query:
    start: Start
    answer: asyncio.Future[Begun]


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

    async def nearest(self, vector: Vector, count: int, *, among: Keys | None = None) -> Nearest:
        """The tracks most similar to a vector, equal ones by track id.

        Args:
            vector: float32 (d,).
            count: How many.
            among: int64 (m,), the only tracks to consider.

        Raises:
            SearchCallError: The vector has another dimension, or is zero or not finite.
            SearchStoppedError: The process is gone.
        """
        if among is None and count <= TOGETHER:
            return (await self.begin(Start(_NOBODY, _NOTHING, vector, count))).nearest
        found = await self._search.search(vector[None], count, among=among)
        length = found.lengths[0]
        return Nearest(found.keys[0, :length], found.scores[0, :length])

    async def begin(self, start: Start) -> Begun:
        """The vectors of some tracks, and what is most similar to their sum, equal ones by track id.

        Raises:
            SearchCallError: The sum is zero or not finite, or the base has another dimension.
            SearchStoppedError: The process is gone.
        """
        query = _Query(start, asyncio.get_running_loop().create_future())
        self._waiting.queries.append(query)
        self._ask()
        return await query.answer

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
        keys, mixes, at = [], [], 0
        for start in (query.start for query in waiting.queries):
            places = (at, at := at + len(start.keys))
            keys.append(start.keys)
            mixes.append(Mix(places, start.coefficients, start.base, start.seeds, start.vectors))
        keys += [one.keys for one in waiting.named]
        count = max((query.start.count for query in waiting.queries), default=0)
        return await self._search.look_up(np.concatenate(keys), mixes, count)


def _hand_out(waiting: _Waiting, looked_up: LookedUp) -> None:
    at = 0
    for i, query in enumerate(waiting.queries):
        part = slice(at, at := at + len(query.start.keys))
        begun = Begun(looked_up.vectors[part], looked_up.known[part], _nearest(looked_up, i, query.start))
        if not query.answer.done():
            query.answer.set_result(begun)
    for named in waiting.named:
        part = slice(at, at := at + len(named.keys))
        if not named.answer.done():
            named.answer.set_result((looked_up.vectors[part], looked_up.known[part]))


def _nearest(looked_up: LookedUp, i: int, start: Start) -> Nearest:
    found = looked_up.found
    assert found is not None
    nearest = Nearest(found.keys[i], found.scores[i], looked_up.brought[i], looked_up.to_seeds[i])
    return nearest.first(min(start.count, int(found.lengths[i])))
