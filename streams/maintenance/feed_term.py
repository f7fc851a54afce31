"""The term in which a worker publishes: what it needs for it, and what it has yet to tell since it began."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from store.rows import ListRows
from store.terms import ServingTerm
from store.told import ToldList
from streams.maintenance.pending_changes import ChangedBlock


class FeedRight(Protocol):
    """The right to publish: see `PartitionLease`."""

    @property
    def held(self) -> frozenset[int]:
        """The partitions that are ours, or may continue to be after a rebalance."""

    async def take_feed(self) -> ServingTerm | None:
        """Try to get it."""

    async def release_feed(self) -> None:
        """Give it back."""

    def require_feed(self) -> None:
        """Check that it is not lost."""


class ServingTurns(Protocol):
    """Whether our generation serves: see `ServingWatch`."""

    @property
    def serves(self) -> bool:
        """As was seen last."""

    async def turned(self, was: bool) -> None:
        """Wait until that is not `was`."""


@dataclass(slots=True)
class FeedTerm:
    """A term of this worker.

    Attributes:
        serving: The generation's term.
        version: Lists stored before the term have a smaller version.
        unread: The partitions whose lists of before the term have not all been queued; nothing more counts as published of
            them.
        first: The key to go on reading from.
        begun: The partitions that have been owned in this term.
        ends: By partition whose lists are all told because of a promotion, and by partition of the feed, the offset below
            which messages are not of this term.
        newest: By partition, the newest version of the lists that were stored before the term.
    """

    serving: ServingTerm
    version: int
    unread: set[int]
    first: int = -(2**63)
    begun: set[int] = field(default_factory=set)
    ends: dict[int, Mapping[int, int]] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)

    def begin(self, owners: Collection[int], untold: Collection[int], ends: Mapping[int, int]) -> None:
        """Note newly owned partitions, and those of them of which nothing counts as published."""
        self.begun.update(owners)
        self.ends.update(dict.fromkeys(untold, ends))

    def read(self, found: ListRows, first: int | None) -> Mapping[int, int]:
        """Note a page that has been queued, and where to go on reading, None at the end.

        Returns:
            At the end, by partition, the version up to which no list is missing.
        """
        for owner, version in zip(found.owners.tolist(), found.versions.tolist(), strict=True):
            if version < self.version:
                self.newest[owner] = max(self.newest.get(owner, 0), version)
        if first is not None:
            self.first = first
            return {}
        whole = {owner: self.newest[owner] for owner in self.unread & self.newest.keys()}
        self.unread.clear()
        return whole

    def promoted(self, block: ChangedBlock, before: Mapping[int, ToldList]) -> set[int]:
        """Keys of these lists that are the first of their track in this term, and told because of the promotion."""
        rows = zip(block.keys.tolist(), block.owners.tolist(), block.versions.tolist(), strict=True)
        return {key for key, owner, version in rows if self._is_promoted(before.get(key), owner, version)}

    def floor(self, owner: int) -> int:
        """A version below which a list may be older than what another generation has published of its track and taken back."""
        return self.version if owner in self.ends else 0

    def _is_promoted(self, told: ToldList | None, owner: int, version: int) -> bool:
        ends = self.ends.get(owner)
        if ends is None:
            return False
        if told is None:
            return version < self.version
        return told.offset < ends.get(told.partition, 0)


def changed_block(stored: ListRows) -> ChangedBlock:
    """Stored lists as they are queued."""
    return ChangedBlock(
        keys=stored.keys,
        neighbours=stored.neighbours,
        scores=stored.scores,
        lengths=stored.lengths,
        partitions=stored.partitions,
        offsets=stored.offsets,
        owners=stored.owners,
        versions=stored.versions,
        generated_at=stored.generated_at,
    )
