"""The path of a recommendation: memory, then the store, then the workers.

What the store has is read; only what it has not is asked of the workers. While the store is away, what memory holds
is answered and marked stale.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import structlog

from serving import problems
from serving.metrics import ApiMetrics
from serving.problems import ProblemError
from serving.recommend import replies
from serving.recommend.batching import RequestBatcher
from serving.recommend.lists import ListReader
from serving.recommend.offset_watcher import OffsetWatcher
from serving.recommend.questions import ReadQuestion
from serving.recommend.response_cache import ANY, CachedResponse, ResponseCache
from serving.settings import ServingSettings
from serving.workers.client import WorkerClient, WorkerReply
from store import materialised, progress
from store.errors import StoreUnavailableError
from store.materialised import Place, StoredBody
from store.progress import StoreProgress
from streams.contracts import RecommendationQuery, delivery_members, entity_tag
from streams.single_flight import SingleFlight

logger = structlog.get_logger("serving")

# A stored body is looked at so often, in seconds, even where no list has changed: popularity may have.
_BODY_CHECK_SECONDS = 1.0
# A stale body is asked for anew at most so often, in seconds, while it is read.
_REFRESH_SECONDS = 1.0
_REFRESHES_REMEMBERED = 10_000
# Seconds for what is done between the waits.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """Bytes that answer a question.

    Attributes:
        body: A JSON object.
        tag: Its entity tag, empty where it was computed for this answer.
        source: Where it came from, for the metrics.
    """

    body: bytes
    tag: bytes
    source: str


class ReadService:
    """Answers questions.

    Args:
        settings: How it serves.
        pool: The store.
        memory: Ready answers.
        lists: The stored lists.
        watch: What the store's offsets are.
        asker: Asks the workers.
        metrics: Where answers are counted by source.

    Attributes:
        watch: What the store's offsets are.
        bound: Seconds an answer takes at most.
    """

    def __init__(
        self,
        settings: ServingSettings,
        pool: asyncpg.Pool,
        memory: ResponseCache,
        lists: ListReader,
        watch: OffsetWatcher,
        asker: WorkerClient,
        metrics: ApiMetrics,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._lists = lists
        self.watch = watch
        self._asker = asker
        self._metrics = metrics
        timeout = settings.store_timeout
        # The longest way there is: a wait for an event, a look, a read, the workers, and a read again. Each step has its
        # own bound; this one holds should a step forget it.
        self.bound = settings.min_offset_wait + 3 * timeout + settings.request_timeout + _GRACE_SECONDS
        self._versions = RequestBatcher[int, int](lambda keys: progress.fetch_versions(pool, keys), timeout)
        self._bodies = RequestBatcher[Place, StoredBody](
            lambda at: materialised.read_bodies(pool, at), timeout
        )
        self._checks = RequestBatcher[Place, tuple[str, bool]](
            lambda at: materialised.check_bodies(pool, at), timeout
        )
        self._loads = SingleFlight[bytes, CachedResponse | bytes]()
        self._refreshed: dict[bytes, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def certain(self, entry: CachedResponse, now: float) -> bool:
        """Whether an entry is known to be the newest, without another look."""
        return (
            not entry.outdated
            and entry.checked >= self.watch.moved(entry.owner)
            and now < entry.due
            and self.watch.trusted(now)
        )

    def ready(self, entry: CachedResponse, began: float, *, stale: bool = False) -> tuple[bytes, bytes]:
        """Body and entity tag of an entry as they are sent; `stale` where it is known to be so."""
        stale = stale or entry.stale or self.watch.behind(entry.owner)
        entry.hits += 1
        milliseconds = (time.perf_counter() - began) * 1000
        ending = delivery_members(cached=True, stale=stale, milliseconds=milliseconds)
        return entry.body + ending, entry.tag_stale if stale else entry.tag

    async def answer(
        self, target: bytes, track_id: str | None, question: ReadQuestion, began: float
    ) -> ReadAnswer:
        """The answer to a question.

        Args:
            target: What memory may keep it under: equal targets, equal answers.
            track_id: The reference track, None for other starts.
            question: What is asked.
            began: When, of `time.perf_counter`.

        Raises:
            ProblemError: There is no answer.
            StoreUnavailableError: Neither the store nor memory has it.
        """
        try:
            async with asyncio.timeout(self.bound):
                return await self._answer(target, track_id, question, began)
        except TimeoutError:
            raise problems.no_reply(self.bound) from None

    async def _answer(
        self, target: bytes, track_id: str | None, question: ReadQuestion, began: float
    ) -> ReadAnswer:
        if question.event is not None and not await self._taken_in(*question.event):
            return await self._provisional(track_id, question)
        if track_id is None or not (question.listed or question.variant is not None):
            return ReadAnswer(await self._ask(question, track_id), b"", "workers")
        # Who names an event reads what the store has now.
        entry = self._memory.get(target) if question.event is None else None
        try:
            if entry is not None and await self._holds(entry, began):
                return ReadAnswer(*self.ready(entry, began), "checked")
            found = await self._load(target, track_id, question, entry)
        except StoreUnavailableError:
            if entry is None:
                raise
            return ReadAnswer(*self.ready(entry, began, stale=True), "fallback")
        if isinstance(found, CachedResponse) and found.stale and not question.listed:
            self._refresh(found, question)
        if isinstance(found, bytes):
            return ReadAnswer(found, b"", "workers")
        source = "lists" if isinstance(found.place, int) else "bodies"
        return ReadAnswer(*self.ready(found, began), source)

    async def ask(self, query: RecommendationQuery, *, hits: int = 1) -> bytes:
        """The workers' answer; `hits` is how often it was wanted since they were asked for it.

        Raises:
            ProblemError: They refuse, or there is no answer.
        """
        return (await self._reply(query, hits)).body

    async def _reply(self, query: RecommendationQuery, hits: int) -> WorkerReply:
        return await self._asker.ask(query, hits=hits, tick=self.watch.tick)

    async def _ask(self, question: ReadQuestion, track_id: str | None) -> bytes:
        return await self.ask(question.query if track_id is None else question.about(track_id))

    async def _taken_in(self, partition: int, offset: int) -> bool:
        """Wait, not for long, until an event is in every list it can be in."""

        def taken(seen: StoreProgress) -> bool:
            lists = seen.absorbed.values()
            return bool(lists) and all(sources.get(partition, 0) > offset for sources in lists)

        return await self.watch.until(taken, self._settings.min_offset_wait)

    async def _provisional(self, track_id: str | None, question: ReadQuestion) -> ReadAnswer:
        """What the workers find by a search of their own."""
        try:
            return ReadAnswer(await self._ask(question, track_id), b"", "workers")
        except ProblemError as problem:
            if problem.status_code == 404 and question.event is not None:
                raise problems.not_taken_in(*question.event) from problem
            raise

    async def _searched(self, question: ReadQuestion, track_id: str, *, hits: int) -> WorkerReply:
        """The workers' answer in place of one that the store will have."""
        try:
            return await self._reply(question.about(track_id), hits)
        except ProblemError as problem:
            if question.listed and problem.status_code in {503, 504}:
                raise problems.list_not_ready(track_id) from problem
            raise

    async def _holds(self, entry: CachedResponse, now: float) -> bool:
        """Whether an entry is still the newest, after a look at the store where that is not certain."""
        if self.certain(entry, now) and not entry.stale:
            return True
        if entry.outdated or not self.watch.trusted(now):
            return False
        tick = self.watch.tick
        if isinstance(entry.place, int):
            holds = await self._versions.get(entry.place) == entry.state
        else:
            holds = await self._checks.get(entry.place) == (entry.state, False)
            entry.due = now + _BODY_CHECK_SECONDS
        if holds:
            entry.checked = max(entry.checked, tick)
            entry.stale = False
        else:
            entry.outdated = True
        return holds and not entry.outdated

    async def _load(
        self, target: bytes, track_id: str, question: ReadQuestion, before: CachedResponse | None
    ) -> CachedResponse | bytes:
        """What the store or else the workers have; readers who want the same at the same time share one read."""
        if not question.listed:
            # Bodies are read many at a time, and requests to the workers are shared: nothing more to share here.
            return await self._loaded(target, track_id, question, before)
        return await self._loads.run(target, lambda: self._loaded(target, track_id, question, before))

    async def _loaded(
        self, target: bytes, track_id: str, question: ReadQuestion, before: CachedResponse | None
    ) -> CachedResponse | bytes:
        entry = await self._stored(target, track_id, question)
        if entry is not None and _short(entry, question):
            # What is excluded is all that the list has: only a search finds others.
            return await self._ask(question, track_id)
        if entry is None:
            try:
                reply = await self._searched(
                    question, track_id, hits=1 if before is None else before.hits + 1
                )
            except ProblemError as problem:
                # Workers that take over from another reply late; by then they have written the list.
                if (
                    problem.name != "list-not-ready"
                    or (entry := await self._stored(target, track_id, question)) is None
                ):
                    raise
            else:
                self._remember(target, track_id, question, reply)
                return reply.body
        if before is not None:
            entry.hits = before.hits
        # What was read while tracks were being written may show them as they were.
        if question.event is None and entry.checked >= self.watch.written:
            self._memory.put(entry)
        return entry

    def _remember(self, target: bytes, track_id: str, question: ReadQuestion, reply: WorkerReply) -> None:
        """Have at hand what workers have answered and are about to write: who asks at once need not ask them again."""
        place = None if question.listed or question.event is not None else question.place(track_id)
        # As in `_loaded`: what was made while tracks were being written may show them as they were.
        if place is None or not self._memory.max_bytes or reply.tick < self.watch.written:
            return
        there = self._memory.get(target)
        if there is not None and there.checked >= reply.tick:  # another who asked the same has seen to it
            return
        kept, mentions = replies.materialised_body(reply.body)
        tag = entity_tag(kept)
        self._memory.put(
            CachedResponse(
                target=target,
                body=kept[:-1],
                tag=tag.encode(),
                track_id=track_id,
                place=place,
                state=tag,
                owner=ANY,
                mentions=mentions,
                checked=reply.tick,
                due=time.perf_counter() + _BODY_CHECK_SECONDS,
            )
        )

    async def _stored(self, target: bytes, track_id: str, question: ReadQuestion) -> CachedResponse | None:
        """What the store has; None where it has nothing."""
        read = self._from_list if question.listed else self._from_body
        return await read(target, track_id, question, self.watch.tick)

    async def _from_list(
        self, target: bytes, track_id: str, question: ReadQuestion, tick: int
    ) -> CachedResponse | None:
        query = question.query
        found = await self._lists.read(track_id, limit=query.top_k, exclude=query.exclude)
        if found is None:
            return None
        # Of use to memory alone, and to whoever counts what is left of a list.
        named = self._memory.max_bytes or query.exclude
        body, tag = replies.list_body(found, self._settings.ingest_topic, query.top_k)
        return CachedResponse(
            target=target,
            body=body,
            tag=tag.encode(),
            track_id=track_id,
            place=found.key,
            state=found.header.version,
            owner=found.header.owner,
            mentions=(track_id, *[card.track_id for card, _ in found.neighbours]) if named else (),
            checked=tick,
            stale=found.header.behind,
        )

    async def _from_body(
        self, target: bytes, track_id: str, question: ReadQuestion, tick: int
    ) -> CachedResponse | None:
        place = question.place(track_id)
        found = None if place is None else await self._bodies.get(place)
        if place is None or found is None or not (question.event is None or found.has(*question.event)):
            return None
        return CachedResponse(
            target=target,
            body=found.body[:-1],
            tag=found.tag.encode(),
            track_id=track_id,
            place=place,
            state=found.tag,
            owner=ANY,
            mentions=replies.mentioned_tracks(orjson.loads(found.body)) if self._memory.max_bytes else (),
            checked=tick,
            due=time.perf_counter() + _BODY_CHECK_SECONDS,
            stale=found.stale,
        )

    def _refresh(self, entry: CachedResponse, question: ReadQuestion) -> None:
        """Ask for a stale body anew, without anybody waiting for it."""
        now = time.perf_counter()
        if self._asker.busy or now - self._refreshed.get(entry.target, 0.0) < _REFRESH_SECONDS:
            return
        self._refreshed[entry.target] = now
        if len(self._refreshed) > _REFRESHES_REMEMBERED:
            self._refreshed.clear()
        hits, entry.hits = max(1, entry.hits), 0
        task = asyncio.create_task(self._refreshing(question.about(entry.track_id), hits), name="refresh")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refreshing(self, query: RecommendationQuery, hits: int) -> None:
        try:
            await self._asker.ask(query, hits=hits)
        except ProblemError as problem:
            logger.debug("a stale body was not renewed", problem=problem.name)

    async def close(self) -> None:
        """Give up what nobody waits for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _short(entry: CachedResponse, question: ReadQuestion) -> bool:
    """Whether a list has lost so much to `exclude` that it is shorter than what was asked for."""
    query = question.query
    return question.listed and bool(query.exclude) and len(entry.mentions) - 1 < query.top_k
