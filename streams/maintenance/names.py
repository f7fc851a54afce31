"""Track ids by key: neighbour lists have keys, the feed has ids."""

from collections.abc import Iterable

from streams.engine.types import TrackBatch


class TrackNames:
    """The id of each key of the catalogue."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def load(self, keys: Iterable[int], track_ids: Iterable[str]) -> None:
        """Add many at once."""
        self._names.update(zip(keys, track_ids, strict=True))

    def update(self, batch: TrackBatch) -> None:
        """Apply changes of the catalogue."""
        for key in batch.deleted.tolist():
            self._names.pop(key, None)
        self.load(batch.keys.tolist(), batch.track_ids)

    def of(self, key: int) -> str | None:
        """The id; None if the track does not exist."""
        return self._names.get(key)

    def of_all(self, keys: Iterable[int]) -> list[str | None]:
        """The id of each; None for tracks that do not exist."""
        return list(map(self._names.get, keys))
