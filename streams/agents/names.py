"""Track ids by key: neighbour lists name tracks by key, people by id."""

from collections.abc import Iterable

from streams.neighbours.types import TrackBatch


class TrackNames:
    """The id behind each key of the catalogue."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def load(self, keys: Iterable[int], track_ids: Iterable[str]) -> None:
        """Add many at once."""
        self._names.update(zip(keys, track_ids, strict=True))

    def update(self, batch: TrackBatch) -> None:
        """Follow what happened to the catalogue."""
        for key in batch.deleted.tolist():
            self._names.pop(key, None)
        self.load(batch.keys.tolist(), batch.track_ids)

    def of(self, key: int) -> str | None:
        """The id, or None if there is no such track any more."""
        return self._names.get(key)
