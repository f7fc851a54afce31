"""An index that is exact and built at once: the twin of `IndexBuild`, with its seam and its order of events.

Its cells are real ones, and a query looks into as many as it must to be exact.
"""

import numpy as np

from streams.engine.search.columns import NarrowColumns
from streams.engine.search.growing import GrowingRows
from streams.engine.search.index_build import BuildFailedError, BuildReport, BuiltIndex
from streams.engine.search.inverted_file import divide_into_cells
from streams.engine.search.quality import SearchQuality
from streams.engine.types import Slots

# So much less similar than anything may be to anything else: every cell is looked into.
EVERYWHERE = 3.0


class ExactBuild:
    """Ended, well or badly, when `finish` is called. `latest` is the one started last.

    `directions` says how many of its columns products are made with.
    """

    latest: "ExactBuild"
    directions = 0

    def __init__(self, catalogue: GrowingRows, rows: Slots, recall: float) -> None:
        ExactBuild.latest = self
        self._given = catalogue.vectors, rows
        self._fails = False
        self.ended = False

    def finish(self, *, fails: bool) -> None:
        """Have the build end."""
        self._fails, self.ended = fails, True

    def built(self) -> BuiltIndex:
        if self._fails:
            raise BuildFailedError("made to fail")
        vectors, rows = self._given
        mine = vectors[rows]
        directions = np.eye(vectors.shape[1])[: self.directions] if self.directions else None
        reduced = NarrowColumns(GrowingRows.copy_of(mine), directions).of(mine)
        cells, order = divide_into_cells(reduced, np.random.default_rng(len(rows)))
        moved = GrowingRows.copy_of(mine[order])
        columns = NarrowColumns(
            moved if directions is None else GrowingRows.copy_of(reduced[order]), directions
        )
        report = BuildReport(cells, EVERYWHERE, SearchQuality(1.0, 1.0, -1.0), directions, {})
        return BuiltIndex(report, rows[order], moved, columns)

    def stop(self) -> None:
        """There is nothing to end."""
