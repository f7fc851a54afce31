"""Labels that lists are held against, and what must be hidden from a strategy meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mess.evaluate.works import FIELDS, Works
from streams.strategies import facts

Codes = npt.NDArray[np.int64]

# A label and the fields that say it, the first that the catalogue knows counting.
LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "collection": ("extra.collection", "album"),
    "form": ("form",),
    "composer": ("composer",),
}
# A fact that tells so much of a label's entropy is hidden with it.
TELLS_TOO_MUCH: Final = 0.2


@dataclass(frozen=True, eq=False, slots=True)
class Label:
    """A way of saying which tracks belong together.

    Attributes:
        name: Collection, form or composer.
        codes: int64 (n,), the label of each track as a number, -1 where unknown.
        hidden: The fields that strategies may not see while it is scored.
        chance: Of tracks drawn at random for a labelled one, the expected share with its label.
    """

    name: str
    codes: Codes
    hidden: frozenset[str]
    chance: float

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which tracks can be asked: those whose label another track has too; bool (n,)."""
        return count_relevant(self.codes) > 0


def count_relevant(codes: Codes) -> npt.NDArray[np.int64]:
    """How many other tracks have each track's label; 0 where it is unknown."""
    held = codes >= 0
    counts = np.bincount(codes[held], minlength=1)
    return np.where(held, counts[np.maximum(codes, 0)] - 1, 0)


def labels_of_catalogue(works: Works) -> list[Label]:
    """The labels that tell tracks of this catalogue apart: those with two values or more."""
    coded = {name: _codes(works, name) for name in FIELDS}
    made = []
    for name, fields in LABELS.items():
        field = next((field for field in fields if (coded[field] >= 0).any()), None)
        if field is None or coded[field].max() < 1:
            continue
        codes = coded[field]
        telling = {
            other for other in FIELDS if uncertainty_coefficient(codes, coded[other]) >= TELLS_TOO_MUCH
        }
        others = count_relevant(codes)
        asked = others > 0
        chance = float((others[asked] / (len(codes) - 1)).mean()) if asked.any() else 0.0
        made.append(Label(name, codes, frozenset({*fields, *telling}), chance))
    return made


def _codes(works: Works, field: str) -> Codes:
    column = works.columns.get(field)
    found = facts.field_codes(field, None if column is None else column.tolist())
    return np.full(len(works), -1, dtype=np.int64) if found is None else found[1]


def uncertainty_coefficient(label: Codes, fact: Codes) -> float:
    """Theil's U(label | fact): the share of the label's entropy that knowing the fact takes away, 0 to 1.

    Over the tracks whose label is known; not knowing the fact is a value of its own.
    H. Theil, "On the estimation of relationships involving qualitative variables", American Journal of Sociology
    76(1), 1970.
    """
    held = label >= 0
    one, other = label[held], fact[held] + 1
    whole = _entropy(one)
    if whole == 0:
        return 0.0
    pairs = one * (int(other.max(initial=0)) + 1) + other
    return (whole + _entropy(other) - _entropy(pairs)) / whole


def _entropy(codes: Codes) -> float:
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
