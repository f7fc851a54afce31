"""What is true at each search of a protocol: by brute force over who is there."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.streaming.contestants import LISTED, Numbers
from benchmarks.streaming.protocols import ProtocolStep, StepKind
from streams.engine.types import Vectors

AUDITED = 2_000
# Scores that differ by less are a tie: who of them is in the list is open.
TIE = 1e-6
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """What is there at a moment: tags (n,), and the row of each one's vector (n,)."""

    tags: Numbers
    rows: Numbers


class CatalogueReplay:
    """Replays a protocol's changes, and keeps nothing but who is there with which vector."""

    def __init__(self, tags: int) -> None:
        self._row_of = np.full(tags, -1, np.int64)

    def apply(self, step: ProtocolStep) -> None:
        """Take a step in."""
        if step.kind is StepKind.INSERT:
            self._row_of[step.tags] = step.rows
        elif step.kind is StepKind.DELETE:
            self._row_of[step.tags] = -1

    def state(self) -> CatalogueState:
        """Who is there now."""
        tags = np.flatnonzero(self._row_of >= 0)
        return CatalogueState(tags, self._row_of[tags])


def lowest_listed(
    asked: Vectors, state: CatalogueState, vectors: Vectors, but: Numbers | None = None
) -> npt.NDArray[np.float64]:
    """The similarity of the last of the ten nearest to each vector, (q,); `but` (q,) are tags that do not count."""
    there = vectors[state.rows]
    last = np.empty(len(asked), np.float64)
    for start in range(0, len(asked), _BLOCK):
        scores = asked[start : start + _BLOCK] @ there.T
        if but is not None:
            scores[np.arange(len(scores)), np.searchsorted(state.tags, but[start : start + _BLOCK])] = -2
        last[start : start + _BLOCK] = -np.partition(-scores, LISTED - 1, axis=1)[:, LISTED - 1]
    return last


def hits(
    found: Numbers, asked: Vectors, last: npt.NDArray[np.float64], state: CatalogueState, vectors: Vectors
) -> npt.NDArray[np.int64]:
    """How many of the ten found for each vector belong to its ten nearest, (q,)."""
    place = np.searchsorted(state.tags, found)
    place[place == len(state.tags)] = 0
    known = state.tags[place] == found
    scores = np.einsum("qd,qkd->qk", asked, vectors[state.rows[place]])
    once = np.zeros(found.shape, np.bool_)
    for at, row in enumerate(found):
        once[at, np.unique(row, return_index=True)[1]] = True
    counted: npt.NDArray[np.int64] = (known & once & (scores >= last[:, None] - TIE)).sum(axis=1)
    return counted
