"""What keeps a candidate out of a list because of those listed already: caps and near-duplicates."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.strategies import facts
from streams.strategies.arrays import cosines
from streams.strategies.text import plain, work_words
from streams.strategies.types import Candidates, Caps, Indices, Mask, NearDuplicates, Seed

CAPPED: Final = ("album", "artist", "composer")
NEAR_DUPLICATES: Final = "near_duplicates"


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


class Gate:
    """Follows what is listed and closes what may no longer be. All indices are into the candidates given.

    Attributes:
        closed: bool (n,), what may not be listed as long as its conditions hold.
        cause: For what was closed: the condition, and the listed index behind it, or -1.
    """

    def __init__(
        self,
        candidates: Candidates,
        caps: Caps,
        near: NearDuplicates | None,
        seeds: tuple[Seed, ...],
        base: Indices,
    ) -> None:
        self.closed: Mask = np.zeros(len(candidates), dtype=np.bool_)
        self.cause: dict[int, tuple[str, int]] = {}
        self._candidates = candidates
        self._near = near
        self._listed: list[int] = []
        self._given_up: set[str] = set()
        self._limits = {f"caps.{name}": cap for name in CAPPED if (cap := getattr(caps, name)) is not None}
        self._groups = {name: self._coded(name.removeprefix("caps.")) for name in self._limits}
        self._counts = {name: np.zeros(len(candidates) + 1, dtype=np.int64) for name in self._limits}
        self._hubs = self._find_hubs(caps.list_share)
        self._close(self._hubs, "caps.list_share", -1)
        self._works = self._find_works() if near and near.same_work else {}
        self._work_of = {index: work for work, members in self._works.items() for index in members}
        self._of_seed: Mask = np.zeros(len(candidates), dtype=np.bool_)
        if near and near.of_seeds:
            self._find_copies_of(seeds, near, base)
            self._close(self._of_seed, NEAR_DUPLICATES, -1)

    def _coded(self, field: str) -> npt.NDArray[np.int64]:
        coded = facts.codes(field, self._candidates.metadata.get(field))
        return np.full(len(self._candidates), -1, dtype=np.int64) if coded is None else coded[1]

    def _find_hubs(self, limit: float | None) -> Mask:
        share = self._candidates.list_share
        if limit is None or share is None:
            return np.zeros(len(self._candidates), dtype=np.bool_)
        return share > limit

    def _find_works(self) -> dict[tuple[str, str, str], list[int]]:
        used = ("composer", "opus", "title", "movement", "movement_name")
        table = {name: column for name in used if (column := self._candidates.metadata.get(name)) is not None}
        works: dict[tuple[str, str, str], list[int]] = {}
        for index in range(len(self._candidates)):
            work = work_of({name: column[index] for name, column in table.items()})
            if work is not None:
                works.setdefault(work, []).append(index)
        return works

    def _find_copies_of(self, seeds: tuple[Seed, ...], near: NearDuplicates, base: Indices) -> None:
        if near.same_work:
            for seed in seeds:
                work = work_of(seed.metadata)
                self._of_seed[self._works.get(work, []) if work else []] = True
        vectors = [seed.vector for seed in seeds if seed.vector is not None]
        if near.cosine is not None and vectors and self._candidates.vectors is not None:
            alike = cosines(self._candidates.vectors[base], np.stack(vectors)).max(axis=1) >= near.cosine
            self._of_seed[base[alike]] = True

    def _close(self, which: Mask, condition: str, cause: int) -> None:
        fresh = which & ~self.closed
        self.closed |= which
        for index in np.flatnonzero(fresh).tolist():
            self.cause[index] = (condition, cause)

    def refuses(self, index: int) -> bool:
        """Whether it is too like a listed track to be listed; it is then closed."""
        if NEAR_DUPLICATES in self._given_up:
            return False
        twin = self._twin(index)
        if twin is not None:
            self.closed[index] = True
            self.cause[index] = (NEAR_DUPLICATES, twin)
        return twin is not None

    def _twin(self, index: int) -> int | None:
        vectors = self._candidates.vectors
        if self._near is None or self._near.cosine is None or vectors is None or not self._listed:
            return None
        alike = cosines(vectors[[index]], vectors[self._listed])[0]
        nearest = int(alike.argmax())
        return self._listed[nearest] if alike[nearest] >= self._near.cosine else None

    def violated(self, index: int) -> list[str]:
        """The conditions, given up or not, that listing it now would break."""
        broken = [
            name
            for name, limit in self._limits.items()
            if (group := self._groups[name][index]) >= 0 and self._counts[name][group] >= limit
        ]
        if self._hubs[index]:
            broken.append("caps.list_share")
        work = self._work_of.get(index)
        same_work = work is not None and not set(self._works[work]).isdisjoint(self._listed)
        if self._of_seed[index] or same_work or self._twin(index) is not None:
            broken.append(NEAR_DUPLICATES)
        return broken

    def take(self, index: int) -> None:
        """It is listed: close its group where that is full, and other recordings of its work."""
        self._listed.append(index)
        self.closed[index] = True
        for name, limit in self._limits.items():
            group = self._groups[name][index]
            if group < 0:
                continue
            self._counts[name][group] += 1
            if self._counts[name][group] >= limit and name not in self._given_up:
                self._close(self._groups[name] == group, name, index)
        work = self._work_of.get(index)
        if work is not None and NEAR_DUPLICATES not in self._given_up:
            same = np.zeros(len(self.closed), dtype=np.bool_)
            same[self._works[work]] = True
            self._close(same, NEAR_DUPLICATES, index)

    def give_up(self, condition: str) -> None:
        """The condition holds no longer: open again what it alone had closed."""
        self._given_up.add(condition)
        self.closed[:] = False
        self.closed[self._listed] = True
        self.cause = {}
        self._reclose()

    def _reclose(self) -> None:
        if "caps.list_share" not in self._given_up:
            self._close(self._hubs, "caps.list_share", -1)
        for name, limit in self._limits.items():
            if name in self._given_up:
                continue
            for group in np.flatnonzero(self._counts[name] >= limit).tolist():
                self._close(self._groups[name] == group, name, -1)
        if NEAR_DUPLICATES in self._given_up:
            return
        self._close(self._of_seed, NEAR_DUPLICATES, -1)
        for index in self._listed:
            work = self._work_of.get(index)
            if work is not None:
                same = np.zeros(len(self.closed), dtype=np.bool_)
                same[self._works[work]] = True
                self._close(same, NEAR_DUPLICATES, index)

    @property
    def conditions(self) -> list[str]:
        """The conditions in force at first, in the order in which they are given up."""
        hubs = ["caps.list_share"] if self._hubs.any() else []
        near = [NEAR_DUPLICATES] if self._near is not None else []
        return [*hubs, *self._limits, *near]
