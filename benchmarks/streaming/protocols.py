"""Protocols of streaming nearest-neighbour search, as published, on unit vectors: the order by L2 is that by the cosine.

Sources: the streaming track of NeurIPS'23 Big-ANN (Simhadri et al. 2024; its runbooks and their generators), and CANDY
(Zeng et al. 2024). Data sets that need a download are replaced by clusters of the same shape; seeds are the generators' own
where they have any.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

import numpy as np
import numpy.typing as npt

from streams.engine.types import Vectors

Numbers = npt.NDArray[np.int64]


class StepKind(Enum):
    """What a step of a protocol does."""

    INSERT = "insert"
    DELETE = "delete"
    SEARCH = "search"


@dataclass(frozen=True, slots=True)
class ProtocolStep:
    """A step: `tags` (m,) are what is inserted or deleted, `rows` (m,) the vectors; a tag that is there gets another vector."""

    kind: StepKind
    tags: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    rows: Numbers = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class StreamingProtocol:
    """A protocol on its data.

    Attributes:
        name: As the table has it.
        vectors: float32 (n, d), unit length.
        queries: float32 (q, d), likewise.
        steps: In order.
        rows_a_second: What arrives, whether it can be taken or not; None: as fast as it is taken.
    """

    name: str
    vectors: Vectors
    queries: Vectors
    steps: tuple[ProtocolStep, ...]
    rows_a_second: float | None = None

    @property
    def most_alive(self) -> int:
        """The most tracks that there are at any time."""
        alive, most = set[int](), 0
        for step in self.steps:
            if step.kind is StepKind.INSERT:
                alive.update(step.tags.tolist())
            elif step.kind is StepKind.DELETE:
                alive.difference_update(step.tags.tolist())
            most = max(most, len(alive))
        return most


def _unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def _blobs(count: int, dimension: int, queries: int) -> tuple[Vectors, Vectors]:
    """The generators' random sets: a blob for each query, by scikit-learn, seed 1, a random split."""
    from sklearn.datasets import make_blobs  # type: ignore[import-untyped]  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]  # noqa: PLC0415

    points, _ = make_blobs(n_samples=count + queries, n_features=dimension, centers=queries, random_state=1)
    kept, asked = train_test_split(points, test_size=queries, random_state=1)
    return _unit(kept), _unit(asked)


def _insert(start: int, stop: int) -> ProtocolStep:
    return ProtocolStep(StepKind.INSERT, np.arange(start, stop), np.arange(start, stop))


def _delete(start: int, stop: int) -> ProtocolStep:
    return ProtocolStep(StepKind.DELETE, np.arange(start, stop))


_SEARCH = ProtocolStep(StepKind.SEARCH)


def halves(count: int, dimension: int) -> StreamingProtocol:
    """`simple_runbook`: insert all, delete the first half, insert it again, searching after each."""
    vectors, queries = _blobs(count, dimension, 1_000)
    half = count // 2
    steps = (_insert(0, count), _SEARCH, _delete(0, half), _SEARCH, _insert(0, half), _SEARCH)
    return StreamingProtocol(f"halves, {count:,} x {dimension}", vectors, queries, steps)


def _clusters(count: int, dimension: int, clusters: int) -> tuple[Vectors, npt.NDArray[np.intp], Vectors]:
    """Vectors cluster by cluster, where each cluster begins, and queries."""
    rng = np.random.default_rng(809)
    sizes = rng.multinomial(count, rng.dirichlet(np.full(clusters, 5.0)))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    centres = rng.standard_normal((clusters, dimension))
    of = np.repeat(np.arange(clusters), sizes)
    vectors = _unit(centres[of] + 0.9 * rng.standard_normal((count, dimension)))
    asked = rng.integers(clusters, size=1_000)
    return vectors, offsets, _unit(centres[asked] + 0.9 * rng.standard_normal((1_000, dimension)))


def clustered(count: int, dimension: int, clusters: int = 64, rounds: int = 5) -> StreamingProtocol:
    """`final_runbook`: in each round each cluster gets its share, then loses 50 to 90 % of what it has, oldest first.

    The generator searches after every step; here, after the insertions and after the deletions of each round.
    """
    vectors, offsets, queries = _clusters(count, dimension, clusters)
    rng, dice = np.random.default_rng(1), random.Random(1)
    shares = rng.dirichlet((100, 15, 10, 5, 3), clusters)
    for share in shares:
        rng.shuffle(share)
    steps: list[ProtocolStep] = []
    inserted, deleted = offsets[:-1].copy(), offsets[:-1].copy()
    for turn in range(rounds):
        for cluster in range(clusters):
            delta = int((offsets[cluster + 1] - offsets[cluster]) * shares[cluster, turn])
            steps.append(_insert(inserted[cluster], inserted[cluster] + delta))
            inserted[cluster] += delta
        steps.append(_SEARCH)
        for cluster in range(clusters):
            delta = int(dice.uniform(0.5, 0.9) * (inserted[cluster] - deleted[cluster]))
            steps.append(_delete(deleted[cluster], deleted[cluster] + delta))
            deleted[cluster] += delta
        steps.append(_SEARCH)
    return StreamingProtocol(f"clustered, {count:,} x {dimension}", vectors, queries, tuple(steps))


def expiring(count: int, dimension: int, turns: int = 100) -> StreamingProtocol:
    """`expiration_time_replace_delete`: lifetimes of infinity, 100 and 20 turns by 1, 3 and 15; a part of each batch comes later.

    What comes later replaces the oldest of its batch at half of its lifetime: 10 to 50 % of the tracks get another vector.
    """
    dice = random.Random(809)
    vectors, _, queries = _clusters(count, dimension, 64)
    size = count // turns
    ratios, lifetimes = (0, 4, 18), (0, 100, 20)
    leaving: list[list[ProtocolStep]] = [[] for _ in range(turns)]
    replacing: list[list[ProtocolStep]] = [[] for _ in range(turns)]
    steps: list[ProtocolStep] = []
    for turn in range(turns):
        start = turn * size
        end = start + int(dice.uniform(0.5, 0.9) * size)
        steps.append(_insert(start, end))
        again = ProtocolStep(
            StepKind.INSERT,
            np.arange(start, start + (turn + 1) * size - end),
            np.arange(end, (turn + 1) * size),
        )
        kind = dice.randint(0, ratios[2])
        lifetime = None if kind <= ratios[0] else lifetimes[1] if kind < ratios[1] else lifetimes[2]
        if lifetime is not None and turn + lifetime < turns:
            leaving[turn + lifetime].append(_delete(start, end))
        half = (turns - turn) // 2 if lifetime is None else lifetime // 2
        if turn + half < turns:
            replacing[turn + half].append(again)
        steps += [*leaving[turn], *replacing[turn]]
        if turn % 10 == 9:
            steps.append(_SEARCH)
    return StreamingProtocol(f"expiring, {count:,} x {dimension}", vectors, queries, tuple(steps))


def paced(count: int, dimension: int, rows_a_second: float = 4_000) -> StreamingProtocol:
    """CANDY's: half is loaded, the other half arrives at a fixed rate; what is late is missing from the answers."""
    vectors, _, queries = _clusters(count, dimension, 64)
    order = np.random.default_rng(2).permutation(count)
    part = max(1, count // 20)
    steps = [_insert(0, count // 2), _SEARCH]
    for start in range(count // 2, count, part):
        steps += [_insert(start, min(start + part, count)), _SEARCH]
    name = f"paced at {rows_a_second:,.0f}/s, {count:,} x {dimension}"
    return StreamingProtocol(name, vectors[order], queries, tuple(steps), rows_a_second)


# By name, how it is made: partials, as they are sent to the processes that play them. Those of a published size take the
# eight of them ten minutes to hours, and are asked for by name.
PROTOCOLS: dict[str, Callable[[], StreamingProtocol]] = {
    "random-xs": partial(halves, 10_000, 20),
    "random-range": partial(halves, 100_000, 50),
    "clustered": partial(clustered, 100_000, 100),
    "expiring": partial(expiring, 100_000, 100),
    "candy-128": partial(paced, 100_000, 128),
    "clustered-1m": partial(clustered, 1_000_000, 100),
    "candy-768": partial(paced, 100_000, 768),
}
QUICK_PROTOCOLS: dict[str, Callable[[], StreamingProtocol]] = {
    "halves-quick": partial(halves, 5_000, 20),
    "clustered-quick": partial(clustered, 10_000, 100),
    "expiring-quick": partial(expiring, 10_000, 100),
    "candy-quick": partial(paced, 20_000, 128),
}


def micro_batches(step: ProtocolStep, size: int) -> Iterator[ProtocolStep]:
    """A step in parts of at most `size` rows."""
    for start in range(0, len(step.tags), size):
        part = slice(start, start + size)
        yield ProtocolStep(step.kind, step.tags[part], step.rows[part])
