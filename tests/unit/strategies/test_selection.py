"""The stages of a selection: relaxation, widening, near-duplicates, contributions."""

import numpy as np
import pytest

from streams.strategies import (
    Caps,
    InvalidQuery,
    NearDuplicates,
    Query,
    Seed,
    candidates_wanted,
    fields_needed,
    filters,
    select_list,
)
from streams.strategies.gate import work_of
from streams.strategies.seeds import combine_seeds
from tests.unit.strategies.helpers import around, candidates, unit

pytestmark = pytest.mark.unit


def held(selection: object) -> dict[str, int]:
    """Stage to how many candidates it left."""
    return {stage.stage: stage.held for stage in selection.stages}  # type: ignore[attr-defined]


def test_stages_are_counted() -> None:
    """Every stage says how many candidates it left."""
    rows = [{"era": "Baroque", "composer": c} for c in "aaab"] + [{"era": "Modern", "composer": "z"}]
    query = Query(
        top_k=2,
        filters=filters.parse_filters({"era": "baroque"}),
        exclude=frozenset({3}),
        caps=Caps(composer=1),
        at_least=0,
    )
    made = select_list(candidates([0.9, 0.8, 0.7, 0.6, 0.5], rows), query)
    assert made.keys == [0]
    assert held(made) == {
        "received": 5,
        "filters": 4,
        "exclude": 3,
        "near_duplicates": 3,
        "caps": 1,
        "top_k": 1,
    }


def test_a_cap_by_artist_counts_each_of_several() -> None:
    """A track with two artists counts for both, and is kept out when either has had its share."""
    rows = [
        {"artist": "A, B", "artists": ["A", "B"]},
        {"artist": "B", "artists": ["B"]},
        {"artist": "C, a", "artists": ["C", "a"]},
        {"artist": "C", "artists": ["C"]},
        {"artist": None, "artists": []},
    ]
    query = Query(top_k=5, caps=Caps(artist=1), at_least=0)
    assert select_list(candidates([0.9, 0.8, 0.7, 0.6, 0.5], rows), query).keys == [0, 3, 4]


def test_caps_are_given_up_before_filters_and_what_fits_stays_on_top() -> None:
    """Album, artist, composer, then filters; an item names only the conditions it does not meet."""
    rows = [
        {"composer": "Bach", "era": "Baroque"},
        {"composer": "Bach", "era": "Baroque"},
        {"composer": "Cage", "era": "Modern"},
        {"composer": "Ives", "era": "Baroque"},
    ]
    pool = candidates([0.5, 0.6, 0.9, 0.4], rows)
    query = Query(top_k=4, filters=filters.parse_filters({"era": "Baroque"}), caps=Caps(composer=1, album=1))
    made = select_list(pool, query)
    assert [(item.key, item.relaxed) for item in made.items] == [
        (1, ()),
        (3, ()),
        (0, ("caps.composer",)),
        (2, ("filters.era",)),
    ]
    assert made.relaxed == ("caps.composer", "filters.era")
    assert "although it does not meet the filter on era" in made.items[3].explanation


def test_giving_up_one_cap_keeps_the_others() -> None:
    """Once the album cap has gone, a second track of a composer still comes only when that cap goes too."""
    rows = [
        {"composer": "Bach", "album": "one"},
        {"composer": "Bach", "album": "two"},
        {"composer": "Cage", "album": "one"},
    ]
    pool = candidates([0.9, 0.8, 0.1], rows)
    made = select_list(pool, Query(top_k=3, caps=Caps(composer=1, album=1)))
    assert [(item.key, item.relaxed) for item in made.items] == [
        (0, ()),
        (2, ("caps.album",)),
        (1, ("caps.composer",)),
    ]
    assert made.relaxed == ("caps.album", "caps.composer")


def test_what_is_relaxed_is_ranked_after_and_against_what_is_listed() -> None:
    """MMR goes on from the strict picks: the relaxed pick is penalised for repeating one of them."""
    rows = [{"era": "Baroque"}, {"era": "Modern"}, {"era": "Modern"}]
    vectors = np.array([[1, 0], [1, 0], [0.6, 0.8]], dtype=np.float32)
    query = Query(
        top_k=3,
        strategy="diverse",
        filters=filters.parse_filters({"era": "Baroque"}),
        parameters={"lambda": 0.5},
    )
    made = select_list(candidates([0.9, 0.8, 0.7], rows, vectors=vectors), query)
    assert made.keys == [0, 2, 1]
    assert [item.score for item in made.items] == pytest.approx([0.45, 0.35 - 0.3, 0.4 - 0.5])


def test_far_tracks_that_meet_the_filter_stay_on_top_of_a_large_relaxed_pool() -> None:
    """Strict picks far beyond the re-ranked pool are kept when nearer tracks join them."""
    rows = [{"era": "Modern"}] * 397 + [{"era": "Baroque"}] * 3
    pool = candidates(np.linspace(0.9, 0.1, 400), rows)
    made = select_list(pool, Query(top_k=5, filters=filters.parse_filters({"era": "Baroque"})))
    assert made.keys == [397, 398, 399, 0, 1]


def test_filters_are_given_up_in_their_order_and_only_as_many_as_needed() -> None:
    """Key goes before form, form before composer; composer still holds when three are enough."""
    rows = [
        {"composer": "Bach", "form": "fugue", "key_signature": "C major"},
        {"composer": "Bach", "form": "fugue", "key_signature": "D major"},
        {"composer": "Bach", "form": "aria", "key_signature": "C major"},
        {"composer": "Cage", "form": "fugue", "key_signature": "C major"},
    ]
    wanted = filters.parse_filters({"composer": "Bach", "form": "fugue", "key_signature": "C major"})
    made = select_list(candidates([0.1, 0.2, 0.3, 0.9], rows), Query(top_k=4, at_least=3, filters=wanted))
    assert made.keys == [0, 1, 2]
    assert made.relaxed == ("filters.key_signature", "filters.form")
    assert made.notes == ("only 3 candidates are left: at_least = 3 has no more relaxed",)


def test_stages_go_on_where_conditions_are_given_up() -> None:
    """After the strict stages one for each condition, whether it helped or not, and the list as it is at the end."""
    rows = [{"composer": "Bach", "era": "Baroque"}] * 2 + [{"composer": "Cage", "era": "Modern"}] * 30
    query = Query(
        seeds=(Seed(99),),
        top_k=4,
        filters=filters.parse_filters({"era": "Baroque", "composer": {"any": ["Bach"], "not": ["Ives"]}}),
        caps=Caps(composer=1, album=1),
    )
    made = select_list(candidates(np.linspace(0.9, 0.1, 32), rows), query)
    assert held(made) == {
        "received": 32,
        "filters": 2,
        "exclude": 2,
        "near_duplicates": 2,
        "caps": 1,
        "relaxed caps.album": 1,
        "relaxed caps.composer": 2,
        "relaxed filters.era": 2,
        "relaxed filters.composer": 32,
        "top_k": 4,
    }
    assert len(made.stages) == 10
    assert made.relaxed == ("caps.composer", "filters.era", "filters.composer")


def test_a_list_that_may_not_be_relaxed_says_why_it_is_short() -> None:
    """It is not enough that as many are listed as had to be."""
    rows = [{"era": "Modern"}] * 2
    query = Query(filters=filters.parse_filters({"era": "Baroque"}), at_least=0)
    made = select_list(candidates([0.9, 0.8], rows), query)
    assert (made.items, made.notes) == ((), ("only 0 candidates are left: at_least = 0 has no more relaxed",))
    alone = select_list(candidates([0.9]), Query(at_least=0))
    assert alone.notes == ("only 1 candidate is left, whatever is relaxed",)


def test_exclusions_are_never_given_up() -> None:
    """Excluded tracks, seeds, negatives and `not` filters stay out of an empty list, and the notes say it."""
    rows = [{"composer": "Bach"}, {"composer": "Bach"}, {"composer": "Bach"}, {"composer": "Cage"}]
    query = Query(
        seeds=(Seed(0),),
        negatives=(Seed(1),),
        exclude=frozenset({2}),
        filters=filters.parse_filters({"composer": {"not": ["Cage"]}}),
    )
    made = select_list(candidates([0.9, 0.8, 0.7, 0.6], rows), query)
    assert made.items == ()
    assert made.notes == ("only 0 candidates are left, whatever is relaxed",)


def test_the_same_work_is_listed_once() -> None:
    """Composer, opus and movement tell a work, however they are spelled; a movement of its own is another."""
    bach = {"composer": "Bach", "opus": "BWV 849", "movement": "1"}
    rows = [
        {**bach, "title": "Prelude in C# minor"},
        {**bach, "composer": "BACH", "opus": "bwv  849.", "title": "Preludium (remastered 2009)"},
        {**bach, "movement": "2", "title": "Fugue"},
        {"composer": None, "title": "Reel"},
        {"composer": "Anonymous", "title": "Reel"},
    ]
    query = Query(near_duplicates=NearDuplicates(), at_least=0)
    made = select_list(candidates([0.9, 0.8, 0.7, 0.6, 0.5], rows), query)
    assert made.keys == [0, 2, 3, 4]
    assert held(made)["near_duplicates"] == 4
    assert [
        item.relaxed
        for item in select_list(
            candidates([0.9, 0.8], rows[:2]), Query(top_k=2, near_duplicates=NearDuplicates())
        ).items
    ] == [
        (),
        ("near_duplicates",),
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"opus": "Op. 27, No. 2"}, {"opus": "opus 27 nr 2"}, True),
        ({"opus": "Op. 27 No. 2", "title": "Moonlight"}, {"opus": "Op. 27 No. 2", "title": "Adagio"}, False),
        ({"title": "Clair de lune - Remastered 2011"}, {"title": "Clair de Lune [Live]"}, True),
        ({"title": "Été"}, {"title": "Ete"}, True),
        ({"title": "Sonata 1"}, {"title": "Sonata 11"}, False),
        ({"title": "Live and let die"}, {"title": "and let die"}, False),
    ],
)
def test_works_are_told_apart(one: dict[str, str], other: dict[str, str], same: bool) -> None:
    """Spelling and release notes do not make another work; numbers, movements and titles do."""
    made = [work_of({"composer": "x", **row}) for row in (one, other)]
    assert None not in made
    assert (made[0] == made[1]) == same


def test_nothing_identifies_a_work_without_composer_or_title() -> None:
    """Unknown works are not all one work."""
    assert work_of({"title": "Reel"}) is None
    assert work_of({"composer": "traditional", "title": "Reel"}) is None
    assert work_of({"composer": "Bach"}) is None


def test_vectors_tell_near_duplicates_of_listed_tracks_and_of_seeds() -> None:
    """What is at least as similar as the threshold to a listed track or a seed is passed over."""
    seed = unit([1, 0, 0])
    vectors = unit([[1, 0.01, 0], [1, 1, 0], [1, 1.01, 0], [0, 0, 1]])
    pool = around(seed, vectors)
    start = (Seed(99, vector=seed),)
    made = select_list(pool, Query(seeds=start, near_duplicates=NearDuplicates(cosine=0.99), at_least=0))
    assert made.keys == [1, 3]
    kept = NearDuplicates(cosine=0.99, of_seeds=False)
    assert select_list(pool, Query(seeds=start, near_duplicates=kept, at_least=0)).keys == [0, 1, 3]
    assert select_list(pool, Query(seeds=start)).keys == [0, 1, 2, 3]


def test_hubs_are_kept_out_and_come_back_first() -> None:
    """The hub cap is the first condition to be given up."""
    pool = candidates([0.9, 0.8, 0.7], list_share=np.array([0.2, 0.0, 0.01]))
    strict = select_list(pool, Query(caps=Caps(list_share=0.05), at_least=0))
    assert strict.keys == [1, 2]
    loose = select_list(pool, Query(caps=Caps(list_share=0.05), top_k=3))
    assert [(item.key, item.relaxed) for item in loose.items] == [(1, ()), (2, ()), (0, ("caps.list_share",))]


def test_contributions_add_up_to_the_similarity() -> None:
    """Without negatives the seeds' shares are all there is, and the largest names the seed in the sentence."""
    rng = np.random.default_rng(3)
    vectors = unit(rng.normal(size=(30, 6)))
    start = (
        Seed(100, 1.0, unit(rng.normal(size=6)), {"title": "Aria", "form": "aria"}),
        Seed(101, 3.0, unit(rng.normal(size=6)), {"title": "Fugue", "form": "fugue"}),
    )
    query = Query(seeds=start)
    rows = [{"form": "fugue"}] * 30
    made = select_list(around(combine_seeds(query).vector, vectors, rows), query)
    for item in made.items:
        assert sum(item.contributions) == pytest.approx(item.similarity, abs=1e-5)
        assert item.seed == int(np.argmax(item.contributions))
        name = start[item.seed].metadata["title"]
        share = f"{max(item.contributions):.3f}"
        assert f'"{name}" contributes most of the 2 seeds ({share})' in item.explanation
        assert bool(item.shared) == (item.seed == 1)


def test_fields_and_numbers_needed() -> None:
    """The caller learns which columns and how many candidates an answer takes."""
    query = Query(
        filters=filters.parse_filters({"extra.metre": "2/4"}),
        caps=Caps(album=2),
        near_duplicates=NearDuplicates(),
    )
    assert {"extra.metre", "album", "composer", "opus", "movement"} <= fields_needed(query)
    assert "artist" not in fields_needed(query)
    assert candidates_wanted(Query(top_k=7, exclude=frozenset({1, 2}), seeds=(Seed(1),))) == 10
    assert candidates_wanted(Query(strategy="diverse", parameters={"pool": 700})) == 700
    assert candidates_wanted(Query(strategy="diverse", mode="contrast")) == 5000


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"top_k": 51}, "top_k: must be between 1 and 50"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 5, "at_least": 6}, "at_least"),
        ({"seeds": (Seed(1, weight=0.0),)}, "weight: must be above 0"),
        ({"window": 0.0}, "window"),
    ],
)
def test_questions_that_cannot_be_meant(wrong: dict[str, object], said: str) -> None:
    """One line that names what is wrong."""
    with pytest.raises(InvalidQuery, match=said):
        Query(**wrong)  # type: ignore[arg-type]
