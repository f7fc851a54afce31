"""Exchanges the context of a space when another of its generations serves.

The store says which generation serves (`OffsetWatcher`). A context of that one is opened while the one of before serves; then
requests get the new one, and the old one is closed when its last request has ended.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import structlog

from serving.background import running_tasks
from serving.context import ApiContext, SpaceParts
from serving.kafka.change_subscriber import ChangeSubscriber
from serving.metrics import ApiMetrics
from serving.recommend.response_cache import ResponseCache
from streams.generations import GenerationName
from streams.single_flight import SingleFlight

logger = structlog.get_logger("serving")

# Seconds until a context that could not be opened is tried again; then twice as many, up to a limit.
RETRY_SECONDS = (0.25, 5.0)
# Seconds between two looks whether requests still have a context that is to be closed.
_LOOK_SECONDS = 0.05

OpenContext = Callable[[GenerationName, SpaceParts], AbstractAsyncContextManager[ApiContext]]
OpenFeed = Callable[[GenerationName, Callable[[], ResponseCache]], ChangeSubscriber | None]


class ContextExchange:
    """Has the context of the generation that serves a space.

    Args:
        first: The generation that serves until the store says otherwise.
        open_context: Opens a context of a generation.
        open_feed: The change feed of a generation's space, which outdates the memory that it is told of.
        metrics: Told whose parts to report.
        timeout: Seconds that a reader waits for the store's word, and for a context that is being opened.
        deserted: Called when the store says that no generation of the space serves any more.

    Attributes:
        current: What requests get.
        trouble: Why another generation serves than should; None if that is not so.
        feed: The space's change feed; None without a broker.
    """

    current: ApiContext

    def __init__(
        self,
        first: GenerationName,
        open_context: OpenContext,
        open_feed: OpenFeed,
        metrics: ApiMetrics,
        timeout: float,
        deserted: Callable[[], None],
    ) -> None:
        self._first = first
        self._open = open_context
        self._metrics = metrics
        self._timeout = timeout
        self._deserted = deserted
        self._closing = AsyncExitStack()
        self._turned = asyncio.Event()
        self._attempts = SingleFlight[str, None]()
        self._leaving: set[asyncio.Task[None]] = set()
        self.trouble: str | None = None
        self.feed = open_feed(first, lambda: self.current.memory)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the context of the generation that serves, and follow the store's word and the feed around a block.

        Where that generation cannot be opened, the first one serves.

        Raises:
            StoreError: The first one cannot be opened.
        """
        self.current, self._closing = await self._opened(self._first)
        self._report()
        try:
            if self._wanted is not None:
                await self._switch()
            work = {f"exchange {self._first.space}": self._run()}
            if self.feed is not None:
                work[f"change feed {self._first.space}"] = self.feed.run()
            async with running_tasks(work):
                yield
        finally:
            await self._attempts.close()
            for task in self._leaving:
                task.cancel()
            await asyncio.gather(*self._leaving, return_exceptions=True)
            self._metrics.unwatch(self._first.space)
            await self._closing.aclose()

    async def renewed(self, since: float) -> ApiContext:
        """The context that serves by a look at the store that began at `since` or later, of `time.perf_counter`.

        That of before, if the store does not answer in time, or another one cannot be opened.
        """
        while not (watch := self.current.recommending.watch).trusted(since):
            watch.attend(since)
            if not await watch.renewed(since, self._timeout):
                break
            if self._wanted is not None and self.trouble is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timeout):
                        await self._attempts.run_detached("switch", self._switch, name="switch")
        return self.current

    async def unused(self) -> None:
        """Wait until no request has the current context, or none can wait for anything any more."""
        await _unused(self.current)

    @property
    def gone(self) -> bool:
        """Whether the store has said that no generation of the space serves any more."""
        serving = self.current.recommending.watch.seen.serving
        return bool(serving) and self._first.space not in serving

    @property
    def _wanted(self) -> GenerationName | None:
        """The generation that should serve and does not."""
        serving = self.current.recommending.watch.seen.serving.get(self._first.space)
        return None if serving == self.current.generation else serving

    async def _run(self) -> None:
        while True:
            await self._turned.wait()
            wait, longest = RETRY_SECONDS
            while self._wanted is not None:
                await self._attempts.run_detached("switch", self._switch, name="switch")
                if self._wanted is not None:
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, longest)
            self.trouble = None
            self._turned.clear()
            if self.gone:
                self._deserted()

    async def _switch(self) -> None:
        """Try once to let the generation serve that should."""
        wanted = self._wanted
        if wanted is None:
            return
        began = time.perf_counter()
        try:
            context, closing = await self._opened(wanted)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the one of before goes on serving
            self._failed(wanted, str(error) or repr(error))
            return
        seen = context.recommending.watch.seen.serving
        if seen.get(wanted.space) != wanted:
            # It has turned again, which the current context will hear of, too.
            await closing.aclose()
            if not seen:
                self._failed(wanted, "Postgres has not answered in time")
            return
        left = self._leave(self.current, self._closing)
        self.current, self._closing, self.trouble = context, closing, None
        self._report()
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        logger.info("another generation serves", generation=str(wanted), opened_ms=milliseconds)
        task = asyncio.create_task(left, name="leave a generation")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _opened(self, generation: GenerationName) -> tuple[ApiContext, AsyncExitStack]:
        closing = AsyncExitStack()
        parts = SpaceParts(feed=self.feed, turned=self._turned.set, trouble=lambda: self.trouble)
        return await closing.enter_async_context(self._open(generation, parts)), closing

    def _failed(self, wanted: GenerationName, reason: str) -> None:
        trouble = f"generation {wanted} should serve, and {self.current.generation} does: {reason}"
        if trouble != self.trouble:
            logger.warning("a generation cannot be served", generation=str(wanted), error=reason)
        self.trouble = trouble

    async def _leave(self, context: ApiContext, closing: AsyncExitStack) -> None:
        """Close a context once no request has it, or once none can wait for anything any more."""
        try:
            await _unused(context)
        finally:
            self._metrics.count_hits(context.memory)
            try:
                await closing.aclose()
            except Exception:
                logger.exception(
                    "the parts of a generation were not closed", generation=str(context.generation)
                )
            else:
                logger.info("a generation is closed", generation=str(context.generation))

    def _report(self) -> None:
        current = self.current
        self._metrics.watch(
            current.generation, current.pool, current.memory, current.fragments, current.workers
        )


async def _unused(context: ApiContext) -> None:
    with contextlib.suppress(TimeoutError):
        # A stream of events needs it no more, and may last for long.
        async with asyncio.timeout(context.recommending.bound):
            while context.requests:  # noqa: ASYNC110 -- an event would cost each request
                await asyncio.sleep(_LOOK_SECONDS)
