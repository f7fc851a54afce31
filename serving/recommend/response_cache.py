"""Caches responses in the process's memory: an LRU cache bounded in bytes.

Entries do not expire by time. The change feed and the offset watcher invalidate them: `outdate` keeps an entry for times
when the store is away, and it is then served marked stale; `forget` drops it, as no response may show a withdrawn track.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cachetools import LRUCache

from store.materialised import Place

ANY = -1
# Overhead of an entry, and of each track that it mentions in the index.
_ENTRY_BYTES = 1_000
_MENTION_BYTES = 150


@dataclass(slots=True, eq=False)
class CachedResponse:
    """A body that is ready to send, but for the members of its delivery.

    Attributes:
        target: Path and query exactly as received; the key of the entry.
        body: JSON without the members of its delivery and without the closing brace.
        tag: Weak entity tag of `body` and its generation, quoted.
        tag_stale: The entity tag while the body is stale.
        track_id: The reference track.
        place: What tells whether the body is current: the key of a stored list, or the primary key of a stored body.
        state: What was read there: a list's version, or a body's entity tag.
        owner: Partition whose worker owns the list; ANY if unknown.
        mentions: Ids of every track in the body.
        checked: The last tick at which the body was current.
        due: When it must be checked in any case, by `time.perf_counter`.
        stale: Whether the store itself marks it stale.
        outdated: Whether it is known not to be current.
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
    """Cached responses by path and query.

    Args:
        max_bytes: Maximum size of all entries together; 0 turns the cache off.

    Attributes:
        hits: Answers from the cache since the metrics last read and reset it.
        invalidated: Number of invalidated entries.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries = _Entries(max_bytes)
        self.hits = 0
        self.invalidated = 0

    def get(self, target: bytes) -> CachedResponse | None:
        """The entry for a path and query as received."""
        return self._entries.get(target)

    def put(self, entry: CachedResponse) -> None:
        """Cache an entry, unless it alone is too large."""
        if entry.size <= self._entries.maxsize:
            self._entries[entry.target] = entry

    def drop(self, target: bytes) -> None:
        """Drop an entry, if present."""
        self._entries.pop(target, None)

    def outdate(self, track_ids: Iterable[str], *, own: bool = False) -> None:
        """Outdate entries that mention one of these tracks; with `own`, only those whose reference track it is."""
        for track_id in track_ids:
            for entry in self._entries.mentioning.get(track_id, ()):
                if not entry.outdated and (not own or entry.track_id == track_id):
                    entry.outdated = True
                    self.invalidated += 1

    def outdate_all(self) -> None:
        """Outdate all entries."""
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
        """The approximate size of all entries."""
        return int(self._entries.currsize)

    @property
    def evicted(self) -> int:
        """How many entries have been evicted."""
        return self._entries.evicted

    def __len__(self) -> int:
        return len(self._entries)
