"""Lists of many seeds by many strategies, made in processes that share the vectors through a file."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mess.evaluate.listening import SimulatedListening
from mess.evaluate.measures import Lists
from mess.evaluate.plan import LENGTH, PlanEntry
from mess.evaluate.works import Works
from streams.engine.audit import Auditor
from streams.strategies import Candidates, Seed, candidates_wanted, fields_needed, select_list
from streams.strategies.types import Floats

# Lists made with all metadata in sight; any other variant is the name of the label that was held out.
SEEN: Final = "seen"
# Of a variant that a task did not make for a seed, the places are empty.
NOTHING: Final = -1
_SEEDS_A_TASK = 128
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, eq=False, slots=True)
class ListJob:
    """What lists are made from.

    Attributes:
        works: The catalogue.
        listening: What is known of popularity; None: nothing.
        entries: The strategies.
        hidden: Label to the fields that may not be seen while it is scored.
        asked: Label to which tracks it is scored on, bool (n,).
    """

    works: Works
    listening: SimulatedListening | None
    entries: Sequence[PlanEntry]
    hidden: Mapping[str, frozenset[str]] = field(default_factory=dict)
    asked: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def variants(self, entry: PlanEntry) -> tuple[str, ...]:
        """The ways in which an entry makes its lists."""
        return (SEEN, *self.hidden) if entry.reads_facts else (SEEN,)

    def wants(self, variant: str, seed: int) -> bool:
        """Whether this list is to be made."""
        return variant == SEEN or bool(self.asked[variant][seed])


Made = dict[tuple[str, str], Lists]


class ListMaker:
    """Makes the lists of a job, some seeds at a time: the engine's exact search, then each strategy."""

    def __init__(self, job: ListJob) -> None:
        self._job = job
        count = len(job.works)
        wanted = {entry.name: candidates_wanted(entry.query(Seed(-1))) for entry in job.entries}
        self._wanted = {name: min(many, count - 1) for name, many in wanted.items()}
        depth = max(self._wanted.values(), default=0)
        self._search = Auditor(np.arange(count), job.works.track_ids, job.works.vectors, depth)

    def make(self, seeds: npt.NDArray[np.int64]) -> Made:
        """(entry, variant) to the lists of these seeds, int64 (m, 10), -1 in empty places."""
        keys = [(entry.name, variant) for entry in self._job.entries for variant in self._job.variants(entry)]
        made = {key: np.full((len(seeds), LENGTH), NOTHING, dtype=np.int64) for key in keys}
        for start in range(0, len(seeds), self._search.block_rows):
            block = seeds[start : start + self._search.block_rows]
            nearest, scores = self._search.nearest(block)
            for place, seed in enumerate(block.tolist()):
                for entry in self._job.entries:
                    count = self._wanted[entry.name]
                    near = nearest[place, :count], scores[place, :count]
                    for variant in self._job.variants(entry):
                        if self._job.wants(variant, seed):
                            listed = self._select(entry, variant, seed, *near)
                            made[entry.name, variant][start + place, : len(listed)] = listed
        return made

    def _select(
        self,
        entry: PlanEntry,
        variant: str,
        seed: int,
        nearest: npt.NDArray[np.intp],
        scores: npt.NDArray[np.float32],
    ) -> list[int]:
        works, listening = self._job.works, self._job.listening
        hidden = self._job.hidden.get(variant, frozenset())
        start = Seed(seed, vector=works.vectors[seed])
        query = entry.query(start)
        facts = [name for name in fields_needed(query) & works.columns.keys() if name not in hidden]
        known = {name: works.columns[name] for name in facts} if entry.reads_facts else {}
        start = replace(start, metadata={name: column[seed] for name, column in known.items()})
        candidates = Candidates(
            keys=nearest.astype(np.int64),
            labels=nearest.astype(np.int64),
            similarity=scores,
            vectors=works.vectors[nearest] if entry.reads_vectors else None,
            metadata={name: column[nearest] for name, column in known.items()},
            percentile=None if listening is None else listening.percentile[nearest],
            probability=None if listening is None else listening.probability[nearest],
            heard=None if listening is None else listening.heard[nearest],
            density=None if works.density is None else works.density[nearest],
        )
        return select_list(candidates, replace(query, seeds=(start,))).keys


_maker: ListMaker | None = None


def _start(job: ListJob, vectors: Path) -> None:
    """Set a process up: the vectors are mapped, not copied, so that they are in memory once."""
    global _maker  # noqa: PLW0603 - a pool's processes are set up once and have no other place to keep it
    shared = np.load(vectors, mmap_mode="r")
    _maker = ListMaker(replace(job, works=replace(job.works, vectors=shared)))


def _run(seeds: npt.NDArray[np.int64]) -> Made:
    assert _maker is not None
    return _maker.make(seeds)


def make_lists(
    job: ListJob,
    seeds: npt.NDArray[np.int64],
    *,
    processes: int = 1,
    show: Callable[[int], None] = lambda count: None,
) -> Made:
    """The lists of all seeds, in the order of the seeds, whatever the number of processes.

    Args:
        job: What they are made from.
        seeds: int64 (m,), row numbers.
        processes: How many to work in; 1 is this one.
        show: Told how many more seeds are done.
    """
    if not job.entries or not len(seeds):
        return {}
    tasks = [seeds[start : start + _SEEDS_A_TASK] for start in range(0, len(seeds), _SEEDS_A_TASK)]
    parts: dict[int, Made] = {}
    for number, made in _results(job, tasks, processes):
        parts[number] = made
        show(len(tasks[number]))
    return {key: np.concatenate([parts[number][key] for number in range(len(tasks))]) for key in parts[0]}


def _results(
    job: ListJob, tasks: Sequence[npt.NDArray[np.int64]], processes: int
) -> Iterator[tuple[int, Made]]:
    if processes == 1 or len(tasks) == 1:
        maker = ListMaker(job)
        yield from ((number, maker.make(task)) for number, task in enumerate(tasks))
        return
    with tempfile.TemporaryDirectory(prefix="mess-evaluate-") as directory, _one_thread_each():
        path = Path(directory) / "vectors.npy"
        np.save(path, job.works.vectors)
        light = replace(job, works=replace(job.works, vectors=np.empty((0, 0), dtype=np.float32), lists=None))
        with ProcessPoolExecutor(
            min(processes, len(tasks)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(light, path),
        ) as pool:
            numbers = {pool.submit(_run, task): number for number, task in enumerate(tasks)}
            for done in as_completed(numbers):
                yield numbers[done], done.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start meanwhile multiply matrices in one thread: together they fill the machine already."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def list_densities(works: Works, nearest: int) -> Floats:
    """Mean cosine of every track to its nearest, by brute force: float64 (n,)."""
    search = Auditor(np.arange(len(works)), works.track_ids, works.vectors, nearest)
    found = np.zeros(len(works))
    for start in range(0, len(works), search.block_rows):
        rows = np.arange(start, min(start + search.block_rows, len(works)))
        if search.size > 0:
            found[rows] = search.nearest(rows)[1].mean(axis=1, dtype=np.float64)
    return found
