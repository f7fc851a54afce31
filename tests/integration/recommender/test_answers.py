"""What the recommender answers, from a real store and a real search process."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streams.contracts import RecommendationReply
from streams.strategies import registry
from tests.integration.recommender.conftest import RecommenderBench

pytestmark = pytest.mark.integration
Run = Callable[[Any], Any]

SEED = "test/00042"


@pytest.mark.parametrize(
    ("strategy", "mode"),
    [(each.name, mode.name) for each in registry.STRATEGIES for mode in each.modes],
)
def test_every_strategy_answers_with_reasons(
    bench: RecommenderBench, run: Run, strategy: str, mode: str | None
) -> None:
    """Ten tracks, ranked, explained, none of them the seed; true similarities; the strategy as it was asked for."""
    reply: RecommendationReply = run(bench.ask(track_id=SEED, strategy=strategy, mode=mode))
    assert reply.error is None
    assert (reply.reference_track, reply.strategy, reply.mode) == (SEED, strategy, mode)
    assert (reply.relaxed, reply.provisional, reply.stale) == ([], False, False)
    items = reply.recommendations or []
    assert [item.rank for item in items] == list(range(1, 11))
    assert len({item.track_id for item in items} - {SEED}) == 10
    seed = bench.catalogue.tracks[bench.catalogue.by_id[SEED]].vector
    for item in items:
        vector = bench.catalogue.tracks[bench.catalogue.by_id[item.track_id]].vector
        assert item.similarity_score == pytest.approx(float(seed @ vector), abs=2e-6)
        assert item.explanation.startswith(f"Cosine similarity {item.similarity_score:.3f}")
    assert reply.stages[0].stage == "received"
    assert (reply.chosen is not None) == (strategy == "auto")


def test_similarity_is_the_stored_list(bench: RecommenderBench, run: Run) -> None:
    """The plain nearest are those of the list, however many are asked for; past its end they are searched."""
    for count in (1, 10, 50):
        expected = bench.catalogue.expected(SEED, count)
        assert run(bench.listed(track_id=SEED, top_k=count)) == [name for name, _ in expected]
    gone = [name for name, _ in bench.catalogue.expected(SEED, 50)]
    after = run(bench.listed(track_id=SEED, top_k=5, exclude=gone))
    vectors = np.array([track.vector for track in bench.catalogue.tracks])
    order = np.argsort(-(vectors @ vectors[bench.catalogue.by_id[SEED]]), kind="stable")
    assert after == [bench.catalogue.tracks[i].track_id for i in order[51:56]]


def test_several_seeds_and_negatives(bench: RecommenderBench, run: Run) -> None:
    """Items say which seed they owe most to; none of the seeds and negatives is listed."""
    seeds = [{"track_id": "test/00001", "weight": 3}, "test/00002"]
    reply = run(bench.ask(seeds=seeds, negatives=["test/00003"], strategy="diverse"))
    assert reply.reference_track is None
    for item in reply.recommendations:
        assert item.track_id not in ("test/00001", "test/00002", "test/00003")
        assert set(item.contributions) == {"test/00001", "test/00002"}
        assert item.contributions[item.seed] == max(item.contributions.values())


def test_an_embedding(bench: RecommenderBench, run: Run) -> None:
    """Any vector of the right dimension, however long; the track that has it comes first."""
    row = 17
    vector = (bench.catalogue.tracks[row].vector * 40).tolist()
    assert run(bench.listed(embedding=vector, top_k=1)) == [bench.catalogue.tracks[row].track_id]


@pytest.mark.parametrize("more", [{}, {"negatives": ["test/00003"]}, {"strategy": "diverse"}])
def test_an_embedding_of_another_dimension(bench: RecommenderBench, run: Run, more: dict[str, Any]) -> None:
    """Is refused by both numbers, whatever else is asked."""
    reply = run(bench.ask(embedding=[1.0] * 10, **more))
    assert [(error.field, error.message) for error in reply.error.errors] == [
        ("embedding", "has 10 components; this catalogue has 24")
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_packed_embedding(bench: RecommenderBench, run: Run, dtype: str) -> None:
    """A vector as track events have it finds what its numbers find."""
    vector = bench.catalogue.tracks[17].vector.astype(dtype)
    packed = {
        "dtype": dtype,
        "data": base64.b64encode(vector.astype(vector.dtype.newbyteorder("<")).tobytes()).decode(),
    }
    assert run(bench.listed(embedding=packed)) == run(bench.listed(embedding=vector.tolist()))


def test_filters_find_what_is_rare(bench: RecommenderBench, run: Run) -> None:
    """A filter that hardly any of the nearest meets is applied to the whole catalogue, and nothing is relaxed."""
    wanted = [t.track_id for t in bench.catalogue.tracks if t.metadata["title"].endswith("no. 599")]
    assert len(wanted) == 1
    title = bench.catalogue.tracks[599].metadata["title"]
    far = run(bench.ask(track_id=SEED, filters={"title": title.upper()}, at_least=0))
    assert [item.track_id for item in far.recommendations] == wanted
    assert far.relaxed == []
    held = {stage.stage: stage.held for stage in far.stages}
    assert held["filters"] == 1 < held["received"]


def test_a_list_is_never_silently_empty(bench: RecommenderBench, run: Run) -> None:
    """What nothing meets is relaxed, item by item and in the answer; what must not be relaxed is not."""
    reply = run(
        bench.ask(
            track_id=SEED,
            filters={"composer": "Nobody", "era": {"not": ["Baroque"]}},
            caps={"composer": 1},
            top_k=20,
        )
    )
    assert len(reply.recommendations) == 20
    assert reply.relaxed == ["caps.composer", "filters.composer"]
    assert all("filters.composer" in item.relaxed for item in reply.recommendations)
    assert all(item.era != "Baroque" for item in reply.recommendations)
    few = run(bench.ask(track_id=SEED, filters={"composer": "Nobody"}, at_least=0))
    assert few.recommendations == []
    assert {stage.stage: stage.held for stage in few.stages}["filters"] == 0


@pytest.mark.parametrize("strategy", ["similarity", "diverse", "hybrid", "random"])
def test_a_list_that_the_nearest_cannot_fill_goes_further(
    bench: RecommenderBench, run: Run, strategy: str
) -> None:
    """Under a cap that 200 candidates cannot meet the whole catalogue is walked, and nothing is relaxed."""
    seeds = ["test/00001", "test/00002"]
    reply = run(bench.ask(seeds=seeds, strategy=strategy, caps={"composer": 1}, top_k=50))
    assert reply.relaxed == []
    listed = [item.track_id for item in reply.recommendations]
    assert len(set(listed)) == 50
    assert all(set(item.contributions) == set(seeds) for item in reply.recommendations)
    tracks = bench.catalogue.tracks
    vectors = np.array([track.vector for track in tracks])
    middle = vectors[[bench.catalogue.by_id[seed] for seed in seeds]].sum(axis=0)
    expected: list[str] = []
    met: set[str] = set()
    for row in np.argsort(-(vectors @ middle), kind="stable"):
        composer = tracks[row].metadata["composer"]
        if tracks[row].track_id not in seeds and composer not in met:
            expected.append(tracks[row].track_id)
            met |= {composer} - {None}
    if strategy == "similarity":
        assert listed == expected[:50]
    else:
        composers = [item.composer for item in reply.recommendations if item.composer]
        assert len(composers) == len(set(composers))
    received = {stage.stage: stage.held for stage in reply.stages}["received"]
    assert received == len(tracks)


def test_caps_and_hubs(bench: RecommenderBench, run: Run) -> None:
    """No more of a composer than is allowed; hubs are kept out, or held back."""
    reply = run(bench.ask(track_id=SEED, caps={"composer": 2}, top_k=8))
    composers = [item.composer for item in reply.recommendations if item.composer]
    assert max(composers.count(name) for name in composers) <= 2
    assert reply.relaxed == []
    plain = run(bench.listed(track_id=SEED, top_k=50))
    capped = run(bench.ask(track_id=SEED, caps={"list_share": 0.08}, top_k=20))
    assert capped.relaxed == []
    held: dict[str, int] = {}
    for row in range(len(bench.catalogue.tracks)):
        for name, _ in bench.catalogue.expected(bench.catalogue.tracks[row].track_id, 50):
            held[name] = held.get(name, 0) + 1
    shares = {name: count / len(bench.catalogue.tracks) for name, count in held.items()}
    assert any(shares[name] > 0.08 for name in plain[:20])
    assert all(shares.get(item.track_id, 0) <= 0.08 for item in capped.recommendations)
    density = bench.catalogue.scores[:, :10].mean(axis=1)
    row = bench.catalogue.by_id[SEED]
    vectors = np.array([track.vector for track in bench.catalogue.tracks])
    nearest = np.argsort(-(vectors @ vectors[row]), kind="stable")[1:200]
    csls = (vectors @ vectors[row])[nearest] - density[nearest] / 2
    expected = [bench.catalogue.tracks[i].track_id for i in nearest[np.argsort(-csls, kind="stable")][:10]]
    assert run(bench.listed(track_id=SEED, hub_correction=1)) == expected != plain[:10]


def test_explain_says_where_a_candidate_stands(bench: RecommenderBench, run: Run) -> None:
    """Listed at its rank, below the list, filtered, excluded, or not among the candidates, each with its similarity."""
    nearest = bench.catalogue.expected(SEED, 50)
    first, later = nearest[0], nearest[30]

    def place(candidate: str, **fields: object) -> Any:
        reply = run(bench.ask(track_id=SEED, candidate=candidate, **fields))
        assert reply.error is None
        assert reply.recommendations is None
        return reply.placement

    listed = place(first[0])
    assert (listed.listed, listed.rank, listed.stage) == (True, 1, "listed")
    assert listed.recommendation.track_id == first[0]
    below = place(later[0])
    assert (below.listed, below.rank, below.stage) == (False, 31, "top_k")
    assert below.similarity_score == pytest.approx(later[1], abs=2e-6)
    assert place(first[0], exclude=[first[0]]).stage == "exclude"
    assert place(SEED, filters={"era": {"not": "none"}}).stage == place(SEED).stage == "seeds"
    assert place(first[0], filters={"composer": "Nobody"}, at_least=0).stage == "filters"
    far = min(bench.catalogue.tracks, key=lambda t: float(t.vector @ bench.catalogue.tracks[42].vector))
    away = place(far.track_id, strategy="diverse")
    assert (away.stage, away.rank) == ("candidates", None)
    assert away.detail.endswith(f"it is number {len(bench.catalogue.tracks) - 1} of the most similar tracks")
    assert away.similarity_score == pytest.approx(
        float(far.vector @ bench.catalogue.tracks[42].vector), abs=2e-6
    )


def test_explain_looks_beyond_the_stored_list(bench: RecommenderBench, run: Run) -> None:
    """The last of the catalogue has its rank, and what keeps a track out is told though the list does not reach to it."""
    far = min(bench.catalogue.tracks, key=lambda t: float(t.vector @ bench.catalogue.tracks[42].vector))

    def place(**fields: object) -> Any:
        reply = run(bench.ask(track_id=SEED, **{"candidate": far.track_id, **fields}))
        assert reply.error is None
        return reply.placement

    last = place()
    assert (last.stage, last.rank) == ("top_k", len(bench.catalogue.tracks) - 1)
    assert last.detail.startswith(f"Ranks {last.rank}, below the first 10: Cosine similarity")
    assert last.recommendation.track_id == far.track_id
    assert last.candidates == len(bench.catalogue.tracks)
    assert place(exclude=[far.track_id]).stage == "exclude"
    assert place(negatives=[far.track_id]).stage == "seeds"
    assert place(strategy="diverse", filters={"title": {"not": far.metadata["title"]}}).stage == "filters"


def test_compare_puts_all_strategies_side_by_side(bench: RecommenderBench, run: Run) -> None:
    """Each list with what it is worth, every pair with its agreement; diverse is more diverse than similarity."""
    reply = run(bench.ask(track_id=SEED, compare=True))
    lists = {(one.strategy, one.mode): one for one in reply.comparison.lists}
    assert len(lists) == sum(len(each.modes) for each in registry.STRATEGIES)
    assert len(reply.comparison.overlap) == len(lists) * (len(lists) - 1) // 2
    assert all(len(one.recommendations) == 10 for one in lists.values())
    similarity, diverse = lists["similarity", None], lists["diverse", "mmr"]
    assert diverse.intra_list_diversity > similarity.intra_list_diversity
    assert similarity.mean_similarity == max(one.mean_similarity for one in lists.values())
    assert similarity.coverage == pytest.approx(10 / len(bench.catalogue.tracks))
    assert lists["auto", None].chosen is not None


@pytest.mark.parametrize("asked", [{}, {"filters": {"era": "Baroque"}, "caps": {"composer": 1}, "top_k": 20}])
def test_compare_shows_what_is_served(bench: RecommenderBench, run: Run, asked: dict[str, Any]) -> None:
    """List by list: from as many candidates, with the same filters, and as much relaxed."""
    moment = {"user_context": {"time": "2026-02-03T04:05:06Z"}}
    reply = run(bench.ask(track_id=SEED, compare=True, **asked, **moment))
    for one in reply.comparison.lists:
        served = run(bench.ask(track_id=SEED, strategy=one.strategy, mode=one.mode, **asked, **moment))
        assert one.recommendations == served.recommendations
        assert (one.relaxed, one.notes, one.chosen) == (served.relaxed, served.notes, served.chosen)
        if (one.strategy, asked) != ("similarity", {}):  # that begins with its stored list
            assert one.stages == served.stages


def test_random_keeps_its_draw_within_its_window(bench: RecommenderBench, run: Run) -> None:
    """The same draw for the same seed and hour of the listener; another for another."""
    moment = "2026-02-03T04:05:06Z"
    drawn = run(bench.listed(track_id=SEED, strategy="random", user_context={"time": moment}))
    context = {"time": "2026-02-03T04:55:06Z"}
    assert run(bench.listed(track_id=SEED, strategy="random", user_context=context)) == drawn
    others = [{**context, "seed": 7}, {"time": "2026-02-03T05:05:06Z"}]
    for other in others:
        assert run(bench.listed(track_id=SEED, strategy="random", user_context=other)) != drawn


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"track_id": "nothing"}, 404, "track_id"),
        ({"seeds": [SEED, "nothing"]}, 404, "seeds"),
        ({"track_id": SEED, "negatives": ["nothing"]}, 404, "negatives"),
        ({"track_id": SEED, "candidate": "nothing"}, 404, "candidate"),
        ({"embedding": [1.0, 2.0]}, 422, "embedding"),
        ({"track_id": SEED, "parameters": {"lambda": 1}}, 422, "parameters.lambda"),
        (
            {"track_id": SEED, "strategy": "diverse", "parameters": {"lambda": 2}},
            422,
            "parameters.lambda",
        ),
        ({"track_id": SEED, "filters": {"composer": {"min": 3}}}, 422, "filters.composer"),
        ({"track_id": SEED, "filters": {"recording_date": "banana"}}, 422, "filters.recording_date"),
        (
            {"track_id": SEED, "filters": {"recording_date": {"min": "16.09.2009", "max": "2009-08"}}},
            422,
            "filters.recording_date",
        ),
        ({"track_id": SEED, "timeout_ms": 0, "strategy": "diverse"}, 504, None),
    ],
)
def test_what_cannot_be_answered_is_a_problem(
    bench: RecommenderBench, run: Run, fields: dict[str, Any], status: int, field: str | None
) -> None:
    """With its status, and the part of the request at fault."""
    reply = run(bench.ask(**fields))
    assert reply.status == "error"
    assert reply.error.status == status
    assert [error.field for error in reply.error.errors] == ([] if field is None else [field])
