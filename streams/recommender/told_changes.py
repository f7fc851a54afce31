"""Recent changes of tracks, to detect bodies that were outdated before they were stored."""

from collections.abc import Mapping

from cachetools import LRUCache

from streams.engine.types import TrackBatch

# Changes that are remembered: a body is on its way to the store for less time than these take to come.
_CHANGES = 200_000


class ToldChanges:
    """The latest event of each recently changed track. Used from the event loop only."""

    def __init__(self) -> None:
        self._newest: LRUCache[int, int] = LRUCache(_CHANGES)

    def follow(self, batch: TrackBatch) -> None:
        """Record the changed and withdrawn tracks of a batch."""
        for keys, events in ((batch.keys, batch.events), (batch.deleted, batch.deleted_events)):
            self._newest.update(zip(keys.tolist(), events["offset"].tolist(), strict=True))

    def unchanged(self, made_from: Mapping[int, int]) -> bool:
        """Whether nothing has been told that is newer than these: the offset of an event by the key of its track."""
        return not any(self._newest.get(key, -1) > offset for key, offset in made_from.items())
