"""Caps and near-duplicates: tracks that the listed ones keep out of a list."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from streams.metadata_fields import COMPARED_BY
from streams.strategies import facts
from streams.strategies.source import Source
from streams.strategies.text import plain_text, work_words
from streams.strategies.types import Indices, Mask, Query
from streams.strategies.values import Grouping

CAPPED: Final = ("album", "artist", "composer")
HUBS: Final = "caps.list_share"
NEAR_DUPLICATES: Final = "near_duplicates"
# What tells a work; see `work_of`.
WORK: Final = ("composer", "opus", "title", "movement", "movement_name")
# What holds the values that a cap counts.
CAPPED_FIELDS: Final = {name: COMPARED_BY.get(name, name) for name in CAPPED}
# The cause is not a listed track but a seed, or a cap that does not depend on the list.
NOBODY: Final = -1


def work_of(track: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Identifies the work that a track is a recording of; None if the metadata does not tell.

    It is composer, opus or else title, and movement. Without a movement the title stands for it, since the movements of an
    opus are different works to a listener. Without a known composer a title is not enough: "Sonata" is no single work.
    """
    composer = facts.comparable_value("composer", track.get("composer"))
    opus, title = (_words(track.get(name)) for name in ("opus", "title"))
    if not composer or not (opus or title):
        return None
    movement = _words(track.get("movement")) or _words(track.get("movement_name"))
    return work_words(composer), opus or title, movement or title


def _words(value: Any) -> str:
    text = plain_text(value)
    return "" if text is None else work_words(text)


class _Cap:
    """How many of each group are listed, and whose listing filled it."""

    def __init__(self, groups: Grouping, limit: int) -> None:
        self.groups = groups
        self.limit = limit
        self.counts: Counter[int] = Counter()
        self.filled: dict[int, int] = {}

    def take(self, place: int) -> list[int]:
        """It is listed; the groups that are full now."""
        own = self.groups.of(place)
        self.counts.update(own)
        full = [group for group in own if self.counts[group] >= self.limit]
        for group in full:
            self.filled.setdefault(group, place)
        return full

    def full(self, place: int) -> list[int]:
        """The full groups of a place."""
        return [group for group in self.groups.of(place) if self.counts[group] >= self.limit]


class _OpenPool:
    """Which places of a pool may still be listed: bool (m,), `open`."""

    def __init__(self, pool: Indices, closed: Mask, caps: Mapping[str, _Cap]) -> None:
        self.open: Mask = ~closed[pool]
        self._positions = {place: position for position, place in enumerate(pool.tolist())}
        self._groups = {name: cap.groups.positions(pool) for name, cap in caps.items()}

    def close(self, place: int) -> None:
        if (position := self._positions.get(place)) is not None:
            self.open[position] = False

    def close_groups(self, name: str, groups: Iterable[int]) -> None:
        for group in groups:
            if (positions := self._groups[name].get(group)) is not None:
                self.open[positions] = False


class CapGate:
    """Follows the listed tracks and closes places that may no longer be listed.

    A cap closes its whole group when it is reached. Near-duplicates are detected when they are picked, so that few tracks
    are compared.

    Args:
        source: What the list is chosen from.
        query: What is asked.

    Attributes:
        repeated: For each near-duplicate that was closed the place that it repeats, or `NOBODY` for a seed.
    """

    def __init__(self, source: Source, query: Query) -> None:
        self._source = source
        self._near = query.near_duplicates
        self.repeated: dict[int, int] = {}
        self._closed: Mask = np.zeros(len(source.present()), dtype=np.bool_)
        # Groups that have become full, and whose tracks are not in `_closed` yet.
        self._filled: dict[str, list[int]] = {}
        self._pool: _OpenPool | None = None
        self._listed: list[int] = []
        self._given_up: set[str] = set()
        limits = {name: getattr(query.caps, name) for name in CAPPED}
        self._caps = {
            f"caps.{name}": _Cap(source.grouping(CAPPED_FIELDS[name], stand_ins=query.caps.anonymous), limit)
            for name, limit in limits.items()
            if limit is not None
        }
        share = query.caps.list_share
        self._hubs = np.empty(0, dtype=np.intp) if share is None else source.hubs(share)
        self._closed[self._hubs] = True
        own = query.seeds if self._near is not None and self._near.of_seeds else ()
        self._works = {work: NOBODY for seed in own if (work := work_of(seed.metadata)) is not None}
        seeds = [seed.vector for seed in own if seed.vector is not None]
        self._behind = [NOBODY] * len(seeds)
        self._vectors = np.array(seeds, dtype=np.float64) if seeds else None

    @property
    def closed(self) -> Mask:
        """What is listed, and what may not be as long as its conditions hold: bool (n,); not to be changed."""
        for name, full in self._filled.items():
            self._closed |= self._caps[name].groups.members(full)
        self._filled = {}
        return self._closed

    def open_in(self, pool: Indices) -> Mask:
        """Which places of a pool may be listed: bool (m,), not to be changed.

        It follows what is closed until this is called again, or a condition is given up.
        """
        self._pool = _OpenPool(pool, self.closed, self._caps)
        return self._pool.open

    def _close(self, place: int) -> None:
        self._closed[place] = True
        if self._pool is not None:
            self._pool.close(place)

    def refuses(self, place: int) -> bool:
        """Whether it is too like a listed track, or a seed, to be listed; it is then closed."""
        if NEAR_DUPLICATES in self._given_up:
            return False
        twin = self._twin(place)
        if twin is None:
            return False
        self._close(place)
        self.repeated[place] = twin
        return True

    def _twin(self, place: int) -> int | None:
        """The listed place that it nearly repeats, `NOBODY` for a seed, None for none."""
        if self._near is None:
            return None
        if self._near.same_work and (work := self._work(place)) in self._works and work is not None:
            return self._works[work]
        vector = self._vector(place)
        if vector is None or self._vectors is None:
            return None
        # As `cosines` has it.
        alike = (self._vectors[: len(self._behind)] @ vector).astype(np.float32)
        nearest = int(alike.argmax())
        return self._behind[nearest] if alike[nearest] >= np.float32(self._near.cosine) else None

    def _vector(self, place: int) -> np.ndarray | None:
        if self._near is None or self._near.cosine is None:
            return None
        found = self._source.vectors(np.array([place]))
        return None if found is None else found[0].astype(np.float64)

    def _work(self, place: int) -> tuple[str, str, str] | None:
        return work_of({name: self._source.value(name, place) for name in WORK})

    def violated(self, place: int) -> list[str]:
        """The conditions, given up or not, that listing it now breaks."""
        # As long as a condition holds, nothing that breaks it comes here.
        if not self._given_up:
            return []
        broken = [HUBS] if HUBS in self._given_up and place in self._hubs else []
        broken += [name for name, cap in self._caps.items() if name in self._given_up and cap.full(place)]
        if NEAR_DUPLICATES in self._given_up and self._twin(place) is not None:
            broken.append(NEAR_DUPLICATES)
        return broken

    def take(self, place: int) -> None:
        """It is listed: close its groups where they are full."""
        self._listed.append(place)
        self._close(place)
        for name, cap in self._caps.items():
            full = cap.take(place)
            if full and name not in self._given_up:
                self._filled.setdefault(name, []).extend(full)
                if self._pool is not None:
                    self._pool.close_groups(name, full)
        if self._near is not None:
            self._remember(place)

    def _remember(self, place: int) -> None:
        if self._near is not None and self._near.same_work and (work := self._work(place)) is not None:
            self._works.setdefault(work, place)
        vector = self._vector(place)
        if vector is None:
            return
        used = len(self._behind)
        if self._vectors is None or used == len(self._vectors):
            grown = np.empty((max(64, 2 * used), len(vector)))
            if self._vectors is not None:
                grown[:used] = self._vectors
            self._vectors = grown
        self._vectors[used] = vector
        self._behind.append(place)

    def give_up(self, condition: str) -> None:
        """The condition holds no longer: open again what it had closed, unless another keeps it closed."""
        self._given_up.add(condition)
        self._pool = None
        self._closed[:] = False
        self._closed[self._listed] = True
        self.repeated = {}
        if HUBS not in self._given_up:
            self._closed[self._hubs] = True
        self._filled = {
            name: [group for group, count in cap.counts.items() if count >= cap.limit]
            for name, cap in self._caps.items()
            if name not in self._given_up
        }

    def cause(self, place: int) -> tuple[str, int] | None:
        """Why a place that is not listed is closed: the condition, and the listed place behind it or `NOBODY`."""
        if not self.closed[place]:
            return None
        if place in self.repeated:
            return NEAR_DUPLICATES, self.repeated[place]
        for name, cap in self._caps.items():
            if name not in self._given_up and (full := cap.full(place)):
                return name, cap.filled[full[0]]
        return HUBS, NOBODY

    @property
    def conditions(self) -> list[str]:
        """The conditions in force at first, in the order in which they are given up."""
        hubs = [HUBS] if len(self._hubs) else []
        near = [NEAR_DUPLICATES] if self._near is not None else []
        return [*hubs, *self._caps, *near]
