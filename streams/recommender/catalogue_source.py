"""The catalogue as the source of lists: columns of metadata beside the vectors."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from cachetools import LRUCache

from streams.engine.search.masked import MaskedSearch
from streams.engine.search.metadata import Codes, EncodedColumn
from streams.engine.search.rows import TrackRows
from streams.engine.types import EMPTY
from streams.recommender.popularity import ListFacts, Popularity
from streams.strategies import CandidateColumns, Candidates
from streams.strategies.types import Column, Filter, Indices, Mask, Vectors
from streams.strategies.values import Grouping, ValueIndex

EXTRA: Final = "extra"
_EXTRA_KEY: Final = "extra."
# Number of keys of `extra` that are indexed: the most recently used ones.
_EXTRA_KEYS: Final = 16


class _ExtraValues:
    """The values of one key of `extra`, by the number of the JSON document that holds them."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._written = orjson.dumps(key)
        self.values: list[Any] = []

    def follow(self, written: list[bytes]) -> None:
        """Read what has been added."""
        for one in written[len(self.values) :]:
            # Most tracks lack the key, and a search for its bytes is cheaper than parsing.
            value = orjson.loads(one).get(self._key) if self._written in one else None
            self.values.append(orjson.dumps(value).decode() if isinstance(value, dict) else value)


class FieldIndexes:
    """The indexes of the catalogue's metadata, built at their first use.

    Args:
        tracks: The catalogue.
    """

    def __init__(self, tracks: TrackRows) -> None:
        self._tracks = tracks
        self._indexes: dict[str, tuple[int, ValueIndex]] = {}
        self._extra: LRUCache[str, tuple[int, _ExtraValues, ValueIndex]] = LRUCache(_EXTRA_KEYS)

    def of(self, field: str) -> tuple[Codes, ValueIndex] | None:
        """The number of each row's value, and the index of the values; None where there is no such field."""
        if field.startswith(_EXTRA_KEY):
            return self._of_extra(field)
        column = self._tracks.metadata.columns.get(field)
        if column is None:
            return None
        known = self._indexes.get(field)
        if known is None or known[0] != column.generation:
            known = self._indexes[field] = (column.generation, ValueIndex(field, column.values))
        return column.codes[: self._tracks.used], known[1]

    def _of_extra(self, field: str) -> tuple[Codes, ValueIndex] | None:
        column = self._tracks.metadata.columns.get(EXTRA)
        if column is None:
            return None
        known = self._extra.get(field)
        if known is None or known[0] != column.generation:
            values = _ExtraValues(field.removeprefix(_EXTRA_KEY))
            known = self._extra[field] = (column.generation, values, ValueIndex(field, values.values))
        known[1].follow(column.values)
        return column.codes[: self._tracks.used], known[2]

    def value(self, field: str, row: int) -> Any:
        """A row's value of a field, None where unknown."""
        if not field.startswith(_EXTRA_KEY):
            column = self._tracks.metadata.columns.get(field)
            return None if column is None else column.value(row)
        written = self._tracks.metadata[EXTRA].value(row)
        return None if written is None else orjson.loads(written).get(field.removeprefix(_EXTRA_KEY))


class _RowColumns(CandidateColumns):
    """Metadata of some rows by field, each column made when it is first asked for."""

    def __init__(self, columns: Mapping[str, EncodedColumn], rows: Indices) -> None:
        super().__init__((), columns)
        self._columns = columns
        self._at = rows

    @property
    def count(self) -> int:
        return len(self._at)

    def __getitem__(self, name: str) -> Column:
        return np.fromiter(self._listed(name), dtype=object, count=self.count)

    def _listed(self, name: str) -> list[Any]:
        column = self._columns[name]
        values = column.values
        return [None if code < 0 else values[code] for code in column.codes[self._at].tolist()]

    def listed(self, name: str) -> list[Any] | None:
        return self._listed(name) if name in self._columns else None

    def value(self, name: str, index: int) -> Any:
        return self._columns[name].value(int(self._at[index])) if name in self._columns else None

    def take(self, indices: Indices) -> "_RowColumns":
        return _RowColumns(self._columns, self._at[indices])


@dataclass(frozen=True, slots=True)
class CatalogueSource:
    """The catalogue for one question; see `streams.strategies.Source`. Places are rows.

    Attributes:
        tracks: The catalogue.
        indexes: Of its metadata.
        search: Of the vector that the question looks for.
        popularity: Of its tracks.
        facts: What the stored lists say of them.
        scale: See `QueryVector`.
    """

    tracks: TrackRows
    indexes: FieldIndexes
    search: MaskedSearch
    popularity: Popularity
    facts: ListFacts
    scale: float = 1.0

    def present(self) -> Mask:
        """See `Source.present`."""
        return self.tracks.alive[: self.tracks.used].copy()

    def places_of(self, keys: Collection[int]) -> Indices:
        """See `Source.places_of`."""
        rows = self.tracks.rows_of(np.fromiter(keys, dtype=np.int64, count=len(keys)))
        found: Indices = rows[rows != EMPTY].astype(np.intp)
        return found

    def meeting(self, condition: Filter) -> Mask:
        """See `Source.meeting`."""
        found = self.indexes.of(condition.field)
        if found is None:
            return np.full(self.tracks.used, condition.kind == "not")
        codes, index = found
        # Faster than an index by int32.
        return index.meeting(condition).take(codes)

    def grouping(self, field: str, *, stand_ins: bool) -> Grouping:
        """See `Source.grouping`."""
        found = self.indexes.of(field)
        if found is None:
            return Grouping(np.full(self.tracks.used, -1), [], {})
        codes, index = found
        return index.grouping(codes, stand_ins=stand_ins)

    def hubs(self, share: float) -> Indices:
        """See `Source.hubs`."""
        return self.places_of(self.facts.hubs(share).tolist())

    def nearest(self, eligible: Mask, count: int) -> Indices:
        """See `Source.nearest`."""
        return self.search.nearest(eligible, count)[0].astype(np.intp)

    def by_label(self, places: Indices) -> Indices:
        """See `Source.by_label`."""
        return np.array(sorted(places.tolist(), key=self.tracks.track_ids.__getitem__), dtype=np.intp)

    def candidates(self, places: Indices, *, vectors: bool) -> Candidates:
        """See `Source.candidates`."""
        keys = self.tracks.keys[places]
        labels = np.empty(len(places), dtype=np.int64)
        names = [self.tracks.track_ids[place] for place in places.tolist()]
        labels[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        percentile, probability, heard = self.popularity.of(keys)
        return Candidates(
            keys=keys,
            labels=labels,
            similarity=self.similarity(places),
            vectors=self.vectors(places) if vectors else None,
            metadata=_RowColumns(self.tracks.metadata.columns, places),
            percentile=percentile,
            probability=probability,
            heard=heard,
            density=self.facts.densities(keys),
        )

    def similarity(self, places: Indices) -> np.ndarray:
        """The similarity of tracks to what is looked for: float32 (m,)."""
        found = self.search.similarity(places)
        return found if self.scale == 1.0 else (self.scale * found.astype(np.float64)).astype(np.float32)

    def vectors(self, places: Indices) -> Vectors:
        """See `Source.vectors`."""
        return self.tracks.vectors[places]

    def value(self, field: str, place: int) -> Any:
        """See `Source.value`."""
        return self.indexes.value(field, place)
