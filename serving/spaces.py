"""The spaces that serve: a `ContextExchange` each, and the context of each request.

That of `default` is always open. Another one is opened at the first request for its space, and closed once no generation of the
space serves. Which spaces serve, the polls of the open ones say.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypedDict, cast

import structlog
from starlette.requests import Request
from starlette.types import Scope

from serving import problems
from serving.context import ApiContext
from serving.exchange import RETRY_SECONDS, ContextExchange
from streams.generations import DEFAULT_SPACE, GenerationName
from streams.single_flight import SingleFlight

logger = structlog.get_logger("serving")

# Of a query string, before the name of its space.
_NAMED = b"space="

MakeExchange = Callable[[GenerationName, Callable[[], None]], ContextExchange]


@dataclass(frozen=True, slots=True)
class _OpenSpace:
    """The exchange of a further space, and what closes it."""

    exchange: ContextExchange
    closing: AsyncExitStack


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a space could not be opened, and when that may be tried again, by `time.perf_counter`."""

    reason: str
    until: float


class Spaces:
    """Has the context of every space that serves.

    Args:
        make: The exchange of a generation's space; calls what it is given when no generation of that serves any more.
        timeout: Seconds that a reader waits for a space that is being opened.

    Attributes:
        default: The exchange of the space `default`.
    """

    def __init__(self, make: MakeExchange, timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._open: dict[str, _OpenSpace] = {}
        self._failures: dict[str, _Failure] = {}
        self._openings = SingleFlight[str, ContextExchange | None]()
        self._leaving: dict[asyncio.Task[None], _OpenSpace] = {}
        self.default = make(GenerationName(), lambda: None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve `default` around a block, and what else is asked for.

        Raises:
            StoreError: No context of `default` can be opened.
        """
        async with self.default.running():
            try:
                yield
            finally:
                await self._openings.close()
                leaving = dict(self._leaving)
                for task in leaving:
                    task.cancel()
                await asyncio.gather(*leaving, return_exceptions=True)
                # A task that was cancelled before it began has closed nothing.
                for there in (*leaving.values(), *self._open.values()):
                    await there.closing.aclose()

    @property
    def serving(self) -> Mapping[str, GenerationName]:
        """The generation that serves each space, as the store said last."""
        return self.default.current.recommending.watch.seen.serving

    @property
    def open(self) -> list[str]:
        """The spaces whose context is open."""
        return [DEFAULT_SPACE, *sorted(self._open)]

    @property
    def troubles(self) -> list[str]:
        """What keeps further spaces from being served as they should."""
        failed = [
            f"space {space} serves and cannot be opened: {failure.reason}"
            for space, failure in sorted(self._failures.items())
            if space in self.serving and space not in self._open
        ]
        return [each.exchange.trouble for each in self._open.values() if each.exchange.trouble] + failed

    def at_hand(self, query_string: bytes) -> ApiContext:
        """The open context of the space that a query string seems to name, else that of `default`.

        A guess that costs next to nothing: `settled_context` corrects it.
        """
        if query_string and (at := query_string.find(_NAMED)) >= 0:
            name = query_string[at + len(_NAMED) :].partition(b"&")[0].decode("latin-1")
            found = self._open.get(name)
            if found is not None:
                return found.exchange.current
        return self.default.current

    async def settled(self, space: str, began: float) -> ApiContext:
        """The context of a space, by a look at the store that began at `began` or later, of `time.perf_counter`.

        Raises:
            ProblemError: No generation of the space serves, or it cannot be read.
        """
        if space == DEFAULT_SPACE:
            return await self.default.renewed(began)
        there = self._open.get(space)
        exchange = await self._opened(space, began) if there is None else there.exchange
        context = await exchange.renewed(began)
        if exchange.gone:
            raise problems.unknown_space_problem(space, set(self.serving) - {space})
        return context

    async def _opened(self, space: str, began: float) -> ContextExchange:
        watch = (await self.default.renewed(began)).recommending.watch
        # The last poll may be of before its first promotion.
        if space not in self.serving and not await watch.renewed(began, self._timeout):
            raise problems.store_unavailable_problem()
        name = self.serving.get(space)
        if name is None:
            raise problems.unknown_space_problem(space, self.serving)
        failure = self._failures.get(space)
        if failure is not None and time.perf_counter() < failure.until:
            raise problems.space_unavailable(space)
        try:
            async with asyncio.timeout(self._timeout):
                exchange = await self._openings.run_detached(
                    space, lambda: self._open_space(name), name=f"open space {space}"
                )
        except TimeoutError:
            exchange = None
        if exchange is None:
            raise problems.space_unavailable(space)
        return exchange

    async def _open_space(self, name: GenerationName) -> ContextExchange | None:
        """Open a further space; None if that fails."""
        space, closing = name.space, AsyncExitStack()
        began = time.perf_counter()
        exchange = self._make(name, lambda: self._let_go(space))
        try:
            await closing.enter_async_context(exchange.running())
        except Exception as error:  # noqa: BLE001 -- whatever it is, the other spaces go on serving
            reason = str(error) or repr(error)
            before = self._failures.get(space)
            if before is None or before.reason != reason:
                logger.warning("a space cannot be opened", space=space, error=reason)
            self._failures[space] = _Failure(reason, time.perf_counter() + RETRY_SECONDS[0])
            return None
        self._failures.pop(space, None)
        self._open[space] = _OpenSpace(exchange, closing)
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        logger.info("a space is open", generation=str(exchange.current.generation), opened_ms=milliseconds)
        return exchange

    def _let_go(self, space: str) -> None:
        """Give a further space to nobody any more, and close it once no request has it."""
        there = self._open.pop(space, None)
        if there is None:
            return
        if there.exchange.feed is not None:
            there.exchange.feed.end()
        task = asyncio.create_task(_leave(space, there), name=f"leave space {space}")
        self._leaving[task] = there
        task.add_done_callback(self._leaving.pop)


async def _leave(space: str, there: _OpenSpace) -> None:
    try:
        await there.exchange.unused()
    finally:
        try:
            await there.closing.aclose()
        except Exception:
            logger.exception("the parts of a space were not closed", space=space)
        else:
            logger.info("a space is closed", space=space)


class LifespanState(TypedDict):
    """The lifespan's state; that of a request also has its `context`."""

    spaces: Spaces


def spaces_of(request: Request) -> Spaces:
    """The spaces that serve, for a route of `request`."""
    return cast("Spaces", request.scope["state"]["spaces"])


async def settled_context(scope: Scope, began: float, space: str = DEFAULT_SPACE) -> ApiContext:
    """The context of a request that will read a space; another one, if the store has turned while nobody asked.

    To be called before the request has used its context.

    Args:
        scope: The request's.
        began: When it began, by `time.perf_counter`.
        space: The space that it names.

    Raises:
        ProblemError: No generation of the space serves, or it cannot be read.
    """
    state = scope["state"]
    context: ApiContext = state["context"]
    if context.generation.space == space and context.recommending.watch.trusted(began):
        return context
    spaces: Spaces = state["spaces"]
    settled = await spaces.settled(space, began)
    if settled is not context:
        context.requests -= 1
        settled.requests += 1
        state["context"] = settled
    return settled
