"""Runs an evaluation: lists by every strategy, measured, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from mess.evaluate import aspects, intervals, labels, lists, measures, plan
from mess.evaluate.aspects import AspectFigures
from mess.evaluate.labels import Label
from mess.evaluate.listening import ListeningModel, SimulatedListening, simulate_listening
from mess.evaluate.lists import SEEN, ListJob, Made
from mess.evaluate.measures import Lists
from mess.evaluate.plan import CHANCE, LENGTH, MOST_PLAYED, PlanEntry
from mess.evaluate.report import EvaluationReport, LabelFacts, MeasuredFigures, PopularityShift
from mess.evaluate.works import Works
from streams.strategies import hubs
from streams.strategies.types import Floats

# Up to so many tracks, each is a seed unless fewer are asked for; of more, so many are drawn.
ALL_UP_TO: Final = 5_000
SAMPLE: Final = 4_000
SHIFT_SEEDS: Final = 500
SIMILARITY: Final = "similarity"
POPULAR: Final = "popular"

Seeds = npt.NDArray[np.int64]
Show = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to evaluate, and how.

    Attributes:
        entries: The strategies.
        seeds: How many tracks to start from, drawn at random; None: all of them up to 5,000 tracks, else 4,000.
        random_seed: Of everything that is drawn.
        hub_correction: Evaluate each strategy with hubs corrected too, so strongly.
        processes: How many to work in.
    """

    entries: Sequence[PlanEntry]
    seeds: int | None = None
    random_seed: int = 0
    hub_correction: float | None = None
    processes: int = 1


class TooFewTracksError(Exception):
    """There is nothing to evaluate: lists need at least two tracks."""


def run_evaluation(
    works: Works,
    listening: SimulatedListening,
    options: EvaluationOptions,
    show: Show = lambda what, done, total: None,
) -> EvaluationReport:
    """Evaluate the strategies on a catalogue.

    Args:
        works: The catalogue.
        listening: What is known of popularity.
        options: What to evaluate, and how.
        show: Told what is being done, how much of it is, and how much there is.

    Raises:
        TooFewTracksError: the catalogue has fewer than two tracks.
    """
    if len(works) < 2:
        raise TooFewTracksError(f"{works.name} has {len(works)} tracks")
    return _Evaluation(works, listening, options, show).report()


def draw_seeds(count: int, wanted: int | None, random_seed: int) -> Seeds:
    """Row numbers of the tracks to start from, ascending, each at most once."""
    size = min(count, wanted or (count if count <= ALL_UP_TO else SAMPLE))
    drawn = np.random.default_rng([random_seed, 2]).choice(count, size=size, replace=False)
    return np.sort(drawn).astype(np.int64)


class _Evaluation:
    def __init__(
        self, works: Works, listening: SimulatedListening, options: EvaluationOptions, show: Show
    ) -> None:
        self._listening, self._options, self._show = listening, options, show
        self._labels = labels.labels_of_catalogue(works)
        self._seeds = draw_seeds(len(works), options.seeds, options.random_seed)
        if options.hub_correction is not None and works.density is None:
            show("measuring densities", 0, 1)
            works = replace(works, density=lists.list_densities(works, hubs.NEIGHBOURS))
        self._works = works
        self._made: Made = {}

    def report(self) -> EvaluationReport:
        entries = list(self._options.entries)
        self._make(entries, "making lists")
        if self._works.lists is not None and (SIMILARITY, SEEN) in self._made:
            self._made[SIMILARITY, SEEN] = self._stored(self._works.lists)
        corrected = self._correct_hubs(entries)
        lines = self._figures([*_baselines(), *entries], [*entries, *corrected])
        named = {one.name: one for one in lines}
        return EvaluationReport(
            catalogue=self._works.name,
            fingerprint=self._works.fingerprint(),
            tracks=len(self._works),
            dimension=self._works.vectors.shape[1],
            seeds=len(self._seeds),
            random_seed=self._options.random_seed,
            listening=self._listening.source,
            labels=[self._label_facts(label) for label in self._labels],
            lines=[named[entry.name] for entry in (*_baselines(), *entries)],
            hubs=[named[entry.name] for entry in corrected],
            aspects=self._aspects(),
            shift=self._shift() if any(entry.strategy == POPULAR for entry in entries) else None,
        )

    def _aspects(self) -> list[AspectFigures]:
        self._show("asking each aspect", 0, 1)
        return aspects.measure(self._works, self._options.random_seed)

    def _job(self, entries: Sequence[PlanEntry], listening: SimulatedListening | None) -> ListJob:
        return ListJob(
            works=self._works,
            listening=listening,
            entries=entries,
            hidden={label.name: label.hidden for label in self._labels},
            asked={label.name: label.known for label in self._labels},
        )

    def _make(self, entries: Sequence[PlanEntry], what: str) -> None:
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self._show(what, done, len(self._seeds))

        self._show(what, 0, len(self._seeds))
        job = self._job(entries, self._listening)
        self._made |= lists.make_lists(job, self._seeds, processes=self._options.processes, show=count)

    def _stored(self, stored: Lists) -> Lists:
        made = np.full((len(self._seeds), LENGTH), lists.NOTHING, dtype=np.int64)
        width = min(LENGTH, stored.shape[1])
        made[:, :width] = stored[self._seeds, :width]
        return made

    def _correct_hubs(self, entries: Sequence[PlanEntry]) -> list[PlanEntry]:
        """Make the lists of each entry with hubs corrected, where asked for."""
        strength = self._options.hub_correction
        if strength is None:
            return []
        corrected = [entry.corrected(strength) for entry in entries if entry.ranks_by_similarity]
        self._make(corrected, "making lists with hubs corrected")
        return corrected

    def _figures(self, first: Sequence[PlanEntry], others: Sequence[PlanEntry]) -> list[MeasuredFigures]:
        every = list({entry.name: entry for entry in (*first, *others)}.values())
        random = np.random.default_rng([self._options.random_seed, 3])
        self._made[CHANCE, SEEN] = plan.by_chance(self._seeds, len(self._works), random)
        self._made[MOST_PLAYED, SEEN] = plan.most_played(self._seeds, self._listening)
        values = {}
        for done, entry in enumerate(every):
            self._show("measuring", done, len(every))
            values[entry.name] = self._values(entry)
        return _Summary(values, random).figures(self._made, len(self._works), self._seen)

    def _values(self, entry: PlanEntry) -> dict[str, Floats]:
        """Measure to its value for each seed."""
        seeds, works = self._seeds, self._works
        made = self._made[entry.name, SEEN]
        found: dict[str, Floats] = {}
        for label in self._labels:
            blind = self._made.get((entry.name, label.name), made)
            found[f"precision_{label.name}"] = measures.precision(blind, seeds, label)
            found[f"ndcg_{label.name}"] = measures.ndcg(blind, seeds, label)
        found["diversity"] = measures.diversity(made, works.vectors)
        found["closeness"] = measures.closeness(made, seeds, works.vectors)
        found["novelty"] = measures.mean_novelty(made, self._listening.probability)
        found["percentile"] = measures.mean_percentile(made, self._listening.percentile)
        return found

    def _seen(self, name: str) -> dict[str, float]:
        """Precision of an entry's lists that were made with the label in sight, where it makes others without."""
        made = self._made[name, SEEN]
        return {
            label.name: float(np.nanmean(measures.precision(made, self._seeds, label)))
            for label in self._labels
            if (name, label.name) in self._made and label.known[self._seeds].any()
        }

    def _label_facts(self, label: Label) -> LabelFacts:
        return LabelFacts(
            name=label.name,
            seeds=int(label.known[self._seeds].sum()),
            values=int(label.codes.max()) + 1,
            chance=label.chance,
            hidden=tuple(sorted(label.hidden)),
        )

    def _shift(self) -> PopularityShift:
        """How `popular` moves with listening: none, one draw of the model, another draw of it."""
        self._show("moving popularity", 0, 1)
        count, seed = len(self._works), self._options.random_seed
        drawn = draw_seeds(len(self._seeds), min(SHIFT_SEEDS, len(self._seeds)), seed)
        chosen = self._seeds[drawn]
        popular, similar = plan.planned_entries([POPULAR]), plan.planned_entries([SIMILARITY])
        first, second = (
            simulate_listening(count, ListeningModel(random_seed=seed + more)) for more in (1000, 1001)
        )
        made = [
            lists.make_lists(self._job(popular, listening), chosen)[POPULAR, SEEN]
            for listening in (None, first, second)
        ]
        plain = lists.make_lists(self._job(similar, None), chosen)[SIMILARITY, SEEN]

        def mean(which: int, by: SimulatedListening) -> float:
            return float(measures.mean_percentile(made[which], by.percentile).mean())

        return PopularityShift(
            seeds=len(chosen),
            before=mean(0, first),
            first_by_first=mean(1, first),
            second_by_first=mean(2, first),
            second_by_second=mean(2, second),
            first_by_second=mean(1, second),
            kept=measures.mean_overlap(made[0], made[1]),
            kept_between=measures.mean_overlap(made[1], made[2]),
            same_as_similarity=bool((made[0] == plain).all()),
        )


def _baselines() -> list[PlanEntry]:
    return [PlanEntry(CHANCE), PlanEntry(MOST_PLAYED)]


class _Summary:
    """Means with intervals of every line, from the same resampled seeds."""

    def __init__(self, values: dict[str, dict[str, Floats]], random: np.random.Generator) -> None:
        self._names = [(line, measure) for line, found in values.items() for measure in found]
        self._place = {name: i for i, name in enumerate(self._names)}
        table = np.stack([values[line][measure] for line, measure in self._names], axis=1)
        asked = (~np.isnan(table)).any(axis=0)
        self._means = np.full(len(self._names), np.nan)
        self._means[asked] = np.nanmean(table[:, asked], axis=0)
        self._draws = intervals.resampled_means(table, random)

    def figures(
        self, made: Made, count: int, seen: Callable[[str], dict[str, float]]
    ) -> list[MeasuredFigures]:
        lines = dict.fromkeys(line for line, _ in self._names)
        return [self._line(line, made[line, SEEN], count, seen(line)) for line in lines]

    def _line(self, line: str, made: Lists, count: int, seen: dict[str, float]) -> MeasuredFigures:
        means, against = {}, {}
        for name, measure in self._names:
            if name != line:
                continue
            own = self._place[line, measure]
            means[measure] = intervals.percentile_interval(float(self._means[own]), self._draws[:, own])
            reference = self._place.get((SIMILARITY, measure))
            if reference is not None and line != SIMILARITY:
                against[measure] = intervals.percentile_interval(
                    float(self._means[own] - self._means[reference]),
                    self._draws[:, own] - self._draws[:, reference],
                )
        found = measures.exposure_of(made, count)
        return MeasuredFigures(
            name=line,
            means=means,
            against=against,
            seen=seen,
            coverage=found.coverage,
            gini=found.gini,
            hubs=found.hubs,
            largest=found.largest,
            counts=found.counts,
        )
