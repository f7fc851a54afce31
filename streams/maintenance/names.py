"""Track ids by key: neighbour lists have keys, the feed has ids."""

from collections.abc import Iterable

from streams.engine.types import TrackBatch

# Number of deleted tracks whose ids are remembered, for lists whose loss of them is still to be published.
REMEMBERED = 100_000


class TrackNames:
    """The id of each key of the catalogue, and of recently deleted tracks."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._gone: dict[int, str] = {}

    def load(self, keys: Iterable[int], track_ids: Iterable[str]) -> None:
        """Add many at once."""
        self._names.update(zip(keys, track_ids, strict=True))

    def update(self, batch: TrackBatch) -> None:
        """Apply changes of the catalogue."""
        for key in batch.deleted.tolist():
            name = self._names.pop(key, None)
            if name is not None:
                self._gone[key] = name
        self.load(batch.keys.tolist(), batch.track_ids)
        while len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def of(self, key: int) -> str | None:
        """The id; None if the track does not exist."""
        return self._names.get(key)

    def of_all(self, keys: Iterable[int]) -> list[str | None]:
        """The id of each; None for tracks that do not exist."""
        return list(map(self._names.get, keys))

    def was(self, key: int) -> str | None:
        """The id, also of a recently deleted track."""
        return self._names.get(key) or self._gone.get(key)
