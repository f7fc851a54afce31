"""Upper bounds of similarity from products, before exact similarities are computed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.engine.types import Scores

Rows = npt.NDArray[np.integer]
# From places in a row of products to rows of the catalogue.
RowsOf = Callable[[npt.NDArray[np.intp]], Rows]


@dataclass(frozen=True, slots=True)
class UpperBounds:
    """Upper bounds, but for rounding, of a query's similarity to some rows.

    Attributes:
        products: float32 (m,); -inf for what is to be left out.
        rows_of: Gives the row of each place.
        excess: About how far they lie above the similarities.
    """

    products: Scores
    rows_of: RowsOf
    excess: float

    def joined(self, other: "UpperBounds") -> "UpperBounds":
        """The bounds of these rows and then of others."""
        mine = len(self.products)

        def rows_of(places: npt.NDArray[np.intp]) -> Rows:
            split = int(np.searchsorted(places, mine))  # places are ascending
            return np.concatenate([self.rows_of(places[:split]), other.rows_of(places[split:] - mine)])

        return UpperBounds(np.concatenate([self.products, other.products]), rows_of, self.excess)
