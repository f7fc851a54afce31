"""Aspects: named parts of vectors, their weights, and what a missing part means."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.strategies import InvalidQuery, Query, Seed
from streams.strategies.aspects import (
    Layout,
    checked_weights,
    extremes,
    is_name,
    parse_weights,
    weights_of,
)
from streams.strategies.seeds import combine_seeds, seed_contributions
from streams.strategies.types import Candidates

pytestmark = pytest.mark.unit

SIZES = {"melody": 5, "rhythm": 3, "harmony": 4}
Parts = dict[str, np.ndarray]


def some_parts(random: np.random.Generator, missing: float = 0.2) -> Parts:
    """Unit parts, of which some are missing, never all."""
    while True:
        parts = {n: random.standard_normal(s) for n, s in SIZES.items() if random.random() >= missing}
        if parts:
            return {n: (p / np.linalg.norm(p)).astype(np.float32) for n, p in parts.items()}


def mean_of_cosines(one: Parts, other: Parts, weights: dict[str, float]) -> float:
    """The definition: the weighted mean of the parts' cosines, where a part that either lacks counts 0."""
    total = sum(map(abs, weights.values()))
    shared = one.keys() & other.keys()
    return sum(w / total * float(one[n] @ other[n]) for n, w in weights.items() if n in shared)


@given(number=st.integers(0, 2**32 - 1))
def test_similarity_is_the_weighted_mean_of_the_aspects_cosines(number: int) -> None:
    """Of vectors, of questions with weights of their own, negative ones included, and by aspect."""
    random = np.random.default_rng(number)
    own = dict(zip(SIZES, random.uniform(0.1, 3, 3), strict=True))
    layout = Layout.of_sizes(SIZES, own)
    one, other = some_parts(random), some_parts(random)
    vectors = layout.join(one), layout.join(other)
    assert float(vectors[0] @ vectors[1]) == pytest.approx(mean_of_cosines(one, other, own), abs=1e-6)
    assert np.linalg.norm(vectors[0]) <= 1 + 1e-6
    asked = {name: float(random.uniform(-1, 1)) for name in SIZES if random.random() < 0.7}
    if not asked:
        return
    query = Query(seeds=(Seed(1, 1.0, vectors[0]),), weights=checked_weights(asked), layout=layout)
    if not one.keys() & asked.keys():
        with pytest.raises(InvalidQuery, match="none of these aspects"):
            combine_seeds(query)
        return
    sought = combine_seeds(query)
    assert np.linalg.norm(sought.vector) == pytest.approx(1, abs=1e-6)
    found = sought.scale * float(sought.vector @ vectors[1])
    assert found == pytest.approx(mean_of_cosines(one, other, asked), abs=2e-6)
    (cosines,) = layout.described(layout.cosines(vectors[0], vectors[1][None]))
    for name, cosine in cosines.items():
        if name in one and name in other:
            assert cosine == pytest.approx(float(one[name] @ other[name]), abs=2e-6)
        else:
            assert cosine is None


def test_what_several_seeds_add_is_weighed_too() -> None:
    """Contributions sum up to the similarity, by the weights of the question."""
    random = np.random.default_rng(1)
    layout = Layout.of_sizes(SIZES)
    seeds = tuple(Seed(i, i, layout.join(some_parts(random, 0))) for i in (1, 2, 3))
    query = Query(seeds=seeds, weights={"harmony": -0.5, "rhythm": 0.5}, layout=layout)
    vectors = np.stack([layout.join(some_parts(random, 0)) for _ in range(4)])
    sought = combine_seeds(query)
    similarity = sought.scale * (vectors @ sought.vector)
    found = seed_contributions(query, Candidates(np.arange(4), np.arange(4), similarity, vectors))
    assert found is not None
    np.testing.assert_allclose(found.sum(axis=1), similarity, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (None, "have no aspects"),
        (Layout(12), "have no aspects"),
        (Layout.of_sizes(SIZES), "no aspect tempo; it has harmony, melody, rhythm"),
    ],
)
def test_weights_of_what_the_catalogue_lacks_are_refused(layout: Layout | None, message: str) -> None:
    """With the names that there are."""
    query = Query(seeds=(Seed(1, 1.0, np.ones(12, "f4")),), weights={"tempo": 1.0}, layout=layout)
    with pytest.raises(InvalidQuery, match=message) as caught:
        combine_seeds(query)
    assert caught.value.field == "weights"


def test_a_layout_survives_the_store() -> None:
    """As rows of names, sizes and weights that sum to 1, by name whatever the order they were given in."""
    layout = Layout.of_sizes(SIZES, {"melody": 2, "rhythm": 1, "harmony": 1})
    assert layout.rows == [("harmony", 4, 0.25), ("melody", 5, 0.5), ("rhythm", 3, 0.25)]
    assert Layout.of_rows(layout.dimension, layout.rows) == layout
    assert Layout.of_sizes(dict(reversed(SIZES.items()))) == Layout.of_sizes(SIZES)
    split = layout.split(layout.join({"rhythm": np.float32([0, 1, 0])}))
    assert {name: part.tolist() for name, part in split.items()} == {
        "harmony": [0] * 4, "melody": [0] * 5, "rhythm": [0, 0.5, 0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("rhythm:0.7,melody:0.3", {"melody": 0.3, "rhythm": 0.7}),
        ("melody:3,rhythm:7", {"melody": 0.3, "rhythm": 0.7}),
        ("rhythm", {"rhythm": 1.0}),
        ("rhythm:1,harmony:-1,melody:0", {"harmony": -0.5, "rhythm": 0.5}),
    ],
)
def test_weights_have_one_form(text: str, weights: dict[str, float]) -> None:
    """By name, scaled to 1, without zeros: what means the same is the same."""
    assert parse_weights(text) == weights
    assert list(parse_weights(text)) == list(weights)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no name:weight"),
        ("rhythm:", "no name:weight"),
        ("rhythm:fast", "no name:weight"),
        ("rhythm:nan", "no name:weight"),
        ("rhythm:1e3", "no name:weight"),
        ("rhythm: 1", "no name:weight"),
        ("rhythm:1,rhythm:2", "given twice"),
        ("rhythm:0", "must not all be zero"),
        ("rhythm:0.000000001", "must not all be zero, or nearly"),
        ("dtype:1", "'dtype' is no name of an aspect"),
        ("rhythm:1001", "must be between"),
        (",".join(f"a{i}" for i in range(33)), "must name 1 to 32"),
    ],
)
def test_what_are_no_weights_is_told(text: str, message: str) -> None:
    """In words that go after the parameter's name."""
    with pytest.raises(ValueError, match=message):
        parse_weights(text)


def test_the_most_and_the_least_alike_are_told_in_words() -> None:
    """By name where they are equal; nothing where there is nothing to compare."""
    assert extremes({"a": 0.5, "b": None, "c": 0.981, "d": -0.1}) == (
        "most alike in c (0.98), least in d (-0.10)"
    )
    assert extremes({"a": 0.5, "b": 0.5}) == "most alike in a (0.50), least in b (0.50)"
    assert extremes({"a": 0.5, "b": None}) is None
    assert extremes({}) is None


def test_names_are_plain_words() -> None:
    """Letters, digits, _ and -, from a letter on, but not what a packed embedding has."""
    assert [is_name(name) for name in ("melody", "Mfcc-2_x", "a" * 64)] == [True] * 3
    bad = ("", "2d", "a b", "a:b", "ü", "a" * 65, "dtype", "data", 3)
    assert not any(is_name(name) for name in bad)
    assert math.isclose(sum(a.weight for a in Layout.of_sizes(SIZES).aspects), 1)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_weights_of_a_layout_make_it_again(given: list[int]) -> None:
    """Small whole numbers are found again in the shares, to the last bit where the same numbers come out."""
    sizes = {f"a{n}": n + 1 for n in range(len(given))}
    own = parse_weights(",".join(f"{name}:{weight}" for name, weight in zip(sizes, given, strict=True)))
    layout = Layout.of_sizes(sizes, own)
    text = weights_of(layout)
    assert (text is None) == (len(set(given)) == 1)
    again = Layout.of_sizes(sizes, None if text is None else parse_weights(text))
    assert [one.weight for one in again.aspects] == pytest.approx(
        [one.weight for one in layout.aspects], rel=4e-16
    )


def test_weights_that_no_small_numbers_say_are_rounded() -> None:
    """They are as near as the text allows; a catalogue without aspects has none."""
    layout = Layout.of_sizes(SIZES, {"melody": math.pi, "rhythm": math.e, "harmony": 1})
    text = weights_of(layout)
    assert text is not None
    again = Layout.of_sizes(SIZES, parse_weights(text))
    assert [one.weight for one in again.aspects] == pytest.approx(
        [one.weight for one in layout.aspects], 1e-11
    )
    assert weights_of(Layout(12)) is None
