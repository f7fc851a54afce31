"""A change feed and its store in memory: what Kafka and Postgres do, said once more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from aiokafka.errors import KafkaConnectionError

from store.errors import FencedError
from store.lists import NO_LISTS
from store.partitions import PartitionClaim
from store.rows import ListRows
from store.terms import ServingTerm, TermEndedError
from store.told import ToldList
from streams.contracts import track_key
from streams.generations import GenerationName
from streams.kafka.feed_log import FeedStretch, Message
from streams.kafka.topics import partition_of
from streams.maintenance.feed_ledger import FeedLedger, Settlement, _told_in

OWNERS, TRACKS, FEED_PARTITIONS = 2, 5, 2
# Of a track: owner, version and the ids of its stored list.
StoredList = tuple[int, int, list[str]]


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
    """The feed's topic in memory, whose next delivery may go wrong.

    Attributes:
        fate: What befalls the next delivery.
        overtake: Called after a delivery whose fate is "overtaken", before it is recorded.
    """

    def __init__(self) -> None:
        self.partitions: list[list[Told]] = [[] for _ in range(FEED_PARTITIONS)]
        self.fate = "well"
        self.overtake: Callable[[], Awaitable[None]] | None = None

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
        if fate == "overtaken" and self.overtake is not None:
            await self.overtake()
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
    """The store of one generation as a history needs it."""

    async def claim(self) -> dict[int, PartitionClaim]:
        """Take all partitions over."""

    async def bring(self, name: str, owner: int) -> None:
        """A track is stored."""

    async def withdraw(self, name: str, owner: int) -> None:
        """A track is deleted with its list, and owed a tombstone."""

    async def write(self, written: Mapping[str, tuple[int, list[str]]]) -> int:
        """A flush writes lists, by track its owner and ids; their version."""

    async def lists(self) -> dict[str, StoredList]:
        """All lists, by track."""

    async def term(self) -> ServingTerm | None:
        """The term that it serves in."""

    async def promote(self) -> None:
        """It serves from now on; it did not before."""

    def ledger(self, log: MemoryLog) -> FeedLedger:
        """The ledger of one publisher."""


@dataclass
class MemoryDatabase:
    """What the generations share.

    Attributes:
        drawn: The last version that was drawn.
        serving: The generation that serves.
        served_until: By generation, the number of the promotion that ended its last term.
    """

    drawn: int = 0
    serving: int = 1
    served_until: dict[int, Any] = field(default_factory=dict)

    def draw(self) -> int:
        """A new version."""
        self.drawn += 1
        return self.drawn


class MemoryStore:
    """A generation's store in memory, and the ledger over it."""

    def __init__(self, database: MemoryDatabase, number: int) -> None:
        self.database = database
        self.name = GenerationName(number=number)
        self.epochs = dict.fromkeys(range(OWNERS), 0)
        self.published = dict.fromkeys(range(OWNERS), 0)
        self.tracks: dict[str, int] = {}
        self.stored: dict[str, StoredList] = {}
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
        self.tracks[name] = owner

    async def withdraw(self, name: str, owner: int) -> None:
        """See `FeedStore`."""
        del self.tracks[name]
        self.stored.pop(name, None)
        self.owe(name, owner)

    def owe(self, name: str, owner: int) -> None:
        """A tombstone is owed."""
        self._notes += 1
        self.owed[self._notes] = owner, name

    async def write(self, written: Mapping[str, tuple[int, list[str]]]) -> int:
        """See `FeedStore`."""
        version = self.database.draw()
        self.stored |= {name: (owner, version, names) for name, (owner, names) in written.items()}
        return version

    async def lists(self) -> dict[str, StoredList]:
        """See `FeedStore`."""
        return dict(self.stored)

    async def term(self) -> ServingTerm | None:
        """See `FeedStore`."""
        if self.database.serving != self.name.number:
            return None
        until = self.database.served_until
        return ServingTerm(self.name, until.get(self.name.number), bool(until))

    async def promote(self) -> None:
        """See `FeedStore`."""
        self.database.served_until[self.database.serving] = sum(self.database.served_until.values()) + 1
        self.database.serving = self.name.number
        self.published = dict.fromkeys(range(OWNERS), 0)

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

    async def catch_up(self, epochs: Mapping[int, int]) -> dict[int, int]:
        """See `FeedLedger`."""
        owners = sorted(epochs)
        places = self._store.positions
        ends = {p: min(places.get((o, p), 0) for o in owners) for p in range(FEED_PARTITIONS)}
        async for stretch in self._log.read(dict(ends)):
            self._store.hold(epochs)
            self._store.record(_told_in(stretch))
            self._store.move(owners, {stretch.partition: stretch.next_offset})
            ends[stretch.partition] = stretch.next_offset
        return ends

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

    async def forget_owed(self, owners: Sequence[int], generation: GenerationName) -> None:
        """See `FeedLedger`."""
        assert generation == self._store.name
        if await self._store.term() is not None:
            return
        for note, *_ in await self.owed(owners):
            del self._store.owed[note]

    async def owe_absent(self, epochs: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """See `FeedLedger`."""
        there = {track_key(name) for name in self._store.tracks}
        absent = {(one.partition, one.offset) for key, one in self._store.told.items() if key not in there}
        owed = {name for _, name in self._store.owed.values()}
        for one in sorted((told for part in self._log.partitions for told in part), key=lambda one: one.key):
            owner, name = partition_of(one.key, OWNERS), one.key.decode()
            if (one.partition, one.offset) in absent and name not in owed and owner in epochs:
                self._store.owe(name, owner)

    async def unpublished(self, owners: Collection[int]) -> set[int]:
        """See `FeedLedger`."""
        return {owner for owner in owners if not self._store.published[owner]}

    async def unpublished_page(self, owners: Collection[int], first: int) -> tuple[ListRows, int | None]:
        """See `FeedLedger`: here two pages are all, the second empty."""
        found = {track_key(name): (name, *one) for name, one in self._store.stored.items()}
        keys = [key for key in sorted(found) if key >= first]
        if not keys:
            return NO_LISTS, None
        published = self._store.published
        late = [one for key in keys if (one := found[key])[1] in owners and one[2] > published[one[1]]]
        return list_rows(late), keys[-1] + 1

    async def draw_version(self) -> int:
        """See `FeedLedger`."""
        return self._store.database.draw()

    async def renew(
        self,
        epochs: Mapping[int, int],
        keys: Sequence[int],
        owners: Sequence[int],
        versions: Sequence[int],
        version: int,
    ) -> set[int]:
        """See `FeedLedger`."""
        self._store.hold(epochs)
        renewed = set()
        stored = {track_key(name): (name, one) for name, one in self._store.stored.items()}
        for key, owner, known in zip(keys, owners, versions, strict=True):
            name, (of, at, names) = stored.get(key, ("", (-1, -1, [])))
            if of == owner and at in (known, version):
                self._store.stored[name] = of, version, names
                renewed.add(key)
        return renewed

    async def settle(self, epochs: Mapping[int, int], settled: Settlement) -> None:
        """See `FeedLedger`."""
        self._store.hold(epochs)
        if await self._store.term() != settled.term and self._store.name == settled.term.name:
            raise TermEndedError
        self._store.record(settled.told)
        ends: dict[int, int] = {}
        for one in settled.told:
            ends[one.partition] = max(ends.get(one.partition, 0), one.offset + 1)
        self._store.move(settled.known, ends)
        for note in settled.withdrawals:
            self._store.owed.pop(note, None)
        for owner, version in settled.published.items():
            self._store.published[owner] = max(self._store.published[owner], version)


class MemoryRight:
    """The feed right of one worker, as `PartitionLease` has it.

    Args:
        locked: The workers that have a lock each, as Postgres would know them.
        store: Of the worker's generation.
        number: The generation's.

    Attributes:
        lost: Whether another worker may have published since the right was taken.
    """

    held = frozenset(range(OWNERS))

    def __init__(self, locked: dict[MemoryRight, int], store: FeedStore, number: int) -> None:
        self._locked = locked
        self._store = store
        self._number = number
        self.lost = False

    async def take_feed(self) -> ServingTerm | None:
        """See `PartitionLease`."""
        if self.lost:
            return None
        self._locked[self] = self._number
        term = await self._store.term()
        if term is None:
            del self._locked[self]
        return None if set(self._locked.values()) - {self._number} else term

    async def release_feed(self) -> None:
        """See `PartitionLease`."""
        self.lost = False
        self._locked.pop(self, None)

    def cut(self) -> None:
        """The connection breaks, and another worker gets what it had before it is there again."""
        self.lost |= self._locked.pop(self, None) is not None

    def require_feed(self) -> None:
        """See `PartitionLease`."""
        if self.lost:
            raise TermEndedError


@dataclass
class Watch:
    """Whether a generation serves, as its worker saw last."""

    serves: bool = False

    async def turned(self, was: bool) -> None:
        """Nobody waits."""
        raise NotImplementedError


def list_rows(found: Sequence[tuple[str, int, int, list[str]]]) -> ListRows:
    """Lists as the store has them, from id, owner, version and ids: all of one offset and one time."""
    count = len(found)
    neighbours = np.zeros((count, TRACKS), dtype=np.int64)
    for row, (*_, names) in enumerate(found):
        neighbours[row, : len(names)] = [track_key(n) for n in names]
    versions = np.array([version for _, _, version, _ in found], dtype=np.int64)
    owners = np.array([owner for _, owner, _, _ in found], dtype=np.int32)
    second = np.full(count, 1_000_000, dtype=np.int64)
    return replace(
        NO_LISTS,
        keys=np.array([track_key(n) for n, *_ in found], dtype=np.int64),
        neighbours=neighbours,
        scores=np.full((count, TRACKS), 0.5, dtype=np.float32),
        lengths=np.array([len(names) for *_, names in found], dtype=np.int64),
        partitions=owners,
        offsets=np.full(count, 7, dtype=np.int64),
        event_times=second,
        owners=owners,
        versions=versions,
        generated_at=second,
    )
