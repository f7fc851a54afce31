"""Answers recommendations from memory, then from the store, then by the workers.

Workers are asked only if the store has no answer. While the store is away, answers from memory are marked stale.
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
from serving.problems import ApiProblemError
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
from streams.contracts import RecommendationQuery, delivery_members, entity_tag, generation_members
from streams.generations import GenerationName
from streams.single_flight import SingleFlight

logger = structlog.get_logger("serving")

# Seconds between checks of a stored body, even if no list has changed: popularity may have.
_BODY_CHECK_SECONDS = 1.0
# A list that has not absorbed an event for so many seconds is stale. Under a steady stream, every list always lacks some
# event of the last tens of milliseconds.
_STALE_SECONDS = 1.0
# Minimum seconds between two requests to refresh a stale body.
_REFRESH_SECONDS = 1.0
_REFRESHES_REMEMBERED = 10_000
# Seconds that a reader of a new track waits for its list, if lists are not further behind: the list takes some tens of
# milliseconds, and the search of another answer as many, from the same processors.
_FIRST_LIST_SECONDS = 0.1
# Seconds for the work between the waits.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The answer to a question.

    Attributes:
        body: A JSON object.
        tag: Its entity tag; empty if it was computed for this answer.
        source: Its source, for the metrics.
    """

    body: bytes
    tag: bytes
    source: str


class ReadService:
    """Answers questions.

    Args:
        settings: How it serves.
        generation: Whose lists these are.
        pool: The store.
        memory: Responses in memory.
        lists: Reads stored lists.
        watch: Polls the store's offsets.
        workers: Sends requests to the workers.
        metrics: Counts answers by source.

    Attributes:
        watch: Polls the store's offsets.
        bound: Maximum seconds of an answer.
    """

    def __init__(
        self,
        settings: ServingSettings,
        generation: GenerationName,
        pool: asyncpg.Pool,
        memory: ResponseCache,
        lists: ListReader,
        watch: OffsetWatcher,
        workers: WorkerClient,
        metrics: ApiMetrics,
    ) -> None:
        self._settings = settings
        self._topic = settings.topic_of(generation)
        self._of = generation_members(generation)
        self._tagged = replies.tag_ending(generation).encode()
        self._memory = memory
        self._lists = lists
        self.watch = watch
        self._workers = workers
        self._metrics = metrics
        timeout = settings.store_timeout
        # The longest path: a wait for an event, a check, a read, the workers, and another read. Each step has its own
        # timeout; this one is the last resort.
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
        """Whether an entry is known to be current without a check of the store."""
        self.watch.attend(now)
        return (
            not entry.outdated
            and entry.checked >= self.watch.moved(entry.owner)
            and now < entry.due
            and self.watch.trusted(now)
        )

    def ready(self, entry: CachedResponse, began: float, *, stale: bool = False) -> tuple[bytes, bytes]:
        """Body and entity tag of an entry, ready to send; `stale` if the caller knows that it is."""
        behind = round(self.watch.behind(entry.owner, began), 3)
        stale = stale or entry.stale or behind > _STALE_SECONDS
        entry.hits += 1
        milliseconds = (time.perf_counter() - began) * 1000
        ending = delivery_members(
            self._of, cached=True, stale=stale, behind_seconds=behind, milliseconds=milliseconds
        )
        return entry.body + ending, entry.tag_stale if stale else entry.tag

    async def answer(
        self, target: bytes, track_id: str | None, question: ReadQuestion, began: float
    ) -> ReadAnswer:
        """The answer to a question.

        Args:
            target: The key in memory: equal targets have equal answers.
            track_id: The reference track; None for other starting points.
            question: The question.
            began: The start of the request, by `time.perf_counter`.

        Raises:
            ProblemError: There is no answer.
            StoreUnavailableError: The store cannot be reached, and memory has no answer.
        """
        self.watch.attend(began)
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
        # A question that names an event bypasses memory.
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
        """The workers' answer; `hits` says how often it was read since they were last asked for it.

        Raises:
            ProblemError: They refuse, or there is no answer.
        """
        return (await self._reply(query, hits)).body

    async def _reply(self, query: RecommendationQuery, hits: int) -> WorkerReply:
        return await self._workers.ask(query, hits=hits, tick=self.watch.tick)

    async def _ask(self, question: ReadQuestion, track_id: str | None) -> bytes:
        return await self.ask(question.query if track_id is None else question.about(track_id))

    async def _taken_in(self, partition: int, offset: int) -> bool:
        """Wait a limited time until all lists have absorbed an event."""

        def taken(seen: StoreProgress) -> bool:
            lists = seen.absorbed.values()
            return bool(lists) and all(sources.get(partition, 0) > offset for sources in lists)

        return await self.watch.until(taken, self._settings.min_offset_wait)

    async def _provisional(self, track_id: str | None, question: ReadQuestion) -> ReadAnswer:
        """The workers' answer from a search, without a stored list."""
        try:
            return ReadAnswer(await self._ask(question, track_id), b"", "workers")
        except ApiProblemError as problem:
            if problem.status_code == 404 and question.event is not None:
                raise problems.not_taken_in(*question.event) from problem
            raise

    async def _searched(self, question: ReadQuestion, track_id: str, *, hits: int) -> WorkerReply:
        """The workers' answer, while the store has none yet."""
        try:
            return await self._reply(question.about(track_id), hits)
        except ApiProblemError as problem:
            if question.listed and problem.status_code in {503, 504}:
                raise problems.list_not_ready(track_id) from problem
            raise

    async def _holds(self, entry: CachedResponse, now: float) -> bool:
        """Whether an entry is current, by a check of the store if that is not certain."""
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
        """The answer of the store or else of the workers; identical concurrent reads share one."""
        if not question.listed:
            # Reads of bodies are batched, and requests to the workers are shared already.
            return await self._loaded(target, track_id, question, before)
        return await self._loads.run(target, lambda: self._loaded(target, track_id, question, before))

    async def _loaded(
        self, target: bytes, track_id: str, question: ReadQuestion, before: CachedResponse | None
    ) -> CachedResponse | bytes:
        flushed = self.watch.moved(ANY)
        entry = await self._stored(target, track_id, question)
        if entry is None and question.listed:
            entry = await self._first_list(target, track_id, question, flushed)
        if entry is not None and _short(entry, question):
            # The question excludes the whole list: only a search finds other tracks.
            return await self._ask(question, track_id)
        if entry is None:
            try:
                reply = await self._searched(
                    question, track_id, hits=1 if before is None else before.hits + 1
                )
            except ApiProblemError as problem:
                # A worker that has just taken over replies late; by then it may have written the list.
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
        # A read during writes may show the written tracks as they were.
        if question.event is None and entry.checked >= self.watch.written:
            self._memory.put(entry)
        return entry

    async def _first_list(
        self, target: bytes, track_id: str, question: ReadQuestion, flushed: int
    ) -> CachedResponse | None:
        """The store's answer, if a flush after the tick `flushed` brings it soon."""
        began = now = time.perf_counter()
        while (left := began + _FIRST_LIST_SECONDS - now) > 0 and await self.watch.renewed(now, left):
            if self.watch.moved(ANY) > flushed:
                flushed = self.watch.moved(ANY)
                if (entry := await self._stored(target, track_id, question)) is not None:
                    return entry
            now = time.perf_counter()
            if not 0 < self.watch.behind(ANY, now) < _FIRST_LIST_SECONDS:
                # No event is on its way, or too many are.
                break
        return None

    def _remember(self, target: bytes, track_id: str, question: ReadQuestion, reply: WorkerReply) -> None:
        """Cache a worker's answer that it is about to store, for readers who ask before that."""
        place = None if question.listed or question.event is not None else question.place(track_id)
        # As in `_loaded`: an answer from during writes may show the written tracks as they were.
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
                tag=self._tag(tag),
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
        """The store's answer; None if it has none."""
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
        body, tag = replies.list_body(found, self._topic, query.top_k)
        return CachedResponse(
            target=target,
            body=body,
            tag=self._tag(tag),
            track_id=track_id,
            place=found.key,
            state=found.header.version,
            owner=found.header.owner,
            mentions=(track_id, *[fragment.track_id for fragment, _ in found.neighbours]) if named else (),
            checked=tick,
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
            tag=self._tag(found.tag),
            track_id=track_id,
            place=place,
            state=found.tag,
            owner=ANY,
            mentions=replies.mentioned_tracks(orjson.loads(found.body)) if self._memory.max_bytes else (),
            checked=tick,
            due=time.perf_counter() + _BODY_CHECK_SECONDS,
            stale=found.stale,
        )

    def _tag(self, tag: str) -> bytes:
        """The entity tag of a response, from that of its stored body."""
        return tag[:-1].encode() + self._tagged

    def _refresh(self, entry: CachedResponse, question: ReadQuestion) -> None:
        """Refresh a stale body in the background."""
        now = time.perf_counter()
        if self._workers.busy or now - self._refreshed.get(entry.target, 0.0) < _REFRESH_SECONDS:
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
            await self._workers.ask(query, hits=hits)
        except ApiProblemError as problem:
            logger.debug("a stale body was not renewed", problem=problem.name)

    async def close(self) -> None:
        """Cancel background refreshes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _short(entry: CachedResponse, question: ReadQuestion) -> bool:
    """Whether `exclude` has made a list shorter than asked for."""
    query = question.query
    return question.listed and bool(query.exclude) and len(entry.mentions) - 1 < query.top_k
