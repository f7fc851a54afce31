"""Track ids by key: neighbour lists name tracks by key, people by id."""

from collections.abc import Iterable

from streams.engine.types import TrackBatch

# Ids of deleted tracks that are remembered, for lists that are yet to tell that they lost them.
REMEMBERED = 100_000


class TrackNames:
    """The id behind each key of the catalogue, and of those that left it lately."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._gone: dict[int, str] = {}

    def load(self, keys: Iterable[int], track_ids: Iterable[str]) -> None:
        """Add many at once."""
        self._names.update(zip(keys, track_ids, strict=True))

    def update(self, batch: TrackBatch) -> None:
        """Follow what happened to the catalogue."""
        for key in batch.deleted.tolist():
            name = self._names.pop(key, None)
            if name is not None:
                self._gone[key] = name
        self.load(batch.keys.tolist(), batch.track_ids)
        while len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def of(self, key: int) -> str | None:
        """The id, or None if there is no such track any more."""
        return self._names.get(key)

    def of_all(self, keys: Iterable[int]) -> list[str | None]:
        """The id of each, or None."""
        return list(map(self._names.get, keys))

    def was(self, key: int) -> str | None:
        """The id, also of a track deleted lately."""
        return self._names.get(key) or self._gone.get(key)
