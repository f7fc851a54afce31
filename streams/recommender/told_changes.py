"""Recent changes of tracks, to detect bodies that were outdated before they were stored."""

import time
from collections.abc import Iterable, Mapping
from math import inf

from cachetools import LRUCache

from streams.engine.types import TrackBatch

# Changes that are remembered: a body is on its way to the store for less time than these take to come.
_CHANGES = 200_000


class ToldChanges:
    """The latest event, and the latest change of metadata without one, of each track. Used from the event loop only."""

    def __init__(self) -> None:
        self._newest: LRUCache[int, int] = LRUCache(_CHANGES)
        # By this process's monotonic clock.
        self._described: LRUCache[int, float] = LRUCache(_CHANGES)

    def follow(self, batch: TrackBatch) -> None:
        """Record the changed and withdrawn tracks of a batch."""
        for keys, events in ((batch.keys, batch.events), (batch.deleted, batch.deleted_events)):
            self._newest.update(zip(keys.tolist(), events["offset"].tolist(), strict=True))

    def describe(self, keys: Iterable[int]) -> None:
        """Record that what is searched has had other metadata of these tracks until now."""
        self._described.update(dict.fromkeys(keys, time.monotonic()))

    def unchanged(self, made_from: Mapping[int, int], began: float) -> bool:
        """Whether nothing has been told that is newer than what a body was made from.

        Args:
            made_from: By the key of a track, the offset of its event.
            began: When making the body began, by this process's monotonic clock.
        """
        return not any(
            self._newest.get(key, -1) > offset or self._described.get(key, -inf) > began
            for key, offset in made_from.items()
        )
