"""What holds of every list, whatever the candidates and the question."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.strategies import (
    CandidateColumns,
    Candidates,
    CandidateSource,
    Caps,
    NearDuplicates,
    Query,
    Seed,
    filters,
    registry,
    select_list,
)
from streams.strategies.gate import CAPPED_FIELDS
from tests.support.examples import examples
from tests.unit.strategies.helpers import unit

pytestmark = pytest.mark.unit

ALL = [(s.name, mode.name) for s in registry.STRATEGIES for mode in s.modes]
FIELDS = ("composer", "artists", "album", "form", "era", "instrument", "title", "opus", "tags")


@st.composite
def pools(draw: Any) -> Candidates:
    """Up to 40 candidates with few different values, so that ties, groups and copies are frequent."""
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    vectors = unit(rng.integers(-2, 3, size=(n, 4)) + np.array([3, 0, 0, 0])) if n else np.zeros((0, 4), "f4")
    rows = [
        {
            "composer": rng.choice(["Bach", "Cage", None]),
            "artists": [["x"], ["y"], ["z"], ["x", "y"], []][rng.integers(5)],
            "album": rng.choice(["one", "two", None]),
            "form": rng.choice(["fugue", "aria", None]),
            "era": rng.choice(["Baroque", "Modern"]),
            "instrument": rng.choice(["organ", "voice"]),
            "title": rng.choice(["Fugue", "Aria"]),
            "opus": rng.choice(["1", "2", None]),
            "tags": ["a", "b"] if rng.random() < 0.5 else ["b"],
        }
        for _ in range(n)
    ]
    popular = draw(st.booleans())
    share = rng.choice([0.001, 0.01, 0.1], size=n)
    return Candidates(
        keys=rng.permutation(1000)[:n].astype(np.int64),
        labels=rng.permutation(n).astype(np.int64),
        similarity=(vectors @ unit([1, 0.5, 0, 0])).astype(np.float32),
        vectors=vectors,
        metadata=CandidateColumns(rows, FIELDS),
        percentile=share * 5 if popular else None,
        probability=share if popular else None,
        heard=share > 0.001 if popular else None,
        list_share=rng.choice([0.0, 0.5], size=n),
    )


@st.composite
def queries(draw: Any, pool: Candidates) -> Query:
    """Any strategy, with or without filters, caps, near-duplicates and exclusions."""
    strategy, mode = draw(st.sampled_from(ALL))
    keys = pool.keys.tolist()
    exclude = frozenset(draw(st.lists(st.sampled_from(keys), max_size=8))) if keys else frozenset()
    wanted = draw(
        st.sampled_from(
            [
                {},
                {"era": "baroque"},
                {"form": ["fugue", "aria"], "tags": {"all": ["a", "b"]}},
                {"composer": {"not": "Cage"}},
            ]
        )
    )
    cap = st.one_of(st.none(), st.integers(1, 4))
    seed = Seed(
        draw(st.sampled_from([*keys, 5000])),
        vector=unit([1, 0.5, 0, 0]),
        metadata={"composer": "Bach", "form": "fugue", "title": "Aria"},
    )
    return Query(
        seeds=(seed,),
        strategy=strategy,
        mode=mode,
        top_k=draw(st.integers(1, 50)),
        exclude=exclude,
        filters=filters.parse_filters(wanted),
        caps=Caps(draw(cap), draw(cap), draw(cap), draw(st.sampled_from([None, 0.1]))),
        near_duplicates=draw(st.sampled_from([None, NearDuplicates(), NearDuplicates(cosine=0.9)])),
        at_least=draw(st.sampled_from([None, 0])),
        moment=1e9,
    )


asked = pools().flatmap(lambda pool: st.tuples(st.just(pool), queries(pool)))


@settings(max_examples=examples(150), deadline=None)
@given(asked)
def test_every_list_keeps_its_promises(case: tuple[Candidates, Query]) -> None:
    """No duplicate, nothing excluded, no seed, at most top_k; what breaks a condition is marked."""
    pool, query = case
    made = select_list(pool, query)
    keys = made.keys
    assert len(keys) == len(set(keys)) <= query.top_k
    assert not set(keys) & (query.exclude | {query.seeds[0].key})
    assert [item.rank for item in made.items] == list(range(1, len(keys) + 1))
    assert [pool.keys[item.index] for item in made.items] == keys
    assert all(np.isfinite([item.score, *item.components.values()]).all() for item in made.items)
    assert set(made.relaxed) == {name for item in made.items for name in item.relaxed}
    for item in made.items:
        for condition in query.filters:
            met = CandidateSource(pool).meeting(condition)[item.index]
            assert met == (f"filters.{condition.field}" not in item.relaxed)
            assert met or condition.kind != "not"
    for field in ("composer", "artist", "album"):
        cap = getattr(query.caps, field)
        values = [
            pool.metadata[CAPPED_FIELDS[field]][item.index]
            for item in made.items
            if f"caps.{field}" not in item.relaxed
        ]
        counts = Counter(one for value in values for one in (value if isinstance(value, list) else [value]))
        del counts[None]
        assert cap is None or max(counts.values(), default=0) <= cap


@settings(max_examples=examples(100), deadline=None)
@given(asked)
def test_a_list_is_full_unless_nothing_is_left(case: tuple[Candidates, Query]) -> None:
    """With relaxation a list is short only if all that is not excluded is in it; without, nothing is relaxed."""
    pool, query = case
    made = select_list(pool, query)
    gone = query.exclude | {query.seeds[0].key}
    hard = [condition for condition in query.filters if condition.kind == "not"]
    left = [
        key
        for i, key in enumerate(pool.keys.tolist())
        if key not in gone and all(CandidateSource(pool).meeting(condition)[i] for condition in hard)
    ]
    if query.at_least is None:
        assert len(made.items) == min(query.top_k, len(left))
    else:
        assert made.relaxed == ()
    assert any(note.startswith("only ") for note in made.notes) == (len(made.items) < query.top_k)


@settings(max_examples=examples(100), deadline=None)
@given(asked)
def test_stages_tell_how_the_list_came_about(case: tuple[Candidates, Query]) -> None:
    """Each of the strict ones leaves no more than the one before; then one for each condition given up, and the list."""
    pool, query = case
    made = select_list(pool, query)
    names = [stage.stage for stage in made.stages]
    held = [stage.held for stage in made.stages]
    assert names[:5] == ["received", "filters", "exclude", "near_duplicates", "caps"]
    assert held[:5] == sorted(held[:5], reverse=True)
    assert (names[-1], held[-1]) == ("top_k", len(made.items))
    given_up = [name.removeprefix("relaxed ") for name in names[5:-1]]
    assert [name for name in given_up if name in made.relaxed] == list(made.relaxed)
    assert bool(given_up) <= (held[4] < query.top_k)
    assert min(held[5:-1], default=held[4]) >= len([item for item in made.items if not item.relaxed])
    assert held[-2] >= held[-1]


@settings(max_examples=examples(100), deadline=None)
@given(asked, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(case: tuple[Candidates, Query], random: Any) -> None:
    """Shuffled candidates give the same items, scores and explanations."""
    pool, query = case
    order = list(range(len(pool)))
    random.shuffle(order)
    shuffled = pool.take(np.array(order, dtype=np.intp))
    one, other = select_list(pool, query), select_list(shuffled, query)
    assert [(i.key, i.score, i.relaxed, i.explanation) for i in one.items] == [
        (i.key, i.score, i.relaxed, i.explanation) for i in other.items
    ]
    assert (one.stages, one.choice, one.notes) == (other.stages, other.choice, other.notes)


@settings(max_examples=examples(60), deadline=None)
@given(pools(), st.integers(1, 50))
def test_mmr_of_lambda_one_is_similarity(pool: Candidates, top_k: int) -> None:
    """Without a penalty what is left is relevance."""
    plain = select_list(pool, Query(top_k=top_k))
    mmr = select_list(pool, Query(top_k=top_k, strategy="diverse", mode="mmr", parameters={"lambda": 1}))
    assert mmr.keys == plain.keys
    assert [item.score for item in mmr.items] == [item.score for item in plain.items]
