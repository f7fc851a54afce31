"""Histories of a change feed: lists are flushed, tracks come and go, publishers die, others take over, generations switch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from streams.contracts import track_key
from streams.generations import GenerationName
from streams.maintenance.arrays import deletion_batch
from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.feed_term import changed_block
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.metrics import WorkerMetrics
from tests.support.feed import feed_faults, unexplained_switches
from tests.support.feed_memory import (
    OWNERS,
    TRACKS,
    DiedError,
    FeedStore,
    MemoryDatabase,
    MemoryLog,
    MemoryRight,
    MemoryStore,
    StoredList,
    Watch,
    list_rows,
)

# What a history is made of: what happens, and a number from which the rest of it is drawn.
Step = tuple[str, int]
KINDS = ("flush", "flush", "withdraw", "bring back", "publish", "publish all", "take over", "claim again")
# Further kinds where there are two generations.
SWITCHES = ("promote", "notice", "notice", "notice", "cut", "follow")
# What may become of a publication, and how often each is drawn.
FATES = ("well", "well", "well", "refused", "half delivered", "dies before", "dies after", "dies settled")


def memory_stores(count: int) -> list[MemoryStore]:
    """The stores of so many generations, the first of which serves."""
    database = MemoryDatabase()
    return [MemoryStore(database, number) for number in range(1, count + 1)]


class FeedWorker:
    """The one worker of a generation, and those that take over from it; lists of its own are in place of an engine's.

    Attributes:
        alive: The tracks that the generation has.
    """

    def __init__(
        self, store: FeedStore, number: int, log: MemoryLog, locked: dict[MemoryRight, int], tracks: int
    ) -> None:
        self.store = store
        self.number = number
        self.alive = {f"t{i}" for i in range(tracks)}
        self._log = log
        self._locked = locked
        self.right = MemoryRight(locked, store, number)

    async def start(self) -> None:
        """Store the tracks, and claim everything."""
        for name in sorted(self.alive):
            await self.store.bring(name, _owner_of(name))
        await self.take_over()

    async def take_over(self) -> None:
        """The process dies. Another one goes on: with new epochs, and the names of what is stored."""
        await self.right.release_feed()
        self.right = MemoryRight(self._locked, self.store, self.number)
        self.watch, self.ownership, self.names = Watch(), Ownership(), TrackNames()
        self.names.load(map(track_key, sorted(self.alive)), sorted(self.alive))
        self.publisher = ChangePublisher(
            self.store.ledger(self._log),
            self.right,
            self.watch,
            self.ownership,
            self.names,
            0.0,
            WorkerMetrics(),
            GenerationName(number=self.number),
        )
        await self.claim()
        await self.notice()

    async def claim(self) -> None:
        """Claim all partitions, as if another worker had held them meanwhile; what may not have been told is queued."""
        async with self.ownership.claiming():
            claims = await self.store.claim()
            self.ownership.take(claims)
            self.publisher.keep_only(())
            stored = await self.store.lists()
            late = {n: one for n, one in stored.items() if one[1] > claims[one[0]].published_version}
            flushed = {p: claim.published_version for p, claim in claims.items()}
            for owner, version, _ in late.values():
                flushed[owner] = max(flushed[owner], version)
            self._add(late, flushed)

    async def notice(self) -> None:
        """See whether the generation serves, and ask for the right to publish or give it back."""
        self.watch.serves = await self.store.term() is not None
        if self.watch.serves:
            if self.publisher._term is None:
                if self.right.lost:
                    await self.publisher.end()
                await self.publisher.begin()
        else:
            await self.publisher.end()

    async def follow(self) -> None:
        """Read what others have published, if it is silent."""
        if self.publisher._term is None:
            await self.publisher._follow()

    async def flush(self, rng: random.Random, whose: Sequence[str]) -> None:
        """Write lists of these tracks, and hand them to the feed."""
        written: dict[str, tuple[int, list[str]]] = {}
        for name in whose:
            others = sorted(self.alive - {name})
            written[name] = _owner_of(name), rng.sample(others, k=rng.randint(0, len(others)))
        version = await self.store.write(written)
        made = {name: (owner, version, names) for name, (owner, names) in written.items()}
        self._add(made, dict.fromkeys(range(OWNERS), version))

    def _add(self, lists: Mapping[str, StoredList], flushed: Mapping[int, int]) -> None:
        block = changed_block(list_rows([(name, *one) for name, one in lists.items()]))
        self.publisher.add(block, flushed=flushed, withdrawn=True)

    async def withdraw(self, name: str) -> None:
        """A track goes."""
        self.alive.discard(name)
        await self.store.withdraw(name, _owner_of(name))
        self.names.update(deletion_batch(np.array([track_key(name)], dtype=np.int64), 2))
        self._add({}, {})

    async def bring(self, name: str) -> None:
        """A track comes, without a list yet."""
        self.alive.add(name)
        await self.store.bring(name, _owner_of(name))
        self.names.load([track_key(name)], [name])

    async def complete(self) -> None:
        """Write what names a track that has gone, and what is missing, as an engine would."""
        stored = await self.store.lists()
        wrong = {name for name, (_, _, names) in stored.items() if set(names) - self.alive}
        await self.flush(random.Random(0), sorted(wrong | self.alive - stored.keys()))


class FeedHistory:
    """Plays steps for generations with a worker each.

    Args:
        stores: Of the generations; all but the first lack a track.

    Attributes:
        log: What was told.
        broken: Whether a worker has died, or lost the right, after which a new list may be told without a reason.
    """

    def __init__(self, stores: Sequence[FeedStore]) -> None:
        self.log = MemoryLog()
        self.broken = False
        locked: dict[MemoryRight, int] = {}
        self.workers = [
            FeedWorker(store, number, self.log, locked, TRACKS - (number > 1))
            for number, store in enumerate(stores, 1)
        ]

    async def play(self, steps: Sequence[Step]) -> None:
        """Play steps, each looked at, then come to rest and look at the whole."""
        for worker in self.workers:
            await worker.start()
        for kind, number in steps:
            await self._step(kind, random.Random(number))
            assert self._faults() == []
        await self._rest()
        assert self._faults() == []
        last = {told.key.decode(): told.value for told in self.records()}
        serving = await self._serving()
        for name, (_, version, names) in (await serving.store.lists()).items():
            change = orjson.loads(last.pop(name) or b"null")
            told = [item["track_id"] for item in change["recommendations"]]
            assert (change["version"], told, change["generation"]) == (version, names, serving.number), name
        assert not [name for name, value in last.items() if value is not None]

    def records(self) -> list[Any]:
        """All messages, in the order of their partitions."""
        return [told for log in self.log.partitions for told in log]

    def _faults(self) -> list[str]:
        return feed_faults(self.records()) + ([] if self.broken else unexplained_switches(self.records()))

    async def _serving(self) -> FeedWorker:
        (found,) = [worker for worker in self.workers if await worker.store.term() is not None]
        return found

    async def _step(self, kind: str, rng: random.Random) -> None:
        worker = rng.choice(self.workers) if len(self.workers) > 1 else self.workers[0]
        match kind:
            case "flush":
                await worker.flush(rng, rng.sample(sorted(worker.alive), k=min(3, len(worker.alive))))
            case "withdraw" if len(worker.alive) > 2:
                await worker.withdraw(rng.choice(sorted(worker.alive)))
            case "bring back":
                gone = sorted({f"t{i}" for i in range(TRACKS)} - worker.alive)
                if gone:
                    await worker.bring(rng.choice(gone))
            case "publish" | "publish all":
                fates = FATES if len(self.workers) == 1 else (*FATES, "overtaken", "overtaken")
                await self._publish(worker, rng.choice(fates), everything=kind == "publish all")
            case "take over":
                self.broken = True
                await worker.take_over()
            case "claim again":
                await worker.claim()
            case _:
                await self._switch(worker, kind)

    async def _switch(self, worker: FeedWorker, kind: str) -> None:
        match kind:
            case "promote" if await worker.store.term() is None:
                await worker.store.promote()
            case "notice":
                await worker.notice()
            case "cut":
                self.broken = True
                worker.right.cut()
            case "follow":
                await worker.follow()

    async def _publish(self, worker: FeedWorker, fate: str, *, everything: bool) -> None:
        async def overtake() -> None:
            """The worker loses the right; the other generation serves, publishes and has had its time."""
            worker.right.cut()
            (other,) = (each for each in self.workers if each is not worker)
            if await other.store.term() is None:
                await other.store.promote()
            await other.notice()
            await other.publisher.publish_due(everything=True)
            await worker.store.promote()
            await other.notice()

        self.broken |= fate.startswith(("dies", "overtaken"))
        self.log.fate, self.log.overtake = fate, overtake
        try:
            await worker.publisher.publish_due(everything=everything)
            died = self.log.fate == "after settling"
        except DiedError:
            died = True
        self.log.fate = "well"
        if died:
            await worker.take_over()

    async def _rest(self) -> None:
        """Every engine completes its lists, every worker sees who serves, and then all is told."""
        self.log.fate = "well"
        for worker in self.workers:
            await worker.complete()
        serving = await self._serving()
        for _ in range(2):
            # The first time, what was under way when a right broke is given up, and the others let go.
            for worker in [*(each for each in self.workers if each is not serving), serving]:
                await worker.publisher.publish_due(everything=True)
                await worker.notice()
        for _ in range(3):
            await serving.publisher.publish_due(everything=True)


def _owner_of(name: str) -> int:
    return int(name[1:]) % OWNERS
