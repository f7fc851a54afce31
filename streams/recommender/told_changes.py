"""Which tracks have changed lately: whether a body that is being kept was made from what is no longer so."""

from collections.abc import Mapping

from cachetools import LRUCache

from streams.engine.types import TrackBatch

# Changes that are remembered: a body is on its way to the store for less time than these take to come.
_CHANGES = 200_000


class ToldChanges:
    """The event that each track was told of last. Used from the event loop alone."""

    def __init__(self) -> None:
        self._newest: LRUCache[int, int] = LRUCache(_CHANGES)

    def follow(self, batch: TrackBatch) -> None:
        """These tracks have changed, or have been withdrawn."""
        for keys, events in ((batch.keys, batch.events), (batch.deleted, batch.deleted_events)):
            self._newest.update(zip(keys.tolist(), events["offset"].tolist(), strict=True))

    def unchanged(self, made_from: Mapping[int, int]) -> bool:
        """Whether nothing has been told that is newer than these: the offset of an event by the key of its track."""
        return not any(self._newest.get(key, -1) > offset for key, offset in made_from.items())
