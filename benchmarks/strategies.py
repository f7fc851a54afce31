"""What each strategy costs for 200 candidates, beside a plain top-k of the same.

Run as `python -m benchmarks strategies`. Candidates of works of the demo catalogue are at hand, as they are to an agent
that has read them; one call makes a list of ten with its explanations.
"""

import time
from collections.abc import Callable

import numpy as np

from benchmarks import machine, report
from mess.demo import catalogue
from mess.evaluate import lists, plan, works
from mess.evaluate.listening import ListeningModel, SimulatedListening, simulate_listening
from mess.evaluate.plan import LENGTH, PlanEntry
from mess.evaluate.works import Works
from streams.engine.audit import Auditor
from streams.strategies import Candidates, Seed, hubs, select_list
from streams.strategies.picking import PickingRun

CANDIDATES = 200
CALLS = 500
Call = Callable[[], object]


def questions(
    found: Works, listening: SimulatedListening, density: np.ndarray, count: int
) -> list[tuple[Seed, Candidates]]:
    """Seeds drawn from the catalogue, each with its 200 nearest and all that is known of them."""
    seeds = np.sort(np.random.default_rng(0).choice(len(found), count, replace=False))
    search = Auditor(np.arange(len(found)), found.track_ids, found.vectors, CANDIDATES)
    made = []
    for start in range(0, count, search.block_rows):
        block = seeds[start : start + search.block_rows]
        for seed, near, scores in zip(block.tolist(), *search.nearest(block), strict=True):
            facts = {name: column[seed] for name, column in found.columns.items()}
            candidates = Candidates(
                keys=near.astype(np.int64),
                labels=near.astype(np.int64),
                similarity=scores,
                vectors=found.vectors[near],
                metadata={name: column[near] for name, column in found.columns.items()},
                percentile=listening.percentile[near],
                probability=listening.probability[near],
                heard=listening.heard[near],
                density=density[near],
            )
            made.append((Seed(seed, vector=found.vectors[seed], metadata=facts), candidates))
    return made


def top_k(candidates: Candidates) -> np.ndarray:
    """The ten most similar by numpy alone: what nothing that ranks can undercut."""
    nearest = np.argpartition(-candidates.similarity, LENGTH)[:LENGTH]
    return nearest[np.argsort(-candidates.similarity[nearest])]


def picked(candidates: Candidates, entry: PlanEntry, seed: Seed) -> list[int]:
    """The picks alone: no counts of stages, no explanations."""
    run = PickingRun(candidates, entry.query(seed))
    run.fill(LENGTH)
    return [pick.index for pick in run.picks]


def milliseconds(calls: list[Call]) -> np.ndarray:
    """How long each call takes, after some that warm up."""
    for call in calls[:20]:
        call()
    taken = np.empty(len(calls))
    for place, call in enumerate(calls):
        start = time.perf_counter()
        call()
        taken[place] = 1000 * (time.perf_counter() - start)
    return taken


def main(*, quick: bool = False) -> None:
    """Print p50 and p99 of each strategy, of its picks alone, and how many times a plain top-k that is."""
    found = works.of_demo(catalogue.load_demo_catalogue())
    listening = simulate_listening(len(found), ListeningModel())
    asked = questions(found, listening, lists.list_densities(found, hubs.NEIGHBOURS), 60 if quick else CALLS)
    made = report.make_table(
        f"One list of {LENGTH} from {CANDIDATES} candidates, {found.vectors.shape[1]} dimensions (load {machine.load_average()})",
        "strategy",
        "p50 ms",
        "p99 ms",
        "picks alone, p50 ms",
        "times top-k",
    )
    plain = milliseconds([lambda one=one: top_k(one) for _, one in asked])
    base = float(np.median(plain))
    made.add_row("plain top-k (numpy)", f"{base:.3f}", f"{np.percentile(plain, 99):.3f}", "", "1")
    entries = plan.planned_entries()
    for entry in (*entries, entries[0].corrected(1.0)):
        whole = milliseconds(
            [lambda e=entry, s=seed, one=one: select_list(one, e.query(s)) for seed, one in asked]
        )
        alone = milliseconds([lambda e=entry, s=seed, one=one: picked(one, e, s) for seed, one in asked])
        half = float(np.median(whole))
        made.add_row(
            entry.name,
            f"{half:.2f}",
            f"{np.percentile(whole, 99):.2f}",
            f"{np.median(alone):.2f}",
            f"{half / base:.0f}",
        )
    note = (
        "By a profile, two fifths of similarity's time make ten explanations and as much picks; of mmr's, two fifths compare "
        "candidates with what is listed; of hybrid's, a third reads the facts of the candidates; of cluster's, a fifth is "
        "k-means. A list that is stored or materialised costs none of it."
    )
    report.print_table(made, note)


if __name__ == "__main__":
    main()
