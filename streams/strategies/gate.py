"""What keeps a candidate out of a list because of those listed already: caps and near-duplicates."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.metadata_fields import COMPARED_BY
from streams.strategies import facts
from streams.strategies.arrays import cosines
from streams.strategies.text import plain, work_words
from streams.strategies.types import Candidates, Caps, Mask, NearDuplicates, Seed

CAPPED: Final = ("album", "artist", "composer")
NEAR_DUPLICATES: Final = "near_duplicates"
# What tells a work; see `work_of`.
WORK: Final = ("composer", "opus", "title", "movement", "movement_name")


def work_of(track: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """What identifies the work that a track is a recording of; None where the metadata does not tell.

    Composer, opus or else title, and movement; where no movement is given, the title stands for it, since the
    movements of one opus are different works to a listener. Without a known composer a title says too little:
    "Sonata" by nobody in particular is no one work.
    """
    composer = facts.known("composer", track.get("composer"))
    opus, title = (_words(track.get(name)) for name in ("opus", "title"))
    if not composer or not (opus or title):
        return None
    movement = _words(track.get("movement")) or _words(track.get("movement_name"))
    return work_words(composer), opus or title, movement or title


def _words(value: Any) -> str:
    text = plain(value)
    return "" if text is None else work_words(text)


# What holds the values that a cap counts.
CAPPED_FIELDS: Final = {name: COMPARED_BY.get(name, name) for name in CAPPED}


class Groups:
    """The groups that a cap counts n candidates in: one for each value of the field; a list puts a track in several.

    Args:
        candidates: Who is counted.
        cap: Of `CAPPED`.

    Attributes:
        first: int64 (n,), one group of each candidate, -1 where nothing is known.
    """

    def __init__(self, candidates: Candidates, cap: str) -> None:
        field, count = CAPPED_FIELDS[cap], len(candidates)
        values = candidates.listed(field) or [None] * count
        sizes = np.ones(count, dtype=np.int64)
        if not {list, tuple}.isdisjoint(map(type, values)):
            several = [value if isinstance(value, list | tuple) else (value,) for value in values]
            sizes = np.fromiter(map(len, several), dtype=np.int64, count=count)
            values = [one for each in several for one in each]
        coded = facts.codes(field, values)
        codes = np.full(len(values), -1, dtype=np.int64) if coded is None else coded[1]
        self._owners = np.repeat(np.arange(count), sizes)[codes >= 0]
        self._codes = codes[codes >= 0]
        self._starts = np.searchsorted(self._owners, np.arange(count + 1))
        self.first: npt.NDArray[np.int64] = np.full(count, -1, dtype=np.int64)
        known = self._starts[:-1] < self._starts[1:]
        self.first[known] = self._codes[self._starts[:-1][known]]

    def of(self, index: int) -> list[int]:
        """The groups of a candidate, each once."""
        return list(dict.fromkeys(self._codes[self._starts[index] : self._starts[index + 1]].tolist()))

    def members(self, group: int) -> Mask:
        """Who is in a group: bool (n,)."""
        found: Mask = np.zeros(len(self.first), dtype=np.bool_)
        found[self._owners[self._codes == group]] = True
        return found

    @property
    def count(self) -> int:
        """How many groups there are, at most."""
        return len(self._codes)


class Gate:
    """Follows what is listed and closes what may no longer be. All indices are into the candidates given.

    A cap closes its whole group when it is reached. A near-duplicate is found when it comes up, so that only what
    could have been listed is ever compared.

    Attributes:
        closed: bool (n,), what is listed, and what may not be as long as its conditions hold.
        cause: For what was closed: the condition, and the listed index behind it, or -1.
    """

    def __init__(
        self, candidates: Candidates, caps: Caps, near: NearDuplicates | None, seeds: tuple[Seed, ...]
    ) -> None:
        self.closed: Mask = np.zeros(len(candidates), dtype=np.bool_)
        self.cause: dict[int, tuple[str, int]] = {}
        self._candidates = candidates
        self._near = near
        self._listed: list[int] = []
        self._given_up: set[str] = set()
        self._limits = {f"caps.{name}": cap for name in CAPPED if (cap := getattr(caps, name)) is not None}
        self._groups = {name: Groups(candidates, name.removeprefix("caps.")) for name in self._limits}
        self._counts = {name: np.zeros(groups.count, dtype=np.int64) for name, groups in self._groups.items()}
        self._hubs = self._find_hubs(caps.list_share)
        self._close(self._hubs, "caps.list_share", -1)
        own = seeds if near is not None and near.of_seeds else ()
        self._works = {work: -1 for seed in own if (work := work_of(seed.metadata)) is not None}
        self._seed_vectors = [seed.vector for seed in own if seed.vector is not None]

    def _find_hubs(self, limit: float | None) -> Mask:
        share = self._candidates.list_share
        if limit is None or share is None:
            return np.zeros(len(self._candidates), dtype=np.bool_)
        return share > limit

    def _close(self, which: Mask, condition: str, cause: int) -> None:
        fresh = which & ~self.closed
        self.closed |= which
        for index in np.flatnonzero(fresh).tolist():
            self.cause[index] = (condition, cause)

    def refuses(self, index: int) -> bool:
        """Whether it is too like a listed track, or a seed, to be listed; it is then closed."""
        if NEAR_DUPLICATES in self._given_up:
            return False
        twin = self._twin(index)
        if twin is None:
            return False
        self.closed[index] = True
        self.cause[index] = (NEAR_DUPLICATES, twin)
        return True

    def _twin(self, index: int) -> int | None:
        """The listed index that it nearly repeats, -1 for a seed, None for none."""
        if self._near is None:
            return None
        if self._near.same_work and (work := self._work(index)) in self._works and work is not None:
            return self._works[work]
        vectors = self._candidates.vectors
        known = [] if vectors is None else [*self._seed_vectors, *(vectors[i] for i in self._listed)]
        if self._near.cosine is None or vectors is None or not known:
            return None
        alike = cosines(np.stack(known), vectors[[index]])[:, 0]
        nearest = int(alike.argmax())
        if alike[nearest] < self._near.cosine:
            return None
        return self._listed[nearest - len(self._seed_vectors)] if nearest >= len(self._seed_vectors) else -1

    def _work(self, index: int) -> tuple[str, str, str] | None:
        return work_of({name: self._value(name, index) for name in WORK})

    def _value(self, name: str, index: int) -> Any:
        column = self._candidates.metadata.get(name)
        return None if column is None else column[index]

    def violated(self, index: int) -> list[str]:
        """The conditions, given up or not, that listing it now breaks."""
        broken = ["caps.list_share"] if self._hubs[index] else []
        broken += [
            name
            for name, limit in self._limits.items()
            if any(self._counts[name][group] >= limit for group in self._groups[name].of(index))
        ]
        # As long as near-duplicates are removed, what comes here is none.
        if NEAR_DUPLICATES in self._given_up and self._twin(index) is not None:
            broken.append(NEAR_DUPLICATES)
        return broken

    def take(self, index: int) -> None:
        """It is listed: close its groups where they are full."""
        self._listed.append(index)
        self.closed[index] = True
        for name, limit in self._limits.items():
            for group in self._groups[name].of(index):
                self._counts[name][group] += 1
                if self._counts[name][group] >= limit and name not in self._given_up:
                    self._close(self._groups[name].members(group), name, index)
        if self._near is not None and self._near.same_work and (work := self._work(index)) is not None:
            self._works.setdefault(work, index)

    def give_up(self, condition: str) -> None:
        """The condition holds no longer: open again what it had closed, unless another keeps it closed."""
        self._given_up.add(condition)
        self.closed[:] = False
        self.closed[self._listed] = True
        self.cause = {}
        if "caps.list_share" not in self._given_up:
            self._close(self._hubs, "caps.list_share", -1)
        for name in self._limits.keys() - self._given_up:
            for group in np.flatnonzero(self._counts[name] >= self._limits[name]).tolist():
                self._close(self._groups[name].members(group), name, -1)

    @property
    def conditions(self) -> list[str]:
        """The conditions in force at first, in the order in which they are given up."""
        hubs = ["caps.list_share"] if self._hubs.any() else []
        near = [NEAR_DUPLICATES] if self._near is not None else []
        return [*hubs, *self._limits, *near]
