"""Why a track is listed, or is not: sentences of true components, and the stage that dropped a candidate."""

import numpy as np
import pytest

from streams.strategies import (
    CandidateColumns,
    Candidates,
    Caps,
    NearDuplicates,
    Query,
    Seed,
    explain_candidate,
    filters,
    select_list,
)
from streams.strategies.diverse import UNHEARD
from tests.unit.strategies.helpers import around, candidates, unit

pytestmark = pytest.mark.unit


def test_explanations_name_what_is_shared_and_nothing_else() -> None:
    """Facts are compared without case; an anonymous composer is nobody in common."""
    seed = Seed(
        99, metadata={"composer": "Anonymous", "form": "fugue", "era": "Baroque", "key_signature": "C major"}
    )
    rows = [{"composer": "anonymous", "form": "Fugue", "era": None, "key_signature": "D major"}]
    item = select_list(candidates([0.9137], rows), Query(seeds=(seed,))).items[0]
    assert item.explanation == "Cosine similarity 0.914; same form (Fugue)"
    assert item.shared == (("form", "Fugue"),)


def test_explanations_of_popularity_and_mmr_hold_their_components() -> None:
    """The numbers of a sentence are the item's own."""
    pool = candidates(
        [0.9, 0.8], percentile=np.array([0.5, 0.987]), vectors=np.array([[1, 0], [0.6, 0.8]], "f4")
    )
    popular = select_list(pool, Query(strategy="popular", top_k=2)).items
    assert popular[1].explanation == "Cosine similarity 0.800; more popular than 98 % of the catalogue"
    mmr = select_list(pool, Query(strategy="diverse", top_k=2)).items
    assert mmr[1].explanation == (
        "Cosine similarity 0.800; at most 0.600 to the tracks above it (MMR penalty 0.180)"
    )


@pytest.mark.parametrize(
    ("percentile", "said"),
    [
        (1.0, "the most popular track"),
        (0.99997, "more popular than 99.9 %"),
        (0.996, "more popular than 99.6 %"),
        (0.29, "more popular than 29 %"),
        (0.0049, "more popular than 0.4 %"),
        (0.0, "more popular than 0 %"),
    ],
)
def test_a_percentile_is_never_said_to_be_more_than_it_is(percentile: float, said: str) -> None:
    """No track is more popular than 100 %, nor than a tenth of a percent more than it is."""
    pool = candidates([0.5], percentile=np.array([percentile]), heard=np.array([True]))
    (item,) = select_list(pool, Query(strategy="popular")).items
    assert item.explanation == f"Cosine similarity 0.500; {said} of the catalogue"


@pytest.mark.parametrize(("strategy", "mode"), [("popular", None), ("hybrid", None), ("diverse", "novelty")])
def test_of_what_nobody_has_heard_no_popularity_is_told(strategy: str, mode: str | None) -> None:
    """The sentence says that nobody has listened; the percentile of those heard is told; a note, if that is nobody."""
    pool = candidates(
        [0.9, 0.8, 0.7],
        percentile=np.array([0.4, 0.4, 0.9]),
        probability=np.array([0.1, 0.1, 0.8]),
        heard=np.array([False, False, True]),
    )
    made = select_list(pool, Query(strategy=strategy, mode=mode))
    said = {item.key: item.explanation for item in made.items}
    assert all("nobody has listened to it yet" in said[key] for key in (0, 1))
    assert "more popular than" not in said[0] + said[1]
    assert "more popular than 90 % of the catalogue" in said[2]
    assert UNHEARD not in made.notes
    alone = select_list(pool.take(np.array([0, 1])), Query(strategy=strategy, mode=mode))
    assert alone.keys == [0, 1]
    assert UNHEARD in alone.notes


def test_explain_finds_every_stage() -> None:
    """A candidate is listed, or below, or the stage that dropped it is named with the reason."""
    rows = [
        {"composer": "Bach", "opus": "1", "title": "A", "era": "Baroque"},
        {"composer": "Bach", "opus": "1", "title": "A", "era": "Baroque"},
        {"composer": "Bach", "opus": "2", "title": "B", "era": "Baroque"},
        {"composer": "Ives", "opus": "3", "title": "C", "era": "Baroque"},
        {"composer": "Cage", "opus": "4", "title": "D", "era": "Modern"},
        {"composer": "Orff", "opus": "5", "title": "E", "era": "Baroque"},
        {"composer": "Part", "opus": "6", "title": "F", "era": "Baroque"},
        {"composer": "Reger", "opus": "7", "title": "G", "era": "Baroque"},
    ]
    pool = candidates([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], rows)
    query = Query(
        seeds=(Seed(6),),
        top_k=2,
        exclude=frozenset({5}),
        filters=filters.parse_filters({"era": "Baroque"}),
        caps=Caps(composer=1),
        near_duplicates=NearDuplicates(of_seeds=False),
    )
    found = {key: explain_candidate(pool, query, key) for key in (*range(8), 42)}
    assert {key: (p.stage, p.rank) for key, p in found.items()} == {
        0: ("listed", 1),
        1: ("caps", None),
        2: ("caps", None),
        3: ("listed", 2),
        4: ("filters", None),
        5: ("exclude", None),
        6: ("seeds", None),
        7: ("top_k", 3),
        42: ("candidates", None),
    }
    assert found[4].detail == "It does not meet the filters: era is Modern"
    assert found[2].detail.endswith("composer as the cap allows, the last at rank 1")
    assert found[7].item is not None


def test_explain_knows_what_refuses_a_track() -> None:
    """A seed, a negative, what is excluded and what fails a filter are told as such, wherever they are."""
    query = Query(
        seeds=(Seed(90),),
        negatives=(Seed(91),),
        exclude=frozenset({92}),
        filters=filters.parse_filters({"era": "Baroque", "extra.metre": ["2/4", "3/4"]}),
        at_least=0,
    )
    rows = [{"era": "Baroque", "extra": {"metre": "2/4"}}, {"era": "Modern", "extra": {"metre": "6/8"}}]
    pool = Candidates(
        keys=np.array([7, 93]),
        labels=np.arange(2),
        similarity=np.array([0.9, 0.8], dtype=np.float32),
        metadata=CandidateColumns(rows, ["era", "extra.metre"]),
    )
    found = {key: explain_candidate(pool, query, key) for key in (90, 91, 92, 93, 94)}
    assert {key: (p.stage, p.detail) for key, p in found.items()} == {
        90: ("seeds", "It is a seed of the query itself"),
        91: ("seeds", "It is a negative of the query itself"),
        92: ("exclude", "The query excludes it"),
        93: ("filters", "It does not meet the filters: era is Modern and extra.metre is 6/8"),
        94: ("candidates", "It is not one of the tracks that are chosen from"),
    }


def test_explain_goes_on_where_the_list_ends() -> None:
    """Similarity ranks on, caps included; what chooses from the nearest says which of these a track would be."""
    rows = [{"composer": "Bach"}] * 2 + [{"composer": f"c{i}"} for i in range(28)]
    pool = candidates(np.linspace(0.9, 0.1, 30), rows)
    start = (Seed(0),)
    plain = explain_candidate(pool, Query(seeds=start), 20)
    assert (plain.stage, plain.rank) == ("top_k", 20)
    assert plain.detail.startswith("Ranks 20, below the first 10: Cosine similarity 0.3")
    assert plain.item is not None
    capped = Query(caps=Caps(composer=1))
    assert explain_candidate(pool, capped, 20).rank == 20
    assert explain_candidate(pool, capped, 1).stage == "caps"
    popular = Query(seeds=start, strategy="popular", parameters={"pool": 11})
    near = explain_candidate(pool, popular, 20)
    assert (near.stage, near.rank) == ("candidates", None)
    assert near.detail == (
        "Not among the 11 candidates that popular chooses from: it is number 20 of the most similar tracks"
    )


def test_explain_names_the_track_that_a_near_duplicate_repeats() -> None:
    """By vectors or by work, the rank of the listed track is in the sentence."""
    near = around(unit([1, 1]), unit([[1, 0.9], [0, 1], [0.01, 1]]))
    by_vector = explain_candidate(near, Query(top_k=2, near_duplicates=NearDuplicates(cosine=0.99)), 1)
    assert by_vector.detail == "It nearly repeats the track at rank 2"
    work = {"composer": "Bach", "opus": "1", "title": "A"}
    rows = [work, work, {"composer": "Ives", "opus": "3"}]
    by_work = explain_candidate(
        candidates([0.9, 0.8, 0.7], rows), Query(top_k=2, near_duplicates=NearDuplicates()), 1
    )
    assert (by_work.stage, by_work.detail) == ("near_duplicates", "It nearly repeats the track at rank 1")
