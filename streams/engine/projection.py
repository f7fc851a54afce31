"""Products in fewer dimensions that give upper bounds of similarity, so that nothing is lost.

Embeddings have far fewer significant principal components than dimensions. With P the p leading principal components of the
catalogue (orthonormal rows) and the residual r(x) = x - P'Px, the similarity of unit vectors is

    x.y = Px.Py + r(x).r(y) <= Px.Py + |r(x)| |r(y)|

(Cauchy-Schwarz). With the residual norm |r(x)| as one more column, a product of p + 1 columns instead of d gives upper bounds.
All tracks that could be among the nearest, or enter a list, pass the bound and are then computed exactly. How many others pass
depends on the catalogue: p is chosen on a sample, and the vectors themselves are used if nothing is gained.
"""

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from streams.engine.catalogue import enlarge_rows
from streams.engine.similarity import product_error
from streams.engine.types import Slots, Vectors

# In smaller catalogues the product costs less than computing principal components.
SMALLEST = 4_096
# The components are computed again when the catalogue is so many times larger.
GROWTH = 2
SAMPLE = 2_048
QUERIES = 256
# Rows that are projected at a time: their float64 copies stay in the processor's cache.
ROWS = 512
# The costs that the choice of p weighs, in seconds: a multiply-add of a product, and one dimension of an exact similarity.
PRODUCT_SECONDS = 2.0 / 80e9
SIMILARITY_SECONDS = 0.5e-9
# The minimum gain, as a share.
GAIN = 1.3
# The components are given up if a row needs more exact similarities than this share of the catalogue.
EXCESS = 1 / 16


def project_vectors(vectors: Vectors, directions: npt.NDArray[np.float64]) -> Vectors:
    """Coordinates in the principal components, and the residual norm, float32 (m, p + 1).

    Args:
        vectors: float32 (m, d).
        directions: float64 (p, d), orthonormal.
    """
    reduced = np.empty((len(vectors), len(directions) + 1), dtype=np.float32)
    for start in range(0, len(vectors), ROWS):
        part = slice(start, start + ROWS)
        wide = vectors[part].astype(np.float64)
        places = wide @ directions.T
        reduced[part, :-1] = places
        # Rounded up, so that it stays a bound.
        rest = np.linalg.norm(wide - places @ directions, axis=1)
        reduced[part, -1] = np.nextafter(rest.astype(np.float32), np.float32(2))
    return reduced


def reduced_error(columns: int) -> np.float32:
    """How far a float32 product of reduced vectors of so many columns may lie below the similarity."""
    # Coordinates are rounded once, from float64: two units. A third covers norms that exceed 1 by rounding.
    return np.float32(product_error(columns) + 3 * 2.0**-24)


class ComponentSearch:
    """Computes the principal components of a catalogue in a thread, and again whenever it has grown enough."""

    def __init__(self) -> None:
        self._looking: Future[npt.NDArray[np.float64]] | None = None
        self._looked_at = 0

    def take(
        self, vectors: Vectors, alive: npt.NDArray[np.bool_], kept: int, *, wait: bool = False
    ) -> npt.NDArray[np.float64] | None:
        """New components, once, as `leading_components` returns them; None if there are none.

        Call it repeatedly: it starts a computation when one is due.

        Args:
            vectors: float32 (slots, d).
            alive: bool (used,), which slots hold a track.
            kept: How many neighbours a list keeps: what is sought.
            wait: Whether to wait for what is being looked for.
        """
        if self._looking is None:
            tracks = int(np.count_nonzero(alive))
            if tracks < max(SMALLEST, GROWTH * self._looked_at):
                return None
            self._looked_at = tracks
            self._looking = _begin_to_look(vectors, np.flatnonzero(alive), kept)
        if not (wait or self._looking.done()):
            return None
        found, self._looking = self._looking.result(), None
        return found


def _begin_to_look(
    vectors: Vectors, slots: npt.NDArray[np.intp], kept: int
) -> Future[npt.NDArray[np.float64]]:
    rng = np.random.default_rng(len(slots))
    sample = vectors[np.sort(rng.choice(slots, min(SAMPLE, len(slots)), replace=False))]
    thread = ThreadPoolExecutor(1, thread_name_prefix="directions")
    looking = thread.submit(leading_components, sample, kept, len(slots))
    thread.shutdown(wait=False)
    return looking


class _Reduced:
    """A catalogue projected on principal components, by slot; at first in slices of time.

    Args:
        vectors: float32 (slots, d).
        directions: float64 (p, d); none make a projection that is empty, and at once complete.
        used: How many slots are to be projected; later ones are when they come.
    """

    def __init__(self, vectors: Vectors, directions: npt.NDArray[np.float64], used: int) -> None:
        self.directions = directions
        count = len(vectors) if len(directions) else 0
        self.reduced: Vectors = np.zeros((count, len(directions) + 1), dtype=np.float32)
        self._left = range(used if count else 0)

    @property
    def complete(self) -> bool:
        """Whether all slots are projected."""
        return not self._left

    def advance(self, vectors: Vectors, seconds: float) -> None:
        """Project slots that have not been, for about so long."""
        until = time.perf_counter() + seconds
        while self._left:
            part, self._left = self._left[:ROWS], self._left[ROWS:]
            self._project(vectors, slice(part.start, part.stop))
            if time.perf_counter() >= until:
                break

    def update(self, vectors: Vectors, slots: Slots) -> None:
        """Take in the vectors of some slots, new or changed."""
        if not self.reduced.size:
            return
        if len(self.reduced) < len(vectors):
            self.reduced = enlarge_rows(self.reduced, len(vectors), 0)
        self._project(vectors, slots)

    def _project(self, vectors: Vectors, slots: Slots | slice) -> None:
        self.reduced[slots] = project_vectors(vectors[slots], self.directions)


class Projection:
    """The projected catalogue, by slot. New components are computed in a thread, while the old ones are used."""

    def __init__(self, dimension: int) -> None:
        none = np.empty((0, 0), dtype=np.float32)
        self._current = _Reduced(none, np.empty((0, dimension)), 0)
        self._next: _Reduced | None = None
        self._search = ComponentSearch()

    @property
    def ready(self) -> bool:
        """Whether there is anything to use."""
        return self._current.reduced.size > 0

    @property
    def renewing(self) -> bool:
        """Whether the catalogue is being projected on new components."""
        return self._next is not None

    @property
    def reduced(self) -> Vectors:
        """Coordinates in the principal components, and the residual norm, float32 (slots, p + 1); size 0 for none."""
        return self._current.reduced

    @property
    def error(self) -> np.float32:
        """How far a float32 product of reduced vectors may lie below the similarity."""
        return reduced_error(self.reduced.shape[1])

    @property
    def directions(self) -> npt.NDArray[np.float64]:
        """The leading principal components, float64 (p, d), orthonormal."""
        return self._current.directions

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        return sum(each.reduced.nbytes + each.directions.nbytes for each in self._all())

    def _all(self) -> list[_Reduced]:
        return [self._current, *([self._next] if self._next else [])]

    def fit(
        self, vectors: Vectors, alive: npt.NDArray[np.bool_], kept: int, seconds: float = math.inf
    ) -> None:
        """Compute components if the catalogue has grown enough since the last time, and project it.

        Args:
            vectors: float32 (slots, d).
            alive: bool (used,), which slots hold a track.
            kept: How many neighbours a list keeps: what is sought.
            seconds: For about how long; what is left is done by further calls.
        """
        directions = self._search.take(vectors, alive, kept, wait=seconds == math.inf)
        if directions is not None:
            self._next = _Reduced(vectors, directions, len(alive))
        if self._next is not None:
            self._next.advance(vectors, seconds)
            if self._next.complete:
                self._current, self._next = self._next, None

    def update(self, vectors: Vectors, slots: Slots) -> None:
        """Take in the vectors of some slots, new or changed."""
        for each in self._all():
            each.update(vectors, slots)

    def judge(self, computed: int, rows: int, used: int) -> None:
        """Give the components up if too many tracks pass the bound: `computed` similarities for so many rows."""
        if self.ready and computed > rows * max(2_048, used * EXCESS):
            self._current = _Reduced(self.reduced[:0], self.directions[:0], 0)


def leading_components(sample: Vectors, kept: int, tracks: int) -> npt.NDArray[np.float64]:
    """The leading principal components that make searches cheapest, float64 (p, d), orthonormal; p is 0 if nothing is gained.

    Args:
        sample: float32 (n, d), some of the catalogue's vectors.
        kept: How many neighbours a list keeps.
        tracks: The catalogue's size.
    """
    # Only the components need float64; the choice of p does not.
    _, found = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    directions = found.T[::-1]
    width = _best_width(sample @ directions.T.astype(np.float32), kept / tracks, tracks)
    return np.ascontiguousarray(directions[:width])


def _best_width(places: Vectors, share: float, tracks: int) -> int:
    """The number of leading components that makes a search cheapest, 0 for none.

    Args:
        places: float32 (n, d), a sample in all its principal components, in descending order.
        share: The share of a catalogue that a list keeps.
        tracks: The catalogue's size.
    """
    dimension = places.shape[1]
    queries = places[:QUERIES]
    others = places[QUERIES:]
    truth = queries @ others.T
    bounds = np.quantile(truth, 1 - max(share, 2 / len(others)), axis=1)[:, None]
    best, width = tracks * dimension * PRODUCT_SECONDS / GAIN, 0
    for p in (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512):
        if p + 1 >= dimension:
            break
        rest = np.linalg.norm(queries[:, p:], axis=1), np.linalg.norm(others[:, p:], axis=1)
        upper = queries[:, :p] @ others[:, :p].T + np.outer(*rest)
        through = float((upper >= bounds).mean() - (truth >= bounds).mean())
        # Twice: for a track's own list and for the lists it enters.
        cost = tracks * ((p + 1) * PRODUCT_SECONDS + 2 * through * dimension * SIMILARITY_SECONDS)
        if cost < best:
            best, width = cost, p
    return width
