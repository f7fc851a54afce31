"""The matrix of products: the vectors themselves, or fewer dimensions that give upper bounds of similarity.

Fewer dimensions lose nothing (`streams.engine.projection`): whatever passes the bound is computed exactly.
"""

import numpy as np
import numpy.typing as npt

from streams.engine.projection import project_vectors, reduced_error
from streams.engine.search.growing import GrowingRows
from streams.engine.similarity import product_error
from streams.engine.types import Vectors

# Number of neighbours that the number of dimensions is chosen for.
WANTED = 50
SAMPLE = 1024


class NarrowColumns:
    """Rows for products: `error` says how far a product may lie below the similarity, or off it for whole vectors.

    Args:
        rows: The vectors; or, with `directions`, what `project_vectors` makes of them.
        directions: float64 (p, d), orthonormal; None for the vectors themselves.
    """

    def __init__(self, rows: GrowingRows, directions: npt.NDArray[np.float64] | None = None) -> None:
        self.rows = rows
        self.directions = directions
        width = rows.vectors.shape[1]
        # The residual norm of any row will do: norms hardly differ, and only the number of exact similarities depends on it.
        self._rest = float(np.mean(rows.vectors[:SAMPLE, -1])) if directions is not None else 0.0
        self.error = product_error(width) if directions is None else reduced_error(width)

    @property
    def matrix(self) -> Vectors:
        """float32 (capacity, c)."""
        return self.rows.vectors

    @property
    def memory_bytes(self) -> int:
        """Bytes held beside the vectors, as far as there is room for rows."""
        return 0 if self.directions is None else self.matrix.nbytes + self.directions.nbytes

    def of(self, vectors: Vectors) -> Vectors:
        """Some vectors, float32 (m, d), in these columns, float32 (m, c)."""
        return vectors if self.directions is None else project_vectors(vectors, self.directions)

    def excess(self, reduced: Vectors) -> float:
        """About how far the products of a query in these columns, float32 (c,), lie above its similarities."""
        return float(reduced[-1]) * self._rest if self.directions is not None else 0.0

    def put(self, rows: npt.NDArray[np.integer], vectors: Vectors) -> None:
        """Take in the vectors, float32 (m, d), of some rows."""
        if self.directions is not None:
            self.rows.reserve(int(rows.max(initial=-1)) + 1)
            self.rows.vectors[rows] = self.of(vectors)

    def close(self) -> None:
        """Give up what is held beside the vectors."""
        if self.directions is not None:
            self.rows.close()


def project_first(vectors: GrowingRows, count: int, directions: npt.NDArray[np.float64]) -> NarrowColumns:
    """The first `count` vectors in these directions, float64 (p, d); the vectors themselves where there are none."""
    if not len(directions):
        return NarrowColumns(vectors)
    return NarrowColumns(
        GrowingRows.copy_of(project_vectors(vectors.vectors[:count], directions)), directions
    )
