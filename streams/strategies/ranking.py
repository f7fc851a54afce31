"""Rankings: a strategy's order, given one candidate at a time, so that caps and near-duplicates can refuse some."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from streams.strategies.arrays import cosines
from streams.strategies.types import Floats, Indices, Mask, Vectors

# Number of outdated scores that are updated together.
_BLOCK = 64
# In a pool up to this size all scores are updated at once: that is faster than to find the outdated ones.
_AT_ONCE = 512


class Ranking(Protocol):
    """The order of a pool of n candidates, which are sorted by label.

    `best` and `take` alternate: the candidate from `best` is either refused (closed in the next mask) or taken. Closed
    candidates never open again. A ranking may depend on the taken candidates, as MMR does, but not on refused ones.
    """

    notes: tuple[str, ...]

    def best(self, available: Mask) -> int | None:
        """The best of the available candidates, bool (n,); the first of equals. None if none is left."""

    def take(self, index: int) -> None:
        """Record that it was listed."""

    def score(self, index: int) -> float:
        """Its current score; for the last answer of `best`, the score that it was ranked by."""

    def components(self, index: int) -> dict[str, float]:
        """The components of its current score."""


class FixedRanking:
    """An order that does not depend on the taken candidates.

    Args:
        scores: float64 (n,).
        parts: Components by name, each (n,).
        order: intp (n,); by default by score, highest first, then by position.
        notes: What the caller should know.
    """

    def __init__(
        self,
        scores: Floats,
        parts: Mapping[str, Floats] | None = None,
        order: Indices | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self._scores = scores
        self._parts = parts or {}
        self._order = (np.argsort(-scores, kind="stable") if order is None else order).tolist()
        self._next = 0

    def best(self, available: Mask) -> int | None:
        """See `Ranking.best`."""
        while self._next < len(self._order):
            index: int = self._order[self._next]
            if available[index]:
                return index
            self._next += 1
        return None

    def take(self, index: int) -> None:
        """See `Ranking.take`."""

    def score(self, index: int) -> float:
        """See `Ranking.score`."""
        return float(self._scores[index])

    def components(self, index: int) -> dict[str, float]:
        """See `Ranking.components`."""
        return {name: float(values[index]) for name, values in self._parts.items()}


class GreedyMarginal:
    """Maximal marginal relevance: a taken candidate lowers the scores of similar ones.

    score(i) = weight * relevance(i) - (1 - weight) * max over taken j of cosine(i, j); the maximum over nothing is 0.
    J. Carbonell and J. Goldstein, "The use of MMR, diversity-based reranking for reordering documents and
    producing summaries", SIGIR 1998.

    A score can only fall as more is taken, so an outdated one is an upper bound, and of a large pool only candidates
    whose bound reaches the top are compared again (lazy greedy: M. Minoux, 1978). The picks are those of the plain
    algorithm.

    Args:
        relevance: float64 (n,).
        vectors: float32 (n, d), unit length.
        weight: The lambda of MMR, 0 to 1.
        parts: Further components by name, each (n,).
        notes: What the caller should know.
    """

    def __init__(
        self,
        relevance: Floats,
        vectors: Vectors,
        weight: float,
        parts: Mapping[str, Floats] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self._parts = parts or {}
        self._vectors = vectors
        self._wide = vectors.astype(np.float64) if len(vectors) <= _AT_ONCE else None
        self._weight = weight
        self._gain = weight * relevance
        self._nearest = np.zeros(len(relevance))  # cosine to the most similar of those taken that were seen
        self._seen = np.zeros(len(relevance), dtype=np.intp)  # how many of those taken it was compared with
        self._taken: list[int] = []

    def best(self, available: Mask) -> int | None:
        """See `Ranking.best`."""
        if not available.any():
            return None
        scores = np.where(available, self._gain - (1 - self._weight) * self._nearest, -np.inf)
        while True:
            top = int(scores.argmax())
            if self._weight == 1 or self._seen[top] == len(self._taken):
                return top
            outdated = np.flatnonzero(available & (self._seen < len(self._taken)))
            if len(outdated) > _BLOCK:
                outdated = outdated[np.argpartition(-scores[outdated], _BLOCK - 1)[:_BLOCK]]
            self._compare(outdated)
            scores[outdated] = self._gain[outdated] - (1 - self._weight) * self._nearest[outdated]

    def take(self, index: int) -> None:
        """See `Ranking.take`."""
        self._taken.append(index)
        if self._wide is not None:
            nearest = (self._wide @ self._wide[index]).astype(np.float32)  # as `cosines` has it
        elif len(self._taken) == 1:
            nearest = cosines(self._vectors, self._vectors[[index]])[:, 0]
        else:
            return
        # From the first on every score is a bound: the first maximum is over one track, not over none.
        first = len(self._taken) == 1
        self._nearest = nearest.astype(np.float64) if first else np.maximum(self._nearest, nearest)
        self._seen[:] = len(self._taken)

    def _compare(self, indices: Indices) -> None:
        taken = self._taken[int(self._seen[indices].min()) :]
        nearest = cosines(self._vectors[indices], self._vectors[taken]).max(axis=1)
        self._nearest[indices] = np.maximum(self._nearest[indices], nearest)
        self._seen[indices] = len(self._taken)

    def score(self, index: int) -> float:
        """See `Ranking.score`."""
        return float(self._gain[index] - (1 - self._weight) * self._nearest[index])

    def components(self, index: int) -> dict[str, float]:
        """See `Ranking.components`; with the cosine to the nearest listed track, and what it cost."""
        nearest = float(self._nearest[index])
        own = {"nearest_listed": nearest, "mmr_penalty": (1 - self._weight) * nearest}
        parts = {name: float(values[index]) for name, values in self._parts.items()}
        return {**parts, **own} if self._taken else {**parts, "mmr_penalty": 0.0}
