"""Compares stored lists with a brute-force search over the same catalogue, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streams.engine.similarity import (
    GROUPS_PER_ENTRY,
    exact_similarity,
    group_maxima,
    order_candidates,
    product_error,
)
from streams.engine.types import Keys, Scores, StoredLists, Vectors

# Recall is measured over this many places of a list.
DEPTHS = (10, 50)
# A block of the product holds at most this many float32 values (64 MiB), and this many rows.
BLOCK_VALUES = 16 * 1024 * 1024
BLOCK_ROWS = 512
# Sums in another order may round a similarity to the next float32; anything beyond is a difference.
ROUNDING = 1.2e-7

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class AuditFindings:
    """What an audit of some tracks' lists found. Findings of different tracks can be added.

    Attributes:
        tracks: Tracks audited.
        missing: Of these, tracks without a list, though there are others they could be neighbours of.
        short: Lists with fewer entries than the catalogue allows.
        wrong: Lists of full length that name other tracks than they should, or in another order.
        strangers: Entries that name a track which is not in the catalogue.
        differing: Entries whose place is right and whose score is not.
        largest_difference: The largest error of a score.
        hits: For each of `DEPTHS`, how many of the true neighbours the lists name.
        wanted: For each of `DEPTHS`, how many there are.
    """

    tracks: int = 0
    missing: int = 0
    short: int = 0
    wrong: int = 0
    strangers: int = 0
    differing: int = 0
    largest_difference: float = 0.0
    hits: dict[int, int] = field(default_factory=lambda: dict.fromkeys(DEPTHS, 0))
    wanted: dict[int, int] = field(default_factory=lambda: dict.fromkeys(DEPTHS, 0))

    def __add__(self, other: "AuditFindings") -> "AuditFindings":
        return AuditFindings(
            tracks=self.tracks + other.tracks,
            missing=self.missing + other.missing,
            short=self.short + other.short,
            wrong=self.wrong + other.wrong,
            strangers=self.strangers + other.strangers,
            differing=self.differing + other.differing,
            largest_difference=max(self.largest_difference, other.largest_difference),
            hits={depth: self.hits[depth] + other.hits[depth] for depth in DEPTHS},
            wanted={depth: self.wanted[depth] + other.wanted[depth] for depth in DEPTHS},
        )

    def recall(self, depth: int) -> float:
        """Recall@depth over all audited lists, missing ones included; 1.0 where there is nothing to find."""
        return self.hits[depth] / self.wanted[depth] if self.wanted[depth] else 1.0

    @property
    def right(self) -> int:
        """Lists that name exactly the right tracks in the right order."""
        return self.tracks - self.missing - self.short - self.wrong


class Auditor:
    """Computes lists by brute force and compares stored ones with them.

    Args:
        keys: int64 (n,), the catalogue's tracks.
        track_ids: Their ids: ties in similarity are broken by them.
        vectors: float32 (n, d), unit length.
        size: How many neighbours a full list holds.
    """

    def __init__(self, keys: Keys, track_ids: Sequence[str], vectors: Vectors, size: int = 50) -> None:
        self.keys = keys
        self.size = min(size, len(keys) - 1)
        self._vectors = vectors
        # Python's own order of strings, which is the engine's; numpy's string types drop trailing zeros.
        in_order = sorted(range(len(track_ids)), key=track_ids.__getitem__)
        self._rank = np.empty(len(track_ids), dtype=np.int64)
        self._rank[in_order] = np.arange(len(track_ids))
        self._error = product_error(vectors.shape[1])
        self._by_key = np.argsort(keys)

    @property
    def block_rows(self) -> int:
        """How many rows to hand to `check` at once so that the memory stays bounded."""
        return max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(len(self.keys), 1)))

    def nearest(self, rows: Rows) -> tuple[Rows, Scores]:
        """The true lists of some tracks.

        Args:
            rows: intp (m,), rows of the catalogue.

        Returns:
            The rows of their neighbours, intp (m, size), and the similarities, float32 (m, size).
        """
        found = np.empty((len(rows), max(self.size, 0)), dtype=np.intp)
        scores = np.empty(found.shape, dtype=np.float32)
        if not found.size:
            return found, scores
        product = self._vectors[rows] @ self._vectors.T
        product[np.arange(len(rows)), rows] = -np.inf
        highest = group_maxima(product, GROUPS_PER_ENTRY * self.size)
        place = highest.shape[1] - self.size
        bounds = np.partition(highest, place, axis=1)[:, place] - 2 * self._error
        for i, row in enumerate(rows.tolist()):
            candidates = np.flatnonzero(product[i] >= bounds[i])
            exact = exact_similarity(self._vectors[row], self._vectors[candidates])
            best = order_candidates(exact, self._rank[candidates])[: self.size]
            found[i], scores[i] = candidates[best], exact[best]
        return found, scores

    def check(self, rows: Rows, stored: StoredLists) -> AuditFindings:
        """Compare the stored lists of some tracks with the true ones.

        Args:
            rows: intp (m,), rows of the catalogue; at most `block_rows` keep the memory bounded.
            stored: Lists of these tracks in any order; where one is not among them, it is missing.
        """
        found, scores = self.nearest(rows)
        has, neighbours, given, lengths = self._aligned(rows, stored)
        true = self.keys[found]
        used = np.arange(self.size)[None, :] < lengths[:, None]
        right_place = used & (neighbours == true)
        full = has & (lengths >= self.size)
        differences = np.abs(given.astype(np.float64) - scores)[right_place]
        # (m, size, size): which true neighbour is which stored one.
        same = (true[:, :, None] == neighbours[:, None, :]) & used[:, None, :]
        depths = {depth: min(depth, self.size) for depth in DEPTHS}
        return AuditFindings(
            tracks=len(rows),
            missing=int((~has).sum()) if self.size > 0 else 0,
            short=int((has & ~full).sum()),
            wrong=int((full & ~right_place.all(axis=1)).sum()),
            strangers=int((used & ~self._known(neighbours)).sum()),
            differing=int((differences > ROUNDING).sum()),
            largest_difference=float(differences.max(initial=0.0)),
            hits={depth: int(same[:, :top, :top].any(axis=2).sum()) for depth, top in depths.items()},
            wanted={depth: top * len(rows) for depth, top in depths.items()},
        )

    def _aligned(
        self, rows: Rows, stored: StoredLists
    ) -> tuple[npt.NDArray[np.bool_], Keys, Scores, npt.NDArray[np.int64]]:
        """The stored lists in the order of `rows`, cut or padded to `size`; and which are there at all."""
        neighbours = np.zeros((len(rows), self.size), dtype=np.int64)
        scores = np.zeros((len(rows), self.size), dtype=np.float32)
        lengths = np.zeros(len(rows), dtype=np.int64)
        in_order = np.argsort(stored.keys)
        place = np.searchsorted(stored.keys, self.keys[rows], sorter=in_order)
        has = place < len(stored.keys)
        which = in_order[place[has]]
        has[has] = stored.keys[which] == self.keys[rows][has]
        which = in_order[place[has]]
        width = min(self.size, stored.neighbours.shape[1])
        neighbours[has, :width] = stored.neighbours[which, :width]
        scores[has, :width] = stored.scores[which, :width]
        lengths[has] = np.minimum(stored.lengths[which], self.size)
        return has, neighbours, scores, lengths

    def _known(self, keys: Keys) -> npt.NDArray[np.bool_]:
        place = np.searchsorted(self.keys, keys, sorter=self._by_key)
        place = np.minimum(place, len(self.keys) - 1)
        known: npt.NDArray[np.bool_] = self.keys[self._by_key[place]] == keys
        return known

    def check_all(self, rows: Rows, stored: StoredLists) -> AuditFindings:
        """`check` of any number of tracks, block by block."""
        found = AuditFindings()
        for start in range(0, len(rows), self.block_rows):
            found += self.check(rows[start : start + self.block_rows], stored)
        return found
