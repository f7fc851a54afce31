"""Pending changes: the latest unpublished list of each track.

They are rows of a table, not references to the arrays of each flush. After a burst tens of thousands of lists from dozens of
flushes wait, and references would keep each flush's arrays for a few rows. The table grows with the pending lists, a kilobyte
each, and shrinks when most have been published. Flushes wait while it is full (`ROOM`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

_FIRST_ROWS = 1_024
# A table with a smaller share of used rows is shrunk.
_SHRINK_BELOW = 0.25
# Pending lists from which on flushes wait: some 200 MB.
ROOM = 200_000


@dataclass(frozen=True, slots=True)
class ChangedBlock:
    """Changed lists, each of another track.

    Attributes:
        keys: int64 (m,), whose lists.
        neighbours: int64 (m, k), keys.
        scores: float32 (m, k).
        lengths: int64 (m,), how many of the k count.
        partitions: int32 (m,), of the event that changed each list last.
        offsets: int64 (m,), likewise.
        owners: int32 (m,), the partition that each list belongs to.
        versions: int64 (m,), of the flush that wrote it.
        generated_at: int64 (m,), microseconds since 1970.
    """

    keys: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int32]
    versions: npt.NDArray[np.int64]
    generated_at: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, which: npt.NDArray[np.int64]) -> "ChangedBlock":
        """Some of the rows, copied."""
        return ChangedBlock(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def joined(self, other: "ChangedBlock") -> "ChangedBlock":
        """The rows of both, whose lists are equally wide."""
        names = [f.name for f in fields(self)]
        return ChangedBlock(**{n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in names})


class PendingChanges:
    """A table of lists, indexed by owner and key. Not thread-safe."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, int]] = {}
        self._columns: dict[str, npt.NDArray[Any]] = {}
        self._free: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def memory_bytes(self) -> int:
        """Bytes of the table, in use or not."""
        return sum(column.nbytes for column in self._columns.values())

    def add(self, block: ChangedBlock) -> None:
        """Add changed lists; a list of the same track is replaced."""
        if not len(block):
            return
        rows = np.empty(len(block), dtype=np.int64)
        for at, (key, owner) in enumerate(zip(block.keys.tolist(), block.owners.tolist(), strict=True)):
            of_owner = self._rows.setdefault(owner, {})
            row = of_owner.get(key)
            if row is None:
                row = of_owner[key] = self._take_row()
            rows[at] = row
        self._fit(block)
        for name, column in self._columns.items():
            values = getattr(block, name)
            if values.ndim == 1:
                column[rows] = values
            else:
                column[rows, : values.shape[1]] = values

    def put_back(self, block: ChangedBlock) -> None:
        """Add lists again that were taken out; a newer list of the same track stays."""
        places = zip(block.keys.tolist(), block.owners.tolist(), strict=True)
        missing = [at for at, (key, owner) in enumerate(places) if key not in self._rows.get(owner, ())]
        self.add(block.rows(np.array(missing, dtype=np.int64)))

    def keys(self, owners: Iterable[int]) -> Iterator[tuple[int, int]]:
        """(owner, key) of the pending lists of these owners, oldest first."""
        return ((owner, key) for owner in owners for key in self._rows.get(owner, ()))

    def take(self, which: Iterable[tuple[int, int]]) -> ChangedBlock | None:
        """Remove and return the pending lists among these (owner, key); None if there are none."""
        rows = [
            row
            for owner, key in which
            if owner in self._rows and (row := self._rows[owner].pop(key, None)) is not None
        ]
        if not rows:
            return None
        index = np.array(rows, dtype=np.int64)
        self._free.extend(rows)
        taken = ChangedBlock(**{name: column[index] for name, column in self._columns.items()})
        self._shrink()
        return taken

    def keep_only(self, owners: Collection[int]) -> None:
        """Drop the lists of all other owners."""
        for owner in [owner for owner in self._rows if owner not in owners]:
            self._free.extend(self._rows.pop(owner).values())
        self._shrink()

    def let_go(self, keys: Mapping[int, int | None]) -> None:
        """Forget lists of these tracks, given with the owner that they have now, that are of any other owner."""
        for owner, rows in self._rows.items():
            gone = [key for key, now in keys.items() if now != owner and key in rows]
            self._free.extend(rows.pop(key) for key in gone)

    def oldest(self, owners: Iterable[int]) -> Mapping[int, int]:
        """The oldest pending version by owner."""
        found = {}
        for owner in owners:
            if rows := self._rows.get(owner):
                index = np.fromiter(rows.values(), dtype=np.int64, count=len(rows))
                found[owner] = int(self._columns["versions"][index].min())
        return found

    def _take_row(self) -> int:
        if self._free:
            return self._free.pop()
        self._size += 1
        return self._size - 1

    def _shrink(self) -> None:
        """Free memory if most rows are unused; the order of lists stays."""
        height, count = len(next(iter(self._columns.values()), ())), len(self)
        if height <= 4 * _FIRST_ROWS or count >= _SHRINK_BELOW * height:
            return
        kept = np.fromiter((row for rows in self._rows.values() for row in rows.values()), np.int64, count)
        for name, column in self._columns.items():
            smaller = np.zeros((max(2 * count, _FIRST_ROWS), *column.shape[1:]), dtype=column.dtype)
            smaller[:count] = column[kept]
            self._columns[name] = smaller
        places = iter(range(count))
        # Dictionaries, too, keep the memory of what has been taken out of them.
        self._rows = {
            owner: {key: next(places) for key in rows} for owner, rows in self._rows.items() if rows
        }
        self._free, self._size = [], count

    def _fit(self, block: ChangedBlock) -> None:
        """Make the table high enough for the rows given out, and as wide as the block."""
        for name in (f.name for f in fields(ChangedBlock)):
            values = getattr(block, name)
            have = self._columns.get(name)
            if have is None:
                have = np.empty((0, *values.shape[1:]), dtype=values.dtype)
            height = have.shape[0]
            if height < self._size:
                height = max(self._size, height + height // 2, _FIRST_ROWS)
            width = tuple(max(pair) for pair in zip(have.shape[1:], values.shape[1:], strict=True))
            if (height, *width) != have.shape:
                grown = np.zeros((height, *width), dtype=have.dtype)
                grown[tuple(map(slice, have.shape))] = have
                have = grown
            self._columns[name] = have
