"""Ready answers in this process's memory: bounded in bytes, the least recently used go first.

An entry never goes by time. The change feed and the store's watch say which entries no longer hold: `outdate`
keeps an entry for when the store is away, and it is then served marked stale; `forget` drops it, as nothing may
show a track that has been withdrawn.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cachetools import LRUCache

from store.materialised import Place

ANY = -1
# What an entry takes beside its bytes, and what each track that it mentions takes in the index.
_ENTRY_BYTES = 1_000
_MENTION_BYTES = 150


@dataclass(slots=True, eq=False)
class CachedResponse:
    """A body that is ready to send but for its last members, which change from one delivery to the next.

    Attributes:
        target: Path and query exactly as they came; what the entry is found by.
        body: JSON without `cached`, `stale` and `computation_time_ms`, and without the closing brace.
        tag: Weak entity tag of `body`, quoted.
        tag_stale: The same, while the body is stale.
        track_id: The reference track.
        place: What is looked at to see whether the body is still the newest: the key of a stored list, or the
            primary key of a stored body.
        state: What was found there: a list's version, or a body's entity tag.
        owner: Partition whose worker keeps the list; ANY where it is not known.
        mentions: Ids of every track in the body.
        checked: Tick of the watch as of which the body is known to be the newest.
        due: Moment of `time.perf_counter` from which on it must be checked whatever the watch has seen.
        stale: Whether the store itself said that a newer one is wanted.
        outdated: Whether it is known not to be the newest any more.
        hits: How often it was served since the workers were asked for it.
    """

    target: bytes
    body: bytes
    tag: bytes
    track_id: str
    place: int | Place
    state: int | str
    owner: int
    mentions: tuple[str, ...]
    checked: int
    due: float = float("inf")
    stale: bool = False
    outdated: bool = False
    hits: int = 0
    tag_stale: bytes = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.tag_stale = self.tag[:-1] + b'-s"'
        self.size = _ENTRY_BYTES + len(self.target) + len(self.body) + _MENTION_BYTES * len(self.mentions)


class _Entries(LRUCache[bytes, CachedResponse]):
    """The entries by target, and which of them mention a track."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize, getsizeof=lambda entry: entry.size)
        self.mentioning: dict[str, set[CachedResponse]] = {}
        self.evicted = 0

    def __setitem__(self, target: bytes, entry: CachedResponse) -> None:
        if target in self:
            del self[target]
        super().__setitem__(target, entry)
        for track_id in entry.mentions:
            self.mentioning.setdefault(track_id, set()).add(entry)

    def __delitem__(self, target: bytes) -> None:
        entry = self[target]
        super().__delitem__(target)
        for track_id in entry.mentions:
            entries = self.mentioning[track_id]
            entries.discard(entry)
            if not entries:
                del self.mentioning[track_id]

    def popitem(self) -> tuple[bytes, CachedResponse]:
        self.evicted += 1
        return super().popitem()


class ResponseCache:
    """Ready answers by path and query.

    Args:
        max_bytes: What all entries may take together; 0 keeps nothing.

    Attributes:
        hits: Answers given from here since it was last looked at, and reset.
        invalidated: Entries that no longer held.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries = _Entries(max_bytes)
        self.hits = 0
        self.invalidated = 0

    def get(self, target: bytes) -> CachedResponse | None:
        """The entry for a path and query as they came."""
        return self._entries.get(target)

    def put(self, entry: CachedResponse) -> None:
        """Keep an entry, unless it alone is too large."""
        if entry.size <= self._entries.maxsize:
            self._entries[entry.target] = entry

    def drop(self, target: bytes) -> None:
        """Drop one entry, if it is there."""
        self._entries.pop(target, None)

    def outdate(self, track_ids: Iterable[str], *, own: bool = False) -> None:
        """Entries that mention one of these tracks no longer hold; with `own`, only those made for it."""
        for track_id in track_ids:
            for entry in self._entries.mentioning.get(track_id, ()):
                if not entry.outdated and (not own or entry.track_id == track_id):
                    entry.outdated = True
                    self.invalidated += 1

    def outdate_all(self) -> None:
        """No entry holds any more."""
        for entry in self._entries.values():
            entry.outdated = True
        self.invalidated += len(self._entries)

    def forget(self, track_id: str) -> None:
        """Drop every entry that mentions a track."""
        entries = list(self._entries.mentioning.get(track_id, ()))
        self.invalidated += len(entries)
        for entry in entries:
            del self._entries[entry.target]

    @property
    def bytes(self) -> int:
        """What the entries take, roughly."""
        return int(self._entries.currsize)

    @property
    def evicted(self) -> int:
        """How many entries have gone for want of room."""
        return self._entries.evicted

    def __len__(self) -> int:
        return len(self._entries)
