"""The change feed: the latest list of a track, at most once in each window.

A list that changes ten times in a second is published once or twice, since compaction would drop the rest. `added` and
`removed` compare a list with the one published before, by whichever worker (`FeedLedger`). A version names one list: it is
published as it is stored, or not at all.

Only the generation that serves publishes. Its workers are silent until they have the feed right, which excludes every other
generation; then they publish what the store has of theirs, and go on with what changes.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final, NoReturn, TypeVar

import numpy as np
import structlog
from opentelemetry.trace import SpanContext

from store.errors import StoreUnavailableError
from store.terms import TermEndedError
from store.told import ToldList
from streams.contracts import tracing, track_key
from streams.faults import FaultPoint, reach
from streams.generations import FIRST_GENERATION, GenerationName
from streams.kafka.retry import until_done
from streams.maintenance.change_messages import ChangeEncoder, EncodedChanges
from streams.maintenance.feed_ledger import FeedLedger, Settlement
from streams.maintenance.feed_term import FeedRight, FeedTerm, ServingTurns, changed_block
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.maintenance.pending_changes import ROOM, ChangedBlock, PendingChanges
from streams.metrics import WorkerMetrics

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

# Maximum number of lists published in a round.
ROUND: Final = 1_024
# While lists keep changing, the publisher rests after a round for so many times its duration. That bounds its share of the
# time; a track may then be published less often than once in a window.
REST: Final = 3.0
# Lists count as changing while the last change is no older than this.
BUSY_SECONDS: Final = 0.5
# Seconds between looks at the feed right while there is nothing to publish.
LOOK_SECONDS: Final = 0.5
# Seconds between requests for the feed right.
ASK_SECONDS: Final = 0.1
# Seconds after which a silent publisher reads what others have published, so that little is left to read at a switch.
FOLLOW_SECONDS: Final = 10.0


class ChangePublisher:
    """Holds changed lists until their window opens, and publishes them.

    Args:
        ledger: Publishes, and records what has been published.
        right: The right to publish.
        serving: Whether our generation serves.
        ownership: The owned partitions, whose published versions advance.
        names: Track ids by key.
        window: Seconds in which a track is published at most once.
        metrics: Counts messages.
        generation: Whose lists they are.
    """

    def __init__(
        self,
        ledger: FeedLedger,
        right: FeedRight,
        serving: ServingTurns,
        ownership: Ownership,
        names: TrackNames,
        window: float,
        metrics: WorkerMetrics,
        generation: GenerationName = FIRST_GENERATION,
    ) -> None:
        self._generation = generation
        self._encoder = ChangeEncoder(names, metrics, generation)
        self._ledger = ledger
        self._right = right
        self._serving = serving
        # None: we are silent.
        self._term: FeedTerm | None = None
        self._ownership = ownership
        self._names = names
        self._window = window
        self._metrics = metrics
        self._waiting = PendingChanges()
        # By partition, the epoch for which the ledger has all earlier publications.
        self._known: dict[int, int] = {}
        # The newest version received, by owner.
        self._flushed: dict[int, int] = {}
        self._added_at = 0.0
        self._told_at: dict[int, float] = {}
        self._tombstones = False
        # Tracks that have changed owners since the publication under way began, and their owners now.
        self._let_go: dict[int, int | None] = {}
        self._traces: list[SpanContext] = []
        self._wake = asyncio.Event()
        self._fits = asyncio.Event()
        self._fits.set()
        self._turn = asyncio.Lock()

    def add(
        self,
        block: ChangedBlock,
        *,
        flushed: Mapping[int, int],
        withdrawn: bool,
        trace: SpanContext | None = None,
    ) -> None:
        """Queue changed lists; `flushed` has the newest version of each partition, up to which none is missing.

        Dropped while we are silent: the store has them.
        """
        if self._term is None:
            return
        if trace is not None:
            self._traces.append(trace)
        for owner, version in flushed.items():
            self._flushed[owner] = max(self._flushed.get(owner, 0), version)
        self._waiting.add(block)
        self._added_at = time.monotonic()
        self._tombstones |= withdrawn
        self._wake.set()
        self._observe()

    async def room(self) -> None:
        """Wait while the queue of changed lists is full (backpressure)."""
        await self._fits.wait()

    def _observe(self) -> None:
        self._metrics.feed_pending.set(self.pending)
        self._metrics.feed_bytes.set(self._waiting.memory_bytes)
        if self.pending < ROOM:
            self._fits.set()
        else:
            self._fits.clear()

    def keep_only(self, owners: Collection[int]) -> None:
        """Drop queued lists of all other partitions."""
        self._waiting.keep_only(owners)
        if self._term is not None:
            self._term.unread.intersection_update(owners)
        self._flushed = {owner: version for owner, version in self._flushed.items() if owner in owners}
        self._observe()

    def let_go(self, moved: Mapping[int, int | None]) -> None:
        """Drop pending lists of tracks that are now in another partition, given by key; None: they are withdrawn."""
        self._waiting.let_go(moved)
        self._let_go |= moved
        self._observe()

    async def quiet(self) -> None:
        """Wait until no message of a partition that is not ours is in flight."""
        async with self._turn:
            return

    @property
    def pending(self) -> int:
        """Number of lists to publish."""
        return len(self._waiting)

    async def run(self) -> NoReturn:
        """Publish whenever our generation serves, for ever."""
        while True:
            await self._until_begun()
            rounds = asyncio.create_task(self._run_rounds(), name="publishing")
            turned = asyncio.create_task(self._serving.turned(True), name="serving")
            try:
                await asyncio.wait((rounds, turned), return_when=asyncio.FIRST_COMPLETED)
                async with self._turn:  # a round under way comes to its end
                    rounds.cancel()
            finally:
                for task in (rounds, turned):
                    task.cancel()
                await asyncio.gather(rounds, turned, return_exceptions=True)
            if not rounds.cancelled() and (error := rounds.exception()) is not None:
                raise error
            await self.end()

    async def _until_begun(self) -> None:
        while not (self._serving.serves and await self.begin()):
            if self._serving.serves:
                await asyncio.sleep(ASK_SECONDS)
                continue
            await self.end()
            await until_done(
                self._follow, what="follow the change feed", system="kafka", metrics=self._metrics
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._serving.turned(False), FOLLOW_SECONDS)

    async def begin(self) -> bool:
        """Begin to publish, if we can have the feed right now; whether we have."""
        term = await self._right.take_feed()
        if term is None:
            return False
        # No claim and no flush is under way: those before are read from the store, those after are queued.
        async with self._turn, self._ownership.claiming(), self._ownership.writing:
            try:
                version = await self._ledger.draw_version()
            except StoreUnavailableError:
                return False
            self._term = FeedTerm(term, version, set(self._right.held))
        log.info("publishing", generation=str(term.name), promoted=term.promoted)
        self._wake.set()
        return True

    async def end(self) -> None:
        """Be silent, and let another generation publish; a round under way comes to its end before."""
        async with self._turn:
            if self._term is not None:
                self._fall_silent()
            await self._right.release_feed()

    def _fall_silent(self) -> None:
        self._term = None
        self.keep_only(())
        self._known, self._told_at, self._traces, self._tombstones = {}, {}, [], False
        self._wake.set()
        log.info("publishing no more")

    async def _follow(self) -> None:
        """Read what another generation has published, and drop our own tombstones: nobody waits for them."""

        async def follow(epochs: dict[int, int]) -> None:
            if epochs:
                await self._ledger.catch_up(epochs)
                await self._ledger.forget_owed(sorted(epochs), self._generation)

        await self._ownership.under_epochs(follow)

    async def _run_rounds(self) -> None:
        """Publish until we are silent."""
        while self._term is not None:
            with contextlib.suppress(TimeoutError):
                # A right that is lost is noticed, even if there is nothing to publish.
                await asyncio.wait_for(self._work(self._term), LOOK_SECONDS)
            self._wake.clear()
            began = time.monotonic()
            told = await self.publish_due()
            ended = time.monotonic()
            busy = ended - self._added_at < BUSY_SECONDS
            rest = REST * (ended - began) if busy else 0.0
            if told < ROUND and (self.pending or self._tombstones):  # what is left waits for its window
                rest = max(rest, min(0.1, self._window / 4))
            await asyncio.sleep(rest)

    async def _work(self, term: FeedTerm) -> None:
        """Wait until there may be something to publish."""
        await self._ownership.held()
        if not self.pending and not self._tombstones and not term.unread:
            await self._wake.wait()

    async def publish_due(self, *, everything: bool = False) -> int:
        """Publish a round of due lists, or all, and record it in the store; returns how many were due."""
        if everything and self._term is None and self._serving.serves:
            await self.begin()  # perhaps there was no time for it yet
        async with self._turn:
            if self._term is None:
                return 0
            self._let_go.clear()
            try:
                self._require_term()
                if not self._ownership.partitions:
                    return 0
                if self.pending < ROUND:
                    await self._read_page(self._term)
                while everything and self._term.unread and self.pending < ROOM:
                    await self._read_page(self._term)
                return await self._publish_due(everything=everything)
            except TermEndedError as error:
                log.info("a round is given up", reason=str(error))
                self._fall_silent()
                return 0

    async def _read_page(self, term: FeedTerm) -> None:
        """Queue some of the lists that were stored before we began to publish."""
        if not term.unread:
            return
        found, first = await until_done(
            lambda: self._ledger.unpublished_page(term.unread, term.first),
            what="read unpublished lists",
            system="postgres",
            metrics=self._metrics,
        )
        # What changes meanwhile is newer, and queued already.
        self._put_back(changed_block(found))
        for owner, version in term.read(found, first).items():
            self._flushed[owner] = max(self._flushed.get(owner, 0), version)
        # At the end: the outbox may hold tombstones from before, and what has been read counts as published only when a round
        # has said so, be there anything more to tell or not.
        self._tombstones |= first is None

    async def _publish_due(self, *, everything: bool) -> int:
        now = time.monotonic()
        self._told_at = {key: told for key, told in self._told_at.items() if now - told < self._window}
        waiting = self._waiting.keys(self._ownership.partitions)
        if everything:
            due = list(waiting)
        else:
            due = list(islice((which for which in waiting if which[1] not in self._told_at), ROUND))
        if not due and not self._tombstones:
            return 0
        self._tombstones = False
        traces, self._traces = self._traces, []
        with tracing.traced_span("publish changes", "producer", links=traces, mess_lists=len(due)):
            for start in range(0, max(len(due), 1), ROUND):
                block = self._take(due[start : start + ROUND])
                if block is not None:
                    self._told_at.update(dict.fromkeys(block.keys.tolist(), now))
                await self._publish(block)
        self._observe()
        return len(due)

    def _take(self, due: Iterable[tuple[int, int]]) -> ChangedBlock | None:
        """Remove and return the queued lists of these keys."""
        return self._waiting.take((owner, key) for owner, key in due if owner in self._ownership)

    async def _publish(self, block: ChangedBlock | None) -> None:
        """Publish some lists and the outbox's tombstones, and record it."""

        async def attempt() -> None:
            nonlocal block
            term = self._require_term()
            await self._know(term)
            before: dict[int, ToldList] = {}
            promoted: set[int] = set()
            if (block := self._still_ours(block)) is not None:
                block = await self._tellable(block)
                before = await self._ledger.told(block.keys)
                promoted = term.promoted(block, before)
                block = await self._renewed(term, block, before)
            await self._tell(term, block, before, promoted)

        await until_done(attempt, what="publish changes", system="kafka", metrics=self._metrics)

    def _require_term(self) -> FeedTerm:
        if self._term is None or not self._serving.serves:
            raise TermEndedError("another generation serves")
        self._right.require_feed()
        return self._term

    async def _know(self, term: FeedTerm) -> None:
        """Bring the ledger up to date for our partitions, with publications of other workers, too."""

        async def catch_up(epochs: dict[int, int]) -> None:
            fresh = {p: epoch for p, epoch in epochs.items() if self._known.get(p) != epoch}
            if fresh:
                ends = await self._ledger.catch_up(fresh)
                await self._begin_owners({p: fresh[p] for p in fresh.keys() - term.begun}, term, ends)
            self._known = epochs

        await self._ownership.under_epochs(catch_up)

    async def _begin_owners(self, epochs: dict[int, int], term: FeedTerm, ends: Mapping[int, int]) -> None:
        """For partitions that are new in this term: note whether all their lists are to be told because of a promotion."""
        untold: set[int] = set()
        if epochs and term.serving.promoted:
            untold = await self._ledger.unpublished(epochs)
        if untold:
            await self._ledger.owe_absent({p: epochs[p] for p in untold}, ends)
        term.begin(epochs, untold, ends)

    def _still_ours(self, block: ChangedBlock | None) -> ChangedBlock | None:
        """The lists that are ours; others stay queued, in case their partition comes back."""
        if block is None:
            return None
        ours = np.isin(block.owners, self._ownership.partitions)
        self._put_back(block.rows(np.flatnonzero(~ours)))
        return block.rows(np.flatnonzero(ours))

    async def _renewed(
        self, term: FeedTerm, block: ChangedBlock, before: Mapping[int, ToldList]
    ) -> ChangedBlock:
        """These lists, each with a version that follows that of its track's last message.

        A generation's list may be older than the one that another generation has published since. Left out is what has been
        written again meanwhile: it is queued, or about to be.
        """
        outdated = await asyncio.to_thread(self._encoder.outdated, block, before, term.floor)
        if not outdated.any():
            return block
        old, fine = block.rows(np.flatnonzero(outdated)), block.rows(np.flatnonzero(~outdated))
        async with self._ownership.writing:
            # Drawn once: an attempt whose end is unknown may be repeated.
            version = await self._until_stored(self._ledger.draw_version)
            keys, owners, versions = old.keys.tolist(), old.owners.tolist(), old.versions.tolist()
            held: dict[int, int] = {}

            async def renew(epochs: dict[int, int]) -> set[int]:
                nonlocal held
                held = {p: epochs[p] for p in set(owners) & epochs.keys()}
                return await self._ledger.renew(held, keys, owners, versions, version)

            renewed = await self._until_stored(lambda: self._ownership.under_epochs(renew))
        self._put_back(old.rows(np.flatnonzero(~np.isin(old.owners, list(held)))))
        now = old.rows(np.flatnonzero(np.isin(old.keys, list(renewed)) & np.isin(old.owners, list(held))))
        return fine.joined(replace(now, versions=np.full(len(now), version)))

    async def _until_stored(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        return await until_done(attempt, what="renew versions", system="postgres", metrics=self._metrics)

    def _put_back(self, block: ChangedBlock) -> None:
        """Have lists wait again, but for those that are somebody else's by now."""
        places = zip(block.keys.tolist(), block.owners.tolist(), strict=True)
        ours = [at for at, (key, owner) in enumerate(places) if self._let_go.get(key, owner) == owner]
        self._waiting.put_back(block.rows(np.array(ours, dtype=np.int64)))

    async def _tell(
        self,
        term: FeedTerm,
        block: ChangedBlock | None,
        before: Mapping[int, ToldList],
        promoted: Collection[int],
    ) -> None:
        owed = await self._owed()
        encoded = EncodedChanges()
        if block is not None and len(block):
            encoded = await asyncio.to_thread(self._encoder.encode, block, before, promoted)
            self._put_back(block.rows(np.array(encoded.unnamed, dtype=np.int64)))
        # A track that the engine still holds may be published once more, which must not happen after its tombstone:
        # the tombstone waits for the next flush.
        owed = [(at, track_id) for at, track_id in owed if self._names.of(track_key(track_id)) is None]
        messages = [*encoded.messages, *((track_id.encode(), None) for _, track_id in owed)]
        known, self._known = self._known, {}  # until it is recorded, nobody knows whether it was delivered
        reach(FaultPoint.BEFORE_PUBLISH)
        places = await self._ledger.deliver(messages)
        reach(FaultPoint.AFTER_PUBLISH)
        settled = Settlement(term.serving, withdrawals=[at for at, _ in owed])
        gone = [(track_key(track_id), 0, None) for _, track_id in owed]
        for (partition, offset), (key, version, names) in zip(places, [*encoded.lists, *gone], strict=True):
            settled.told.append(ToldList(key, partition, offset, version, names))
        await self._settle(term, settled, known)
        self._known = known
        self._metrics.changes_published.labels("list").inc(len(encoded.messages))
        self._metrics.changes_published.labels("tombstone").inc(len(owed))

    async def _tellable(self, block: ChangedBlock) -> ChangedBlock:
        """The lists of which no other owner may still tell something; the others wait."""
        held = await self._ledger.held(block.keys.tolist(), block.owners.tolist())
        if not held:
            return block
        waits = np.isin(block.keys, list(held))
        self._put_back(block.rows(np.flatnonzero(waits)))
        return block.rows(np.flatnonzero(~waits))

    async def _owed(self) -> list[tuple[int, str]]:
        """Number and track id of the tombstones that may be delivered now."""
        mine = self._ownership.partitions
        if not mine:  # the next owner does it, or we when we hold something again
            self._tombstones = True
            return []
        owed = await self._ledger.owed(mine)
        if not owed:
            return []
        held = await self._ledger.held(
            [track_key(track_id) for _, track_id, _ in owed], [owner for *_, owner in owed]
        )
        free = [(at, track_id) for at, track_id, _ in owed if track_key(track_id) not in held]
        self._tombstones |= len(free) < len(owed)
        return free

    async def _settle(self, term: FeedTerm, settled: Settlement, known: Mapping[int, int]) -> None:
        """Record publications, and the versions up to which everything has been published."""

        async def settle(epochs: dict[int, int]) -> None:
            settled.published = self._told(epochs.keys() - term.unread)
            settled.known = [p for p, epoch in epochs.items() if known.get(p) == epoch]
            await self._ledger.settle(epochs, settled)

        await self._ownership.under_epochs(settle)

    def _told(self, owners: Collection[int]) -> dict[int, int]:
        """By partition, the version up to which every list has been published."""
        oldest = self._waiting.oldest(owners)
        return {owner: oldest.get(owner, self._flushed.get(owner, 0) + 1) - 1 for owner in owners}
