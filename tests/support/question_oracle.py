"""Brute force over a whole catalogue: what a question must be answered with, by loops that a reader can check.

Search, filters, caps, near-duplicates, pools and relaxing are written here once more, without columns, masks or indexes.
How a strategy ranks a pool that it is given is taken from the strategy itself: its formula has tests of its own.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from streams.contracts import track_key
from streams.recommender.popularity import ListFacts, Popularity
from streams.strategies import CandidateColumns, Candidates, Filter, Query, auto, filters, hubs, registry
from streams.strategies.gate import work_of
from streams.strategies.seeds import combine_seeds
from streams.strategies.text import NOBODY

CAPPED = ("album", "artist", "composer")
NUMBERS = ("year_composed", "duration_seconds", "popular_rank")
POOL, MOST, WIDER = 200, 5_000, 4


@dataclass
class Known:
    """A track as a catalogue has it: `vector` is float32 (d,), unit length."""

    track_id: str
    metadata: Mapping[str, Any]
    vector: np.ndarray

    @property
    def key(self) -> int:
        return track_key(self.track_id)


@dataclass
class Listed:
    """One answer: the track, the conditions that it does not meet, its score."""

    track_id: str
    relaxed: list[str]
    score: float


@dataclass
class Expected:
    """What a question must be answered with, and how many tracks meet all its filters."""

    items: list[Listed] = field(default_factory=list)
    relaxed: list[str] = field(default_factory=list)
    meeting: int = 0


def differences(body: Mapping[str, Any], expected: Expected, query: Query) -> list[str]:
    """In what a body differs from what a question must be answered with; nothing where it is right."""
    items = body["recommendations"]
    made = [(item["track_id"], item["relaxed"]) for item in items]
    wanted = [(item.track_id, item.relaxed) for item in expected.items]
    scores = [item["score"] for item in items]
    held = {stage["stage"]: stage["held"] for stage in body["stages"]}
    found = []
    if made != wanted:
        found.append(f"listed {made}, not {wanted}")
    elif any(abs(one - item.score) > 2e-6 for one, item in zip(scores, expected.items, strict=True)):
        found.append(f"scores {scores}, not {[item.score for item in expected.items]}")
    if body["relaxed"] != expected.relaxed:
        found.append(f"relaxed {body['relaxed']}, not {expected.relaxed}")
    if held["filters"] != expected.meeting:
        found.append(f"{held['filters']} meet the filters, not {expected.meeting}")
    if len(made) < query.top_k and not body["notes"]:
        found.append("short, and no note says why")
    return found


def plain(value: Any) -> str | None:
    """Text as it is compared."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return unicodedata.normalize("NFC", str(value)).strip().casefold() or None


def _number(value: Any) -> float | None:
    try:
        found = None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return found if found is not None and math.isfinite(found) else None


def value_of(metadata: Mapping[str, Any], name: str) -> Any:
    """A metadata field, or a key of `extra`."""
    if name.startswith("extra."):
        return (metadata.get("extra") or {}).get(name.removeprefix("extra."))
    return metadata.get(name)


def meets(condition: Filter, metadata: Mapping[str, Any]) -> bool:
    """Whether a track meets a filter."""
    value = value_of(metadata, condition.field)
    if condition.kind == "range":
        return _within(condition, value)
    if condition.field == "recording_date":
        same = value is not None and any(_may_be_the_same(str(value), str(one)) for one in condition.values)
        return same != (condition.kind == "not")
    held: set[Any]
    if condition.field in NUMBERS:
        held = {_number(value)} - {None}
    elif isinstance(value, list | tuple):
        held = {plain(one) for one in value}
    else:
        held = {plain(value)} - {None}
    if condition.kind == "all":
        return all(one in held for one in condition.values)
    return any(one in held for one in condition.values) != (condition.kind == "not")


def _may_be_the_same(one: str, other: str) -> bool:
    known = min(len(one), len(other))
    return one[:known] == other[:known]


def _within(condition: Filter, value: Any) -> bool:
    low, high = condition.minimum, condition.maximum
    if condition.field == "recording_date":
        if value is None:
            return False
        dates = str(value)
        below = low is not None and dates[: len(str(low))] < str(low)[: len(dates)]
        above = high is not None and dates[: len(str(high))] > str(high)[: len(dates)]
        return not below and not above
    number = _number(value)
    if number is None:
        return False
    return (low is None or number >= float(low)) and (high is None or number <= float(high))


class Oracle:
    """A catalogue that answers questions by brute force.

    Args:
        tracks: All of them.
        popularity: Of them.
        facts: What the stored lists say of them.
    """

    def __init__(self, tracks: Sequence[Known], popularity: Popularity, facts: ListFacts) -> None:
        self._tracks = sorted(tracks, key=lambda track: track.track_id)
        self._by_key = {track.key: track for track in self._tracks}
        self._popularity = popularity
        self._facts = facts

    def answer(self, query: Query) -> Expected:
        """What the question must be answered with; seeds and negatives are given by key."""
        query = replace(
            query,
            seeds=tuple(self._known(seed) for seed in query.seeds),
            negatives=tuple(self._known(seed) for seed in query.negatives),
        )
        return _Answering(self._tracks, self._popularity, self._facts, query).expected()

    def _known(self, seed: Any) -> Any:
        track = self._by_key[seed.key]
        return replace(seed, vector=track.vector, metadata=track.metadata)


class _Answering:
    def __init__(
        self, tracks: Sequence[Known], popularity: Popularity, facts: ListFacts, query: Query
    ) -> None:
        self.tracks, self.popularity, self.facts, self.query = tracks, popularity, facts, query
        self.dimension = len(tracks[0].vector)
        combined = combine_seeds(query)
        matrix = np.array([track.vector for track in tracks], dtype=np.float64)
        self.similarity = (matrix * combined.vector.astype(np.float64)).sum(axis=1).astype(np.float32)
        if combined.scale != 1.0:
            self.similarity = (self.similarity.astype(np.float64) * combined.scale).astype(np.float32)
        gone = {track.key for track in (*query.seeds, *query.negatives)} | query.exclude
        self.there = [i for i, track in enumerate(tracks) if track.key not in gone]
        self.hubs = set()
        if query.caps.list_share is not None:
            self.hubs = set(facts.hubs(query.caps.list_share).tolist())
        self.listed: list[Listed] = []
        self.places: list[int] = []
        self.resolved = registry.resolve_strategy(query.strategy, query.mode, query.parameters)

    def expected(self) -> Expected:
        query = self.query
        if self.resolved.strategy.name == "auto":
            nearest = self._nearest([i for i in self.there if self._unmet(i, query.filters) == []], POOL)
            choice = auto.choose_strategy(self._pool(sorted(nearest)), query)
            self.resolved = registry.resolve_strategy(choice.strategy, choice.mode)
        given_up: set[str] = set()
        kept = list(query.filters)
        self._fill(query.top_k, given_up, kept)
        conditions: list[Any] = ["caps.list_share"] if self.hubs else []
        conditions += [f"caps.{name}" for name in CAPPED if getattr(query.caps, name) is not None]
        conditions += ["near_duplicates"] if query.near_duplicates is not None else []
        conditions += filters.relaxation_order(query.filters)
        least = query.top_k if query.at_least is None else query.at_least
        for condition in conditions:
            if len(self.listed) >= min(least, query.top_k):
                break
            if isinstance(condition, str):
                given_up.add(condition)
            else:
                kept.remove(condition)
            self._fill(least, given_up, kept)
        names = [one if isinstance(one, str) else f"filters.{one.field}" for one in conditions]
        broken = {name for item in self.listed for name in item.relaxed}
        meeting = sum(1 for track in self.tracks if all(meets(one, track.metadata) for one in query.filters))
        return Expected(self.listed, [name for name in dict.fromkeys(names) if name in broken], meeting)

    def _fill(self, need: int, given_up: set[str], kept: list[Filter]) -> None:
        size = self._pool_size()
        repeating: set[int] = set()
        while len(self.listed) < need:
            open_ = [
                i
                for i in self.there
                if i not in self.places
                and i not in repeating
                and not self._unmet(i, kept)
                and not set(self._broken_caps(i)) - given_up
            ]
            if not open_:
                return
            pool = sorted([*self.places, *self._nearest(open_, size)])
            self._pick(pool, need, given_up, repeating)
            size = max(size, min(WIDER * size, MOST))

    def _pick(self, pool: list[int], need: int, given_up: set[str], repeating: set[int]) -> None:
        ranked, _ = hubs.correct_hubs(self._pool(pool), self.query.hub_correction)
        assert self.resolved.mode.rank is not None
        ranking = self.resolved.mode.rank(ranked, self.query, self.resolved.settings)
        for place in self.places:
            ranking.take(pool.index(place))
        while len(self.listed) < need:
            available = np.array(
                [
                    i not in self.places and i not in repeating and not set(self._broken_caps(i)) - given_up
                    for i in pool
                ],
                dtype=np.bool_,
            )
            best = ranking.best(available)
            if best is None:
                return
            place = pool[best]
            twin = self._repeats(place)
            if twin and "near_duplicates" not in given_up:
                repeating.add(place)
                continue
            broken = [*self._broken_caps(place), *(["near_duplicates"] if twin else [])]
            broken += [f"filters.{one.field}" for one in self._unmet(place, self.query.filters)]
            score = ranking.score(best)
            ranking.take(best)
            self.listed.append(Listed(self.tracks[place].track_id, list(dict.fromkeys(broken)), score))
            self.places.append(place)

    def _pool_size(self) -> int:
        strategy, mode, settings = (
            self.resolved.strategy.name,
            self.resolved.mode.name,
            self.resolved.settings,
        )
        if strategy == "similarity" and not self.query.hub_correction:
            return len(self.tracks)
        default = {"contrast": MOST, "cluster": 5 * self.query.top_k}.get(mode or "", POOL)
        return int(settings.get("pool", 0)) or default

    def _nearest(self, places: list[int], count: int) -> list[int]:
        return sorted(places, key=lambda i: (-self.similarity[i], self.tracks[i].track_id))[:count]

    def _unmet(self, place: int, conditions: Sequence[Filter]) -> list[Filter]:
        return [one for one in conditions if not meets(one, self.tracks[place].metadata)]

    def _broken_caps(self, place: int) -> list[str]:
        """The caps that listing it now would break."""
        track = self.tracks[place]
        broken = ["caps.list_share"] if track.key in self.hubs else []
        for name in CAPPED:
            cap = getattr(self.query.caps, name)
            groups = set() if cap is None else self._groups(name, place)
            if any(sum(group in self._groups(name, i) for i in self.places) >= cap for group in groups):
                broken.append(f"caps.{name}")
        return broken

    def _groups(self, name: str, place: int) -> set[str]:
        """What a cap counts a track as: any of its artists, its album, its composer."""
        metadata = self.tracks[place].metadata
        held = metadata["artists"] if name == "artist" else [metadata.get(name)]
        texts = {text for one in held if (text := plain(one)) is not None}
        if name == "composer" and texts & NOBODY:
            return {"\0nobody"} if self.query.caps.anonymous else set()
        return texts

    def _repeats(self, place: int) -> bool:
        """Whether it nearly repeats what is listed, or a seed."""
        near = self.query.near_duplicates
        if near is None:
            return False
        seeds = self.query.seeds if near.of_seeds else ()
        others = [(seed.metadata, seed.vector) for seed in seeds]
        others += [(self.tracks[i].metadata, self.tracks[i].vector) for i in self.places]
        own, vector = work_of(self.tracks[place].metadata), self.tracks[place].vector.astype(np.float64)
        for metadata, other in others:
            if near.same_work and own is not None and own == work_of(metadata):
                return True
            if near.cosine is not None and other is not None:
                cosine = np.float32((vector * other.astype(np.float64)).sum())
                if cosine >= np.float32(near.cosine):
                    return True
        return False

    def _pool(self, places: list[int]) -> Candidates:
        tracks = [self.tracks[i] for i in places]
        keys = np.array([track.key for track in tracks], dtype=np.int64)
        percentile, probability, heard = self.popularity.of(keys)
        fields = ("composer", "form", "key_signature", "era", "instrument", "artists", "album")
        return Candidates(
            keys=keys,
            labels=np.arange(len(keys)),
            similarity=self.similarity[places],
            vectors=np.array([track.vector for track in tracks], dtype=np.float32).reshape(
                len(keys), self.dimension
            ),
            metadata=CandidateColumns([track.metadata for track in tracks], fields),
            percentile=percentile,
            probability=probability,
            heard=heard,
            density=self.facts.densities(keys),
        )
