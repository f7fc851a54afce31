"""Histories of a change feed: lists are flushed, tracks come and go, publishers die, others take over."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import orjson
from aiokafka.errors import KafkaConnectionError

from store.errors import FencedError
from store.partitions import PartitionClaim
from store.told import ToldList
from streams.contracts import track_key
from streams.kafka.feed_log import FeedStretch, Message
from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.feed_ledger import FeedLedger, Settlement, _told_in
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.maintenance.pending_changes import ChangedBlock
from streams.metrics import WorkerMetrics
from tests.support.feed import feed_faults

OWNERS, TRACKS, FEED_PARTITIONS = 2, 5, 2
# What a history is made of: what happens, and a number from which the rest of it is drawn.
Step = tuple[str, int]
KINDS = ("flush", "flush", "withdraw", "bring back", "publish", "publish all", "take over")
# What may become of a publication, and how often each is drawn.
FATES = ("well", "well", "well", "refused", "half delivered", "dies before", "dies after", "dies settled")


class DiedError(BaseException):
    """The process was killed."""


@dataclass(frozen=True)
class Told:
    """A message as a consumer gets it."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None


class MemoryLog:
    """The feed's topic in memory, whose next delivery may go wrong."""

    def __init__(self) -> None:
        self.partitions: list[list[Told]] = [[] for _ in range(FEED_PARTITIONS)]
        self.fate = "well"

    async def deliver(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Deliver as `fate` says, which befalls one delivery."""
        fate, self.fate = self.fate, "well"
        if fate == "dies before":
            raise DiedError
        if fate == "refused":
            raise KafkaConnectionError
        whole = len(messages) if fate != "half delivered" else len(messages) // 2
        places = []
        for key, value in messages[:whole]:
            part = self.partitions[track_key(key.decode()) % FEED_PARTITIONS]
            part.append(Told(track_key(key.decode()) % FEED_PARTITIONS, len(part), key, value))
            places.append((part[-1].partition, part[-1].offset))
        if fate == "half delivered":
            raise KafkaConnectionError
        if fate == "dies after":
            raise DiedError
        if fate == "dies settled":
            self.fate = "after settling"
        return places

    async def read(self, starts: Mapping[int, int]) -> AsyncIterator[FeedStretch]:
        """As `FeedLog.read`, two messages at a time."""
        for partition, log in enumerate(self.partitions):
            first = starts.get(partition, 0)
            if first > len(log):
                first = 0
                yield FeedStretch(partition, (), 0, replaced=True)
            for start in range(first, len(log), 2):
                part = log[start : start + 2]
                messages = [(told.offset, told.key, told.value) for told in part]
                yield FeedStretch(partition, messages, start + len(part))


class FeedStore(Protocol):
    """The store as a history needs it."""

    async def claim(self) -> dict[int, PartitionClaim]:
        """Take all partitions over."""

    async def bring(self, name: str, owner: int) -> None:
        """A track is stored."""

    async def withdraw(self, name: str, owner: int) -> None:
        """A track is deleted, and owed a tombstone."""

    def ledger(self, log: MemoryLog) -> FeedLedger:
        """The ledger of one publisher."""


class MemoryStore:
    """A store in memory, and the ledger over it: what Postgres does, said once more."""

    def __init__(self) -> None:
        self.epochs = dict.fromkeys(range(OWNERS), 0)
        self.published = dict.fromkeys(range(OWNERS), 0)
        self.tracks: set[str] = set()
        self.owed: dict[int, tuple[int, str]] = {}
        self.told: dict[int, ToldList] = {}
        self.positions: dict[tuple[int, int], int] = {}
        self._notes = 0

    async def claim(self) -> dict[int, PartitionClaim]:
        """See `FeedStore`."""
        self.epochs = {p: epoch + 1 for p, epoch in self.epochs.items()}
        return {p: PartitionClaim(e, 0, self.published[p]) for p, e in self.epochs.items()}

    async def bring(self, name: str, owner: int) -> None:
        """See `FeedStore`."""
        self.tracks.add(name)

    async def withdraw(self, name: str, owner: int) -> None:
        """See `FeedStore`."""
        self.tracks.discard(name)
        self._notes += 1
        self.owed[self._notes] = owner, name

    def ledger(self, log: MemoryLog) -> Any:
        """See `FeedStore`."""
        return MemoryLedger(self, log)

    def hold(self, epochs: Mapping[int, int]) -> None:
        """Raise for an epoch that is over."""
        for partition, epoch in epochs.items():
            if self.epochs[partition] != epoch:
                raise FencedError(partition, epoch)

    def record(self, told: Sequence[ToldList]) -> None:
        """Remember messages, never an earlier one after a later one."""
        for one in told:
            known = self.told.get(one.key)
            if known is not None and known.partition == one.partition and known.offset >= one.offset:
                continue
            if one.neighbours is None:
                self.told.pop(one.key, None)
            else:
                self.told[one.key] = one

    def move(self, owners: Sequence[int], upto: Mapping[int, int]) -> None:
        """Positions go forward."""
        for owner in owners:
            for partition, offset in upto.items():
                before = self.positions.get((owner, partition), 0)
                self.positions[owner, partition] = max(before, offset)


class MemoryLedger:
    """`FeedLedger` over a `MemoryStore`."""

    def __init__(self, store: MemoryStore, log: MemoryLog) -> None:
        self._store = store
        self._log = log
        self.deliver = log.deliver

    async def catch_up(self, epochs: Mapping[int, int]) -> None:
        """See `FeedLedger`."""
        owners = sorted(epochs)
        places = self._store.positions
        starts = {p: min(places.get((o, p), 0) for o in owners) for p in range(FEED_PARTITIONS)}
        async for stretch in self._log.read(starts):
            self._store.hold(epochs)
            self._store.record(_told_in(stretch))
            self._store.move(owners, {stretch.partition: stretch.next_offset})

    async def told(self, keys: np.ndarray) -> dict[int, ToldList]:
        """See `FeedLedger`."""
        return {key: self._store.told[key] for key in keys.tolist() if key in self._store.told}

    async def held(self, keys: Sequence[int], owners: Sequence[int]) -> set[int]:
        """See `FeedLedger`: here no track moves."""
        return set()

    async def owed(self, owners: Sequence[int]) -> list[tuple[int, str, int]]:
        """See `FeedLedger`."""
        for note, (_, name) in list(self._store.owed.items()):
            if name in self._store.tracks:
                del self._store.owed[note]
        owed = sorted(self._store.owed.items())
        return [(note, name, owner) for note, (owner, name) in owed if owner in owners]

    async def settle(self, epochs: Mapping[int, int], settled: Settlement) -> None:
        """See `FeedLedger`."""
        self._store.hold(epochs)
        self._store.record(settled.told)
        ends: dict[int, int] = {}
        for one in settled.told:
            ends[one.partition] = max(ends.get(one.partition, 0), one.offset + 1)
        self._store.move(settled.known, ends)
        for note in settled.withdrawals:
            self._store.owed.pop(note, None)
        for owner, version in settled.published.items():
            self._store.published[owner] = max(self._store.published[owner], version)


@dataclass
class FeedHistory:
    """Plays steps, with lists of its own in place of an engine's.

    Attributes:
        log: What was told.
        lists: By track, owner, version and the ids of its stored list.
    """

    store: FeedStore
    log: MemoryLog = field(default_factory=MemoryLog)
    lists: dict[str, tuple[int, int, list[str]]] = field(default_factory=dict)

    async def play(self, steps: Sequence[Step]) -> None:
        """Play steps, each looked at, then come to rest and look at the whole."""
        self.alive = {f"t{i}" for i in range(TRACKS)}
        self.version = 0
        for name in sorted(self.alive):
            await self.store.bring(name, _owner_of(name))
        await self._take_over()
        for kind, number in steps:
            await self._step(kind, random.Random(number))
            assert feed_faults(self.records()) == []
        await self._rest()
        assert feed_faults(self.records()) == []
        last = {told.key.decode(): told.value for told in self.records()}
        for name, (_, version, names) in self.lists.items():
            change = orjson.loads(last.pop(name) or b"null")
            told = [item["track_id"] for item in change["recommendations"]]
            assert (change["version"], told) == (version, names), name
        assert not [name for name, value in last.items() if value is not None]

    def records(self) -> list[Any]:
        """All messages, in the order of their partitions."""
        return [told for log in self.log.partitions for told in log]

    async def _step(self, kind: str, rng: random.Random) -> None:
        match kind:
            case "flush":
                self._flush(rng, rng.sample(sorted(self.alive), k=min(3, len(self.alive))))
            case "withdraw" if len(self.alive) > 2:
                await self._withdraw(rng.choice(sorted(self.alive)))
            case "bring back":
                gone = sorted({f"t{i}" for i in range(TRACKS)} - self.alive)
                if gone:
                    await self._bring(rng.choice(gone))
            case "publish" | "publish all":
                await self._publish(rng.choice(FATES), everything=kind == "publish all")
            case "take over":
                await self._take_over()

    def _flush(self, rng: random.Random, whose: Sequence[str]) -> None:
        self.version += 1
        for name in whose:
            others = sorted(self.alive - {name})
            names = rng.sample(others, k=rng.randint(0, len(others)))
            self.lists[name] = _owner_of(name), self.version, names
        self._add(whose)

    def _add(self, whose: Sequence[str], *, withdrawn: bool = False) -> None:
        flushed = dict.fromkeys(range(OWNERS), self.version)
        self.publisher.add(_block([(n, *self.lists[n]) for n in whose]), flushed=flushed, withdrawn=withdrawn)

    async def _withdraw(self, name: str) -> None:
        self.alive.discard(name)
        self.lists.pop(name, None)
        await self.store.withdraw(name, _owner_of(name))
        self.names.update(_gone(name))
        self.publisher.add(_block([]), flushed={}, withdrawn=True)

    async def _bring(self, name: str) -> None:
        self.alive.add(name)
        await self.store.bring(name, _owner_of(name))
        self.names.load([track_key(name)], [name])

    async def _publish(self, fate: str, *, everything: bool) -> None:
        self.log.fate = fate
        try:
            await self.publisher.publish_due(everything=everything)
            died = self.log.fate == "after settling"
        except DiedError:
            died = True
        self.log.fate = "well"
        if died:
            await self._take_over()

    async def _take_over(self) -> None:
        """Another worker goes on: with new epochs, the names of what is stored, and the lists that may not have been told."""
        ownership = Ownership()
        claims = await self.store.claim()
        ownership.take(claims)
        self.names = TrackNames()
        self.names.load(map(track_key, sorted(self.alive)), sorted(self.alive))
        self.publisher = ChangePublisher(
            self.store.ledger(self.log), ownership, self.names, 0.0, WorkerMetrics()
        )
        late = [n for n, (owner, at, _) in self.lists.items() if at > claims[owner].published_version]
        self._add(late, withdrawn=True)

    async def _rest(self) -> None:
        """What names a track that has gone, and what is missing, is written as an engine would; then all is told."""
        rng = random.Random(0)
        wrong = {name for name, (_, _, names) in self.lists.items() if set(names) - self.alive}
        self._flush(rng, sorted(wrong | self.alive - self.lists.keys()))
        self.log.fate = "well"
        for _ in range(2):
            await self.publisher.publish_due(everything=True)


def _owner_of(name: str) -> int:
    return int(name[1:]) % OWNERS


def _gone(name: str) -> Any:
    from streams.maintenance.arrays import deletion_batch  # noqa: PLC0415 -- numpy alone

    return deletion_batch(np.array([track_key(name)], dtype=np.int64), 2)


def _block(lists: Sequence[tuple[str, int, int, list[str]]]) -> ChangedBlock:
    count = len(lists)
    keys = np.zeros((count, TRACKS), dtype=np.int64)
    for row, (_, _, _, names) in enumerate(lists):
        keys[row, : len(names)] = [track_key(n) for n in names]
    versions = np.array([version for _, _, version, _ in lists], dtype=np.int64)
    owners = np.array([owner for _, owner, _, _ in lists], dtype=np.int32)
    return ChangedBlock(
        keys=np.array([track_key(n) for n, _, _, _ in lists], dtype=np.int64),
        neighbours=keys,
        scores=np.full((count, TRACKS), 0.5, dtype=np.float32),
        lengths=np.array([len(names) for _, _, _, names in lists], dtype=np.int64),
        partitions=owners,
        offsets=versions,
        owners=owners,
        versions=versions,
        generated_at=versions,
    )
