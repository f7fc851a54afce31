"""The source of a list: a whole catalogue, or given candidates."""

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np

from streams.strategies.types import Candidates, Filter, Indices, Mask, Vectors
from streams.strategies.values import Grouping, ValueIndex


class Source(Protocol):
    """n places, some of which hold a track; each track has one place, and a similarity to the query.

    Callers may change the arrays that they get.
    """

    def present(self) -> Mask:
        """Which places hold a track: bool (n,)."""

    def places_of(self, keys: Collection[int]) -> Indices:
        """The places of these tracks; unknown tracks are left out."""

    def meeting(self, condition: Filter) -> Mask:
        """Which places meet a condition: bool (n,). An unknown value meets `not` only."""

    def grouping(self, field: str, *, stand_ins: bool) -> Grouping:
        """The groups that a cap counts in, see `ValueIndex.grouping`."""

    def hubs(self, share: float) -> Indices:
        """The places of tracks that more than this share of all lists hold."""

    def nearest(self, eligible: Mask, count: int) -> Indices:
        """The most similar of the eligible, at most `count`, in any order; of equally similar ones the first by label."""

    def by_label(self, places: Indices) -> Indices:
        """The same places in the order of their tracks' labels."""

    def candidates(self, places: Indices, *, vectors: bool) -> Candidates:
        """The tracks at some places, with their vectors if they are wanted and known."""

    def vectors(self, places: Indices) -> Vectors | None:
        """Their vectors alone; None where they are not known."""

    def value(self, field: str, place: int) -> Any:
        """One track's value of a metadata field, None where unknown."""


class CandidateSource:
    """Given candidates, each with a place of its own.

    Args:
        candidates: No track twice.
    """

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self._indexes: dict[str, ValueIndex | None] = {}

    def present(self) -> Mask:
        """See `Source.present`."""
        return np.ones(len(self._candidates), dtype=np.bool_)

    def places_of(self, keys: Collection[int]) -> Indices:
        """See `Source.places_of`."""
        wanted = np.fromiter(keys, dtype=np.int64, count=len(keys))
        return np.flatnonzero(np.isin(self._candidates.keys, wanted))

    def meeting(self, condition: Filter) -> Mask:
        """See `Source.meeting`."""
        index = self._index(condition.field)
        if index is None:
            return np.full(len(self._candidates), condition.kind == "not")
        return index.meeting(condition)[:-1]

    def grouping(self, field: str, *, stand_ins: bool) -> Grouping:
        """See `Source.grouping`."""
        index = self._index(field) or ValueIndex(field, [None] * len(self._candidates))
        return index.grouping(np.arange(len(self._candidates)), stand_ins=stand_ins)

    def _index(self, field: str) -> ValueIndex | None:
        if field not in self._indexes:
            values = self._candidates.listed(field)
            self._indexes[field] = None if values is None else ValueIndex(field, values)
        return self._indexes[field]

    def hubs(self, share: float) -> Indices:
        """See `Source.hubs`; none where they were not counted."""
        shares = self._candidates.list_share
        return np.flatnonzero(shares > share) if shares is not None else np.empty(0, dtype=np.intp)

    def nearest(self, eligible: Mask, count: int) -> Indices:
        """See `Source.nearest`."""
        places = np.flatnonzero(eligible)
        if len(places) <= count:
            return places
        order = np.lexsort((self._candidates.labels[places], -self._candidates.similarity[places]))
        return places[order[:count]]

    def by_label(self, places: Indices) -> Indices:
        """See `Source.by_label`."""
        return places[np.argsort(self._candidates.labels[places], kind="stable")]

    def candidates(self, places: Indices, *, vectors: bool) -> Candidates:
        """See `Source.candidates`."""
        return self._candidates.take(places, vectors=vectors)

    def vectors(self, places: Indices) -> Vectors | None:
        """See `Source.vectors`."""
        known = self._candidates.vectors
        return None if known is None else known[places]

    def value(self, field: str, place: int) -> Any:
        """See `Source.value`."""
        return self._candidates.value(field, place)
