"""The catalogue that is evaluated: vectors, facts, and where a store holds them, its lists and its listening."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mess.demo.catalogue import DemoCatalogue
from store.rows import ListRows, TrackVectors
from streams.strategies import CandidateColumns
from streams.strategies.aspects import Layout
from streams.strategies.types import Column, Floats, Vectors

Rows = npt.NDArray[np.int64]

# What strategies read of a track, and what labels are made of.
FIELDS: Final = (
    "composer",
    "form",
    "key_signature",
    "era",
    "instrument",
    "artists",
    "album",
    "extra.collection",
)
# What is read of each track: these, and its title.
READ: Final = (*FIELDS, "title")


@dataclass(frozen=True, eq=False, slots=True)
class Works:
    """n tracks in the order of their ids, so that a row number is a key and a label for ties at once.

    Attributes:
        name: Which catalogue this is, for people.
        track_ids: n ids, ascending.
        vectors: float32 (n, d), unit length.
        columns: Field to n values, for each of `READ`; None where unknown.
        lists: int64 (n, k), stored neighbour lists as row numbers, -1 in empty places; None: nothing stored.
        density: float64 (n,), mean cosine to the first ten of the stored list; None: nothing stored.
        layout: The aspects of the vectors; None if they have none.
    """

    name: str
    track_ids: Sequence[str]
    vectors: Vectors
    columns: Mapping[str, Column]
    lists: Rows | None = None
    density: Floats | None = None
    layout: Layout | None = None

    def __len__(self) -> int:
        return len(self.track_ids)

    def fingerprint(self) -> str:
        """Twelve digits that tell this catalogue's ids and vectors from any other's."""
        digest = hashlib.sha256("\0".join(self.track_ids).encode())
        digest.update(np.ascontiguousarray(self.vectors).tobytes())
        return digest.hexdigest()[:12]


def of_demo(catalogue: DemoCatalogue) -> Works:
    """The demo catalogue."""
    order = sorted(range(len(catalogue)), key=lambda row: catalogue.tracks[row].track_id)
    rows = [catalogue.tracks[row] for row in order]
    # In the pipeline what has no field of its own is kept in `extra`.
    metadata: list[dict[str, Any]] = [{**track.metadata, "extra": track.metadata} for track in rows]
    return Works(
        name=f"demo catalogue (music21 {catalogue.version})",
        track_ids=[track.track_id for track in rows],
        vectors=catalogue.embeddings[order],
        columns=CandidateColumns(metadata, READ),
        layout=catalogue.layout,
    )


def works_of_store(
    tracks: TrackVectors,
    facts: Mapping[int, Mapping[str, Any]],
    lists: ListRows,
    nearest: int,
    layout: Layout | None = None,
) -> tuple[Works, Rows]:
    """A store's tracks, and their keys in the order of the rows.

    Args:
        tracks: Their vectors.
        facts: Key to the values of `READ`.
        lists: The stored lists.
        nearest: How many of a list make its density.
        layout: What the vectors are made up of.
    """
    order = sorted(range(len(tracks.track_ids)), key=tracks.track_ids.__getitem__)
    keys = tracks.keys[order]
    rows, density = _as_rows(keys, lists, nearest)
    found = [facts.get(key, {}) for key in keys.tolist()]
    made = Works(
        name="the store",
        track_ids=[tracks.track_ids[row] for row in order],
        vectors=tracks.vectors[order],
        columns={name: _column([row.get(name) for row in found]) for name in READ},
        lists=rows,
        density=density,
        layout=layout,
    )
    return made, keys


def _column(values: list[Any]) -> Column:
    return np.fromiter(values, dtype=object, count=len(values))


def _as_rows(keys: Rows, lists: ListRows, nearest: int) -> tuple[Rows, Floats]:
    """Stored lists by row number, and the mean score of the first of each; 0 where there is no list."""
    by_key = np.argsort(keys)

    def rows_of(wanted: Rows) -> Rows:
        place = np.minimum(np.searchsorted(keys, wanted, sorter=by_key), len(keys) - 1)
        found = by_key[place]
        return np.where(keys[found] == wanted, found, -1)

    width = lists.neighbours.shape[1] if lists.neighbours.ndim == 2 else 0
    made = np.full((len(keys), width), -1, dtype=np.int64)
    density = np.zeros(len(keys))
    if not len(keys) or not len(lists.keys):
        return made, density
    owners = rows_of(lists.keys)
    known = owners >= 0
    used = np.arange(width)[None, :] < lists.lengths[known][:, None]
    made[owners[known]] = np.where(used, rows_of(lists.neighbours[known]), -1)
    first = used[:, :nearest]
    sums = (lists.scores[known][:, :nearest] * first).sum(axis=1)
    density[owners[known]] = sums / np.maximum(first.sum(axis=1), 1)
    return made, density
