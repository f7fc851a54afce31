"""What each aspect is worth: lists by one aspect alone, held against what its name promises."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mess.evaluate.intervals import Interval, percentile_interval, resampled_means
from mess.evaluate.labels import Codes
from mess.evaluate.works import Works
from streams.strategies.types import Floats, Vectors

NEAREST: Final = 10
SEEDS: Final = 1_500
WHOLE: Final = "all, as in the lists"
DANCES: Final = frozenset(
    {
        "clog",
        "highland fling",
        "hornpipe",
        "jig",
        "polka",
        "quickstep",
        "reel",
        "slip jig",
        "strathspey",
        "waltz",
    }
)
_BLOCK: Final = 256
_ARTICLE: Final = re.compile(r"^(the|a|an)\s+|,\s*(the|a|an)$")


@dataclass(frozen=True, slots=True)
class AspectQuestion:
    """What the nearest tracks are asked.

    Attributes:
        name: For people.
        label: A track's label by its facts, None where it has none: then it is neither asked nor listed.
        twins: Whether a list is right with one track of the label; else its share of them counts.
        across: Whether only tracks of other collections are listed, so that none is near for its book alone.
    """

    name: str
    label: Callable[[Mapping[str, Any]], str | None]
    twins: bool = False
    across: bool = True


def _dance(facts: Mapping[str, Any]) -> str | None:
    form = facts.get("form")
    return form if form in DANCES else None


def _mode(facts: Mapping[str, Any]) -> str | None:
    key = str(facts.get("key_signature") or "").split()
    return key[-1].casefold() if len(key) == 2 else None


def _tune(facts: Mapping[str, Any]) -> str | None:
    """The title of a tune of which several books may have a version."""
    if facts.get("composer") is not None or not facts.get("title"):
        return None
    title = _ARTICLE.sub("", str(facts["title"]).casefold().strip())
    return " ".join(re.findall(r"\w+", title)) or None


QUESTIONS: Final = (
    AspectQuestion("mode", _mode, across=False),
    AspectQuestion("dance type, other books", _dance),
    AspectQuestion("the same tune, other books", _tune, twins=True),
)


@dataclass(frozen=True, slots=True)
class AspectFigures:
    """The answers to one question.

    Attributes:
        question: Its name.
        seeds: How many tracks were asked.
        listed: How many tracks could be listed.
        chance: Of lists drawn at random.
        figures: By aspect, and `WHOLE`: mean share of the ten nearest with the seed's label, or of lists with its twin.
    """

    question: str
    seeds: int
    listed: int
    chance: float
    figures: Mapping[str, Interval]


def measure(
    works: Works, random_seed: int, questions: Sequence[AspectQuestion] = QUESTIONS
) -> list[AspectFigures]:
    """Ask every question of every aspect alone, and of the whole vector; nothing of works without aspects.

    Args:
        works: The catalogue.
        random_seed: Seeds and intervals are drawn from it.
        questions: Those that the catalogue's facts have no labels for are left out.
    """
    layout = works.layout
    if layout is None or not layout.aspects:
        return []
    facts = [dict(zip(works.columns, row, strict=True)) for row in zip(*works.columns.values(), strict=True)]
    books = _codes([fact.get("extra.collection") or fact.get("album") for fact in facts])
    made = (_figures(works, one, facts, books, random_seed) for one in questions)
    return [figures for figures in made if figures is not None]


def _figures(
    works: Works, question: AspectQuestion, facts: list[dict[str, Any]], books: Codes, random_seed: int
) -> AspectFigures | None:
    codes = _codes([question.label(fact) for fact in facts])
    listed = np.flatnonzero(codes >= 0)
    barred = books if question.across else np.arange(len(codes))
    chances = np.array([_chance(codes, barred, listed, row, twins=question.twins) for row in listed.tolist()])
    # A track that no list could be right for says nothing.
    asked, chances = listed[chances > 0], chances[chances > 0]
    if len(asked) < NEAREST or len(np.unique(codes[asked])) < 2:
        return None
    random = np.random.default_rng([random_seed, 5])
    drawn = np.sort(random.choice(len(asked), min(SEEDS, len(asked)), replace=False))
    seeds = asked[drawn]
    layout = works.layout
    assert layout is not None
    columns: dict[str, slice] = {**layout.parts, WHOLE: slice(0, layout.dimension)}
    values = {}
    for name, where in columns.items():
        found = _nearest(works.vectors[:, where], seeds, listed, barred)
        right = codes[found] == codes[seeds][:, None]
        values[name] = (right.any(axis=1) if question.twins else right.mean(axis=1)).astype(np.float64)
    draws = resampled_means(np.stack(list(values.values()), axis=1), random)
    figures = {
        name: percentile_interval(float(one.mean()), draws[:, i])
        for i, (name, one) in enumerate(values.items())
    }
    return AspectFigures(question.name, len(seeds), len(listed), float(chances[drawn].mean()), figures)


def _codes(labels: Sequence[str | None]) -> Codes:
    names = {name: code for code, name in enumerate(sorted({one for one in labels if one is not None}))}
    return np.array([-1 if one is None else names[one] for one in labels], dtype=np.int64)


def _chance(codes: Codes, barred: Codes, listed: Codes, row: int, *, twins: bool) -> float:
    """How a list drawn at random is expected to do for a seed; 0 where none can be right."""
    others = listed[barred[listed] != barred[row]]
    right = int((codes[others] == codes[row]).sum())
    if not right or not twins:
        return right / len(others) if right else 0.0
    # At least one of `right` among ten of so many, drawn without replacement.
    places = np.arange(min(NEAREST, len(others)))
    return float(1 - np.prod(np.maximum(len(others) - right - places, 0) / (len(others) - places)))


def _nearest(vectors: Vectors, seeds: Codes, listed: Codes, barred: Codes) -> npt.NDArray[np.int64]:
    """The ten nearest of the listed rows by cosine, int64 (m, 10), without those that are barred like the seed."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    columns, made = unit[listed].T, np.empty((len(seeds), NEAREST), dtype=np.int64)
    for start in range(0, len(seeds), _BLOCK):
        rows = seeds[start : start + _BLOCK]
        similarity: Floats = unit[rows] @ columns
        similarity[barred[rows][:, None] == barred[listed]] = -np.inf
        made[start : start + _BLOCK] = listed[np.argpartition(-similarity, NEAREST - 1, axis=1)[:, :NEAREST]]
    return made
