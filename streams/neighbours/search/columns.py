"""What products select by: the vectors themselves, or few columns that bound their similarity from above.

Nothing is lost by fewer columns (`streams.neighbours.projection`): what they let through is computed exactly.
"""

from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from streams.neighbours.projection import (
    GROWTH,
    SMALLEST,
    Projection,
    begin_to_look,
    reduce,
    reduced_error,
)
from streams.neighbours.search.shared import SharedRows, holding
from streams.neighbours.similarity import product_error
from streams.neighbours.types import Vectors

# Neighbours that fewer columns are chosen to find.
WANTED = 50
SAMPLE = 1024


class Columns:
    """Rows to make products with: `error` says how far these may lie below the similarity, or, if whole, off it.

    Args:
        rows: The vectors; or, with `directions`, what `reduce` makes of them.
        directions: float64 (p, d), orthonormal; None for the vectors themselves.
    """

    def __init__(self, rows: SharedRows, directions: npt.NDArray[np.float64] | None = None) -> None:
        self.shared = rows
        self.directions = directions
        width = rows.vectors.shape[1]
        # Of any of the rows: what they leave over hardly differs, and nothing depends on it but how much is looked at twice.
        self._rest = float(np.mean(rows.vectors[:SAMPLE, -1])) if directions is not None else 0.0
        self.error = product_error(width) if directions is None else reduced_error(width)

    @property
    def matrix(self) -> Vectors:
        """float32 (capacity, c)."""
        return self.shared.vectors

    @property
    def memory_bytes(self) -> int:
        """Bytes held beside the vectors, as far as there is room for rows."""
        return 0 if self.directions is None else self.matrix.nbytes + self.directions.nbytes

    def of(self, vectors: Vectors) -> Vectors:
        """Some vectors, float32 (m, d), in these columns, float32 (m, c)."""
        return vectors if self.directions is None else reduce(vectors, self.directions)

    def excess(self, reduced: Vectors) -> float:
        """About how far the products of a query in these columns, float32 (c,), lie above its similarities."""
        return float(reduced[-1]) * self._rest if self.directions is not None else 0.0

    def put(self, rows: npt.NDArray[np.integer], vectors: Vectors) -> None:
        """Take in the vectors, float32 (m, d), of some rows."""
        if self.directions is not None:
            self.shared.reserve(int(rows.max(initial=-1)) + 1)
            self.shared.vectors[rows] = self.of(vectors)

    def close(self) -> None:
        """Give up what is held beside the vectors."""
        if self.directions is not None:
            self.shared.close()


class Narrowing:
    """Fewer columns for a catalogue without an index: its directions are looked for in a thread."""

    def __init__(self) -> None:
        self._looking: Future[npt.NDArray[np.float64]] | None = None
        self._looked_at = 0

    def of(self, vectors: SharedRows, rows: npt.NDArray[np.integer], used: int) -> Columns | None:
        """Columns for the vectors, once they are found; None as long as there is nothing new. To be called again and again.

        Args:
            vectors: Of the catalogue.
            rows: Which of them are those of tracks.
            used: How many rows have ever been used.
        """
        if self._looking is None:
            if len(rows) >= max(SMALLEST, GROWTH * self._looked_at):
                self._looked_at = len(rows)
                self._looking = begin_to_look(vectors.vectors, rows, WANTED)
            return None
        if not self._looking.done():
            return None
        directions = self._looking.result()
        self._looking = None
        if not len(directions):
            return Columns(vectors)
        return Columns(holding(reduce(vectors.vectors[:used], directions)), directions)

    def forget(self) -> None:
        """There is an index, or it has gone: what is found by now is of other rows."""
        self._looking = None
        self._looked_at = 0


def choose(vectors: SharedRows, count: int) -> Columns:
    """Fewer columns where a sample of the first `count` vectors says that they are cheaper, else the vectors."""
    rows = vectors.vectors[:count]
    projection = Projection(rows.shape[1])
    projection.fit(rows, np.ones(count, dtype=np.bool_), WANTED)
    if not projection.ready:
        return Columns(vectors)
    return Columns(holding(projection.reduced), projection.directions)
