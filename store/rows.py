"""Columns of the store's tables as arrays."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson


@dataclass(frozen=True, slots=True)
class ListRows:
    """Neighbour lists by row.

    Attributes:
        keys: int64 (m,).
        neighbours: int64 (m, k).
        scores: float32 (m, k).
        lengths: int64 (m,), how many of the k count.
        partitions: int32 (m,), of the event that changed the list last.
        offsets: int64 (m,), likewise.
        event_times: int64 (m,), likewise, microseconds since 1970.
        versions: int64 (m,); empty where rows are yet to be written.
        generated_at: int64 (m,), microseconds since 1970; empty likewise.
        owners: int32 (m,), the partitions they belong to: those of their tracks' own events; empty where not asked for.
    """

    keys: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    event_times: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    generated_at: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    owners: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))

    def part(self, which: slice) -> "ListRows":
        """A slice of the rows, as views; empty columns stay empty."""
        return ListRows(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def where(self, which: npt.NDArray[np.bool_]) -> "ListRows":
        """Some of the rows, copied; columns that are empty stay so."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return ListRows(
            **{name: column[which] if len(column) else column for name, column in columns.items()}
        )

    @staticmethod
    def joined(pages: Sequence["ListRows"]) -> "ListRows":
        """The rows of one or more pages, in order; lists are padded to one width."""
        width = max(page.neighbours.shape[1] for page in pages)
        columns = {}
        for f in fields(ListRows):
            parts = [getattr(page, f.name) for page in pages]
            if parts[0].ndim == 2:
                parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
            columns[f.name] = np.concatenate(parts)
        return ListRows(**columns)


@dataclass(frozen=True, slots=True)
class TrackVectors:
    """The catalogue as the engine needs it.

    Attributes:
        keys: int64 (n,).
        track_ids: n ids.
        vectors: float32 (n, d).
        partitions: int32 (n,), of the track's own event.
        offsets: int64 (n,), likewise.
        event_times: int64 (n,), likewise, microseconds since 1970.
        metadata: Of each, from `metadata_row`; empty if it was not asked for.
    """

    keys: npt.NDArray[np.int64]
    track_ids: list[str]
    vectors: npt.NDArray[np.float32]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    event_times: npt.NDArray[np.int64]
    metadata: list[tuple[Hashable, ...]] = field(default_factory=list)


def metadata_row(values: Iterable[Any]) -> tuple[Hashable, ...]:
    """Values of `store.columns.METADATA_FIELDS` for the catalogue in memory: tags as a tuple, `extra` as JSON.

    A row from an event equals the row that Postgres returns for it.
    """
    return tuple(map(_hashable, values))


def _hashable(value: Any) -> Hashable:
    if isinstance(value, dict):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return tuple(value) if isinstance(value, list) else value
