"""The catalogue of the search process: vectors, ids and metadata by row.

Rows below `fixed` belong to an index, finished or being built, and their vectors do not change: a deleted or re-embedded
track leaves such a row as a tombstone. Later rows are changed in place and reused.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streams.engine.catalogue import enlarge_rows
from streams.engine.projection import ComponentSearch
from streams.engine.search.columns import WANTED, NarrowColumns, project_first
from streams.engine.search.growing import GrowingRows
from streams.engine.search.metadata import MetadataColumns, MetadataRow
from streams.engine.types import EMPTY, Keys, Slots, Vectors


class TrackRows:
    """Vectors, keys, ids and metadata of the catalogue, by row.

    Args:
        dimension: d of the vectors.
        fields: Of the metadata.

    Attributes:
        offsets: int64 (capacity,), of the event that each track is from; -1 where it was not said.
        moves: Grows whenever tracks have gone over to other rows.
    """

    def __init__(self, dimension: int, fields: Sequence[str] = ()) -> None:
        self.dimension = dimension
        self.growing = GrowingRows(dimension)
        self.columns = NarrowColumns(self.growing)
        self._directions = ComponentSearch()
        self.keys: Keys = np.zeros(0, dtype=np.int64)
        self.alive: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.offsets: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.metadata = MetadataColumns(fields)
        self.track_ids: list[str] = []
        self.moves = 0
        self.fixed = 0
        self._row_of: dict[int, int] = {}
        self._free: list[int] = []
        self._dead: npt.NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def used(self) -> int:
        """Number of rows that have ever been used."""
        return len(self.track_ids)

    @property
    def vectors(self) -> Vectors:
        """float32 (used, d); what rows of no track hold means nothing."""
        return self.growing.vectors[: self.used]

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays, as far as they are used."""
        return self.used * (4 * self.dimension + 17) + self.columns.memory_bytes + self.metadata.memory_bytes

    def rows_of(self, keys: Keys) -> Slots:
        """The row of each key, int32 (m,); `EMPTY` where the track is not in the catalogue."""
        get = self._row_of.get
        return np.fromiter((get(key, EMPTY) for key in keys.tolist()), dtype=np.int32, count=len(keys))

    def dead(self) -> npt.NDArray[np.intp]:
        """Rows that hold no track, ascending."""
        if self._dead is None:
            self._dead = np.flatnonzero(~self.alive[: self.used])
        return self._dead

    def put(
        self,
        keys: Keys,
        track_ids: list[str],
        vectors: Vectors,
        metadata: Sequence[MetadataRow] | None = None,
        offsets: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Insert tracks, or give them other vectors and metadata.

        Raises:
            ValueError: The vectors are not (len(keys), d), or the metadata is of other fields.
        """
        if vectors.shape != (len(keys), self.dimension):
            raise ValueError(
                f"{len(keys)} vectors of {self.dimension} components are wanted, not {vectors.shape}"
            )
        self._dead = None
        rows = np.empty(len(keys), dtype=np.int64)
        for i, (key, track_id) in enumerate(zip(keys.tolist(), track_ids, strict=True)):
            rows[i] = self._row_for(key, track_id)
        self.growing.reserve(self.used)
        if self.growing.capacity > len(self.keys):
            self.keys = enlarge_rows(self.keys, self.growing.capacity, 0)
            self.alive = enlarge_rows(self.alive, self.growing.capacity, False)
            self.offsets = enlarge_rows(self.offsets, self.growing.capacity, -1)
            self.metadata.reserve(self.growing.capacity)
        self.growing.vectors[rows] = vectors
        self.columns.put(rows, vectors)
        self.keys[rows] = keys
        self.alive[rows] = True
        self.offsets[rows] = -1 if offsets is None else offsets
        self.metadata.put(rows, metadata)
        self.metadata.give_up_unused(self.alive[: self.used])

    def describe(self, keys: Keys, metadata: Sequence[MetadataRow]) -> Keys:
        """Give tracks other metadata; unknown ones are passed over. Returns those that had another, int64.

        Raises:
            ValueError: The metadata is of other fields.
        """
        rows = self.rows_of(keys)
        there = np.flatnonzero(rows != EMPTY)
        before = self.metadata.codes_of(rows[there])
        self.metadata.put(rows[there], [metadata[i] for i in there.tolist()])
        changed = (self.metadata.codes_of(rows[there]) != before).any(axis=0)
        self.metadata.give_up_unused(self.alive[: self.used])
        found: Keys = keys[there[changed]]
        return found

    def narrow(self) -> None:
        """Use fewer dimensions for products as soon as these have been found. Call it repeatedly."""
        found = self._directions.take(self.growing.vectors, self.alive[: self.used], WANTED)
        if found is not None:
            self.columns.close()
            self.columns = project_first(self.growing, self.used, found)

    def fix(self) -> npt.NDArray[np.int32]:
        """Fix all rows in use, for an index; returns the rows of tracks, int32 (m,)."""
        self.fixed = self.used
        self._free = []
        return np.flatnonzero(self.alive[: self.used]).astype(np.int32)

    def release(self, first: int) -> None:
        """Release the rows from `first` on."""
        self.fixed = first
        self._free = (first + np.flatnonzero(~self.alive[first : self.used])).tolist()

    def adopt(self, vectors: GrowingRows, order: Slots, columns: NarrowColumns) -> None:
        """Switch to an index's rows, and append newer tracks.

        Args:
            vectors: The vectors of the index's rows, which are fixed from now on.
            order: int32 (n,), which row was what is now row i; all below `fixed`.
            columns: Of these vectors.
        """
        self._dead = None
        # What is being looked for now would be of other rows.
        self._directions = ComponentSearch()
        count = len(order)
        newer = self.alive[: self.used].copy()
        newer[order] = False
        rows = np.concatenate([order, np.flatnonzero(newer)])
        vectors.reserve(len(rows))
        vectors.vectors[count : len(rows)] = self.vectors[rows[count:]]
        columns.put(np.arange(count, len(rows)), vectors.vectors[count : len(rows)])
        self.columns.close()
        self.columns = columns
        self.growing.close()
        self.growing = vectors
        self.keys, self.alive, self.offsets = (
            enlarge_rows(array[rows], vectors.capacity, 0) for array in (self.keys, self.alive, self.offsets)
        )
        self.metadata.reorder(rows, vectors.capacity)
        self.moves += 1
        ids = self.track_ids
        self.track_ids = [ids[row] for row in rows.tolist()]
        alive = self.alive[: len(rows)]
        self._row_of = dict(
            zip(self.keys[: len(rows)][alive].tolist(), np.flatnonzero(alive).tolist(), strict=True)
        )
        self.fixed, self._free = count, []

    def _row_for(self, key: int, track_id: str) -> int:
        row = self._row_of.get(key, EMPTY)
        if row >= self.fixed:
            return row
        if row != EMPTY:
            self.alive[row] = False
        if self._free:
            row = self._free.pop()
            self.track_ids[row] = track_id
        else:
            row = self.used
            self.track_ids.append(track_id)
        self._row_of[key] = row
        return row

    def drop(self, keys: Keys) -> None:
        """Take tracks out; unknown ones are passed over."""
        self._dead = None
        for key in keys.tolist():
            row = self._row_of.pop(key, EMPTY)
            if row == EMPTY:
                continue
            self.alive[row] = False
            if row >= self.fixed:
                self._free.append(row)
