"""Lists: exact, blind to what is hidden, the same however many processes make them."""

import numpy as np
import pytest

from mess.evaluate import labels, lists, plan
from mess.evaluate.listening import ListeningModel, simulate_listening
from mess.evaluate.lists import SEEN, ListJob
from mess.evaluate.plan import PlanEntry
from mess.evaluate.works import Works
from streams.strategies import InvalidQuery
from streams.strategies.diverse import DIVERSE
from tests.unit.evaluate.helpers import groups, works

pytestmark = pytest.mark.unit


def job(catalogue: Works, entries: list[PlanEntry], **more: object) -> ListJob:
    """A job with the catalogue's own labels held out."""
    found = labels.labels_of_catalogue(catalogue)
    return ListJob(
        works=catalogue,
        listening=simulate_listening(len(catalogue), ListeningModel()),
        entries=entries,
        hidden={label.name: label.hidden for label in found},
        asked={label.name: label.known for label in found},
        **more,  # type: ignore[arg-type]
    )


def test_similarity_lists_the_nearest_by_brute_force() -> None:
    """The ten highest cosines but the seed's own, best first."""
    catalogue = groups()
    seeds = np.arange(len(catalogue))
    made = lists.make_lists(job(catalogue, plan.planned_entries(["similarity"])), seeds)["similarity", SEEN]
    cosines = catalogue.vectors.astype(np.float64) @ catalogue.vectors.astype(np.float64).T
    np.fill_diagonal(cosines, -np.inf)
    assert made.tolist() == np.argsort(-cosines, axis=1)[:, :10].tolist()


def test_strategies_called_blind_do_not_look_at_metadata() -> None:
    """With and without facts they make the same lists, so that no label has to be held out for them."""
    catalogue = groups()
    blind = [entry for entry in plan.planned_entries() if not entry.reads_facts]
    assert {entry.strategy for entry in blind} == {"similarity", "diverse", "popular", "random"}
    bare = works(catalogue.vectors)
    seeds = np.arange(len(catalogue))
    # `reads_facts` alone decides whether facts are handed over: hand them over all the same.
    forced = [entry for entry in blind if entry.strategy is not None]

    class Told(PlanEntry):
        @property
        def reads_facts(self) -> bool:
            return True

    told = [Told(entry.name, entry.strategy, entry.mode) for entry in forced]
    with_facts = lists.make_lists(job(catalogue, told), seeds)
    without = lists.make_lists(job(bare, list(told)), seeds)
    for entry in forced:
        assert (with_facts[entry.name, SEEN] == without[entry.name, SEEN]).all(), entry.name


@pytest.mark.parametrize("name", ["hybrid", "diverse/serendipity", "diverse/contrast", "auto"])
def test_a_held_out_label_cannot_be_seen(name: str) -> None:
    """The lists on which a label is scored are those of a catalogue without it and without what tells it."""
    catalogue = groups(spread=1.5)
    rows = [{"key_signature": key} for key in catalogue.columns["key_signature"]]
    bare = works(catalogue.vectors, rows)
    seeds = np.arange(len(catalogue))
    entries = plan.planned_entries([name])
    held_out = lists.make_lists(job(catalogue, entries), seeds)[name, "form"]
    assert (held_out == lists.make_lists(job(bare, entries), seeds)[name, SEEN]).all()


def test_a_strategy_that_looks_at_facts_gains_by_them() -> None:
    """With the form in sight hybrid lists more of the same form than without: holding out matters."""
    catalogue = groups(spread=1.5)
    seeds = np.arange(len(catalogue))
    made = lists.make_lists(job(catalogue, plan.planned_entries(["hybrid"])), seeds)
    (form,) = labels.labels_of_catalogue(catalogue)
    same = {
        variant: (form.codes[made["hybrid", variant]] == form.codes[:, None]).mean()
        for variant in (SEEN, "form")
    }
    assert same[SEEN] > same["form"] + 0.1


def test_processes_make_the_same_lists() -> None:
    """In the order of the seeds, whichever process made them."""
    catalogue = groups(each=60)
    seeds = np.arange(len(catalogue))
    asked = job(catalogue, plan.planned_entries(["similarity", "hybrid"]))
    alone, together = lists.make_lists(asked, seeds), lists.make_lists(asked, seeds, processes=2)
    assert alone.keys() == together.keys()
    assert all((alone[key] == together[key]).all() for key in alone)


def test_a_small_catalogue_has_short_lists() -> None:
    """Four tracks: three in each list, and empty places after them."""
    made = lists.make_lists(job(works(np.eye(4)), plan.planned_entries()), np.arange(4))
    for found in made.values():
        assert (found[:, :3] >= 0).all()
        assert (found[:, 3:] == lists.NOTHING).all()


def test_densities_are_the_mean_of_the_nearest() -> None:
    """Of each track's two nearest, by hand."""
    catalogue = works([[1, 0], [0, 1], [1, 1]])
    half = np.sqrt(0.5)
    assert lists.list_densities(catalogue, 2).tolist() == pytest.approx([half / 2, half / 2, half])


def test_baselines_leave_the_seed_out() -> None:
    """Chance draws nine others at most of ten tracks; the most played are the same for all but themselves."""
    seeds = np.arange(10)
    drawn = plan.by_chance(seeds, 10, np.random.default_rng(0))
    assert all(sorted(row[:9]) == sorted(set(range(10)) - {seed}) for seed, row in enumerate(drawn.tolist()))
    listening = simulate_listening(10, ListeningModel())
    order = np.argsort(-listening.percentile, kind="stable").tolist()
    top = plan.most_played(seeds, listening)
    assert all(
        row[:9] == [track for track in order if track != seed] for seed, row in enumerate(top.tolist())
    )


def test_strategies_are_chosen_by_any_of_their_names() -> None:
    """A strategy with all its modes, one mode, or the one that an alias means."""
    assert [entry.name for entry in plan.planned_entries(["balanced", "diverse/cluster"])] == [
        "diverse/cluster",
        "hybrid",
    ]
    assert [entry.name for entry in plan.planned_entries(["complementary"])] == ["diverse/cluster"]
    assert len(plan.planned_entries(["diverse"])) == len(DIVERSE.modes)
    with pytest.raises(InvalidQuery):
        plan.planned_entries(["loudness"])
