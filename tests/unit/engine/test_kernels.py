"""The compiled inner loops, each held against what it says in plain Python."""

from typing import NamedTuple

import numpy as np
import pytest

from streams.engine import departing, kernels
from streams.engine.types import EntryLimits, TrackArrays

pytestmark = pytest.mark.unit

EMPTY, NOTHING = -1, np.float32(-np.inf)
KEPT, GROUPS = 5, 32
ERROR = np.float32(0.01)

Entry = tuple[int, np.float32]


class Catalogue(NamedTuple):
    """Tracks with many ties: few different vectors, some of them dead."""

    tracks: TrackArrays
    similarity: np.ndarray
    horizon: np.ndarray

    @classmethod
    def random(cls, seed: int, size: int) -> "Catalogue":
        """One of so many tracks."""
        random = np.random.default_rng(seed)
        few = random.standard_normal((max(size // 3, 1), 6))
        vectors = few[random.integers(0, len(few), size)]
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        wide = vectors.astype(np.float64)
        # Pair by pair, as the kernels sum: a product of matrices may round a tie apart.
        similarity = (wide[:, None] * wide[None]).sum(axis=2).astype(np.float32)
        alive, labels = random.random(size) < 0.8, random.permutation(size).astype(np.int64)
        horizon = random.choice(np.array([-np.inf, -0.3, 0.4, 0.9, np.inf], np.float32), size)
        return cls(TrackArrays(vectors, alive, labels), similarity, horizon)

    def limits(self, among: np.ndarray) -> EntryLimits:
        """What an engine with these horizons asks of products with some tracks."""
        return EntryLimits((self.horizon - ERROR)[among], self.horizon, ERROR)

    def product(self, seed: int, rows: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Products that lie below the similarities by up to the error."""
        below = np.random.default_rng(seed).random((len(rows), len(among)), dtype=np.float32)
        return (self.similarity[np.ix_(rows, among)] - ERROR * below).astype(np.float32)

    def nearest(self, slot: int, others: set[int]) -> list[Entry]:
        """A track's list of some others: by similarity, then by label."""
        found = [(other, self.similarity[slot, other]) for other in others if other != slot]
        return sorted(found, key=lambda one: (-one[1], self.tracks.labels[one[0]]))[:KEPT]

    def entered(self, rows: np.ndarray, among: np.ndarray) -> dict[tuple[int, int], np.float32]:
        """Which row may enter whose list."""
        return {
            (i, j): self.similarity[slot, j]
            for i, slot in enumerate(rows.tolist())
            for j in among.tolist()
            if j != slot and self.tracks.alive[j] and self.similarity[slot, j] >= self.horizon[j]
        }


def no_lists(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists with nothing in them."""
    return np.full((count, KEPT), EMPTY, np.int32), np.full((count, KEPT), NOTHING, np.float32)


def entries_of(slots: np.ndarray, scores: np.ndarray) -> list[Entry]:
    """A row without what is empty, which stands at its end."""
    length = int((slots != EMPTY).sum())
    assert (slots[length:] == EMPTY).all()
    assert (scores[length:] == NOTHING).all()
    return list(zip(slots[:length].tolist(), scores[:length], strict=True))


def as_entered(found: tuple[np.ndarray, np.ndarray, np.ndarray, int]) -> dict[tuple[int, int], np.float32]:
    """What a search found, each pair once."""
    rows, targets, scores, _ = found
    pairs = list(zip(rows.tolist(), targets.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    return dict(zip(pairs, scores, strict=True))


@pytest.mark.parametrize("size", [1, 4, 40, 63, 64, 200, 500])
def test_a_search_finds_the_lists_and_whom_its_tracks_enter(size: int) -> None:
    """From products that are a little too low: for widths below, at and beyond a block, and for those who want no list."""
    catalogue = Catalogue.random(size, size)
    random, everyone = np.random.default_rng(1), np.arange(size, dtype=np.int32)
    alive = set(np.flatnonzero(catalogue.tracks.alive).tolist())
    rows = np.flatnonzero(catalogue.tracks.alive)[: max(size // 4, 1)].astype(np.int32)
    wanted = random.random(len(rows)) < 0.7
    best, scores = no_lists(len(rows))
    found = kernels.search(
        catalogue.product(2, rows, everyone),
        rows,
        wanted,
        catalogue.tracks,
        catalogue.limits(everyone),
        best,
        scores,
        GROUPS,
    )
    assert as_entered(found) == catalogue.entered(rows, everyone)
    for i, slot in enumerate(rows.tolist()):
        expected = catalogue.nearest(slot, alive) if wanted[i] else []
        assert entries_of(best[i], scores[i]) == expected, slot


@pytest.mark.parametrize("held", [0, 2, KEPT])
def test_a_search_among_some_betters_the_lists_that_are_there(held: int) -> None:
    """What was held stays unless it is better now; nobody is in a list twice."""
    size = 150
    catalogue, random = Catalogue.random(7, size), np.random.default_rng(3)
    alive = np.flatnonzero(catalogue.tracks.alive)
    rows = alive[:30].astype(np.int32)
    among = np.sort(random.permutation(size)[:90]).astype(np.int32)
    best, scores = no_lists(len(rows))
    known = [set(random.permutation(alive)[:held].tolist()) for _ in rows]
    for i, slot in enumerate(rows.tolist()):
        for at, (other, score) in enumerate(catalogue.nearest(slot, known[i])):
            best[i, at], scores[i, at] = other, score
    product = catalogue.product(4, rows, among)
    limits = catalogue.limits(among)
    found = kernels.search_among(product, rows, among, catalogue.tracks, limits, best, scores, GROUPS)
    assert as_entered(found) == catalogue.entered(rows, among)
    seen = set(among.tolist()) & set(alive.tolist())
    for i, slot in enumerate(rows.tolist()):
        assert entries_of(best[i], scores[i]) == catalogue.nearest(slot, seen | known[i]), slot


def test_a_search_near_looks_at_its_cells_the_list_and_the_lists_of_those() -> None:
    """And at nothing else: one hop leads from the nearest found to the lists that these have."""
    size = 120
    catalogue = Catalogue.random(11, size)
    random = np.random.default_rng(5)
    alive = np.flatnonzero(catalogue.tracks.alive)
    cells = [alive[at::4].astype(np.int32) for at in range(4)]
    members = np.full((4, max(map(len, cells))), EMPTY, np.int32)
    for at, cell in enumerate(cells):
        members[at, : len(cell)] = cell
    counts = np.array([len(cell) for cell in cells], np.int32)
    lists, _ = no_lists(size)
    for slot in alive.tolist():
        others = random.permutation(alive[alive != slot])[: random.integers(0, KEPT + 1)]
        lists[slot, : len(others)] = others
    rows, probes, hops = alive[:25].astype(np.int32), random.integers(0, 4, (25, 2)).astype(np.int32), 2
    best, scores = no_lists(len(rows))
    everyone = np.arange(size, dtype=np.int32)
    vectors = catalogue.tracks.vectors
    found = kernels.search_near(
        rows,
        probes,
        members,
        counts,
        vectors,
        catalogue.tracks,
        everyone,
        lists,
        EntryLimits(catalogue.horizon - ERROR, catalogue.horizon, ERROR),
        best,
        scores,
        hops,
    )
    entered = as_entered(found)
    for i, slot in enumerate(rows.tolist()):
        looked = {int(j) for j in lists[slot] if j >= 0}
        looked |= {int(j) for cell in probes[i] for j in cells[cell]}
        nearest = catalogue.nearest(slot, looked)
        for other, _ in nearest[:hops]:
            looked |= {int(j) for j in lists[other] if j >= 0}
        assert entries_of(best[i], scores[i]) == catalogue.nearest(slot, looked), slot
        mine = {j: score for (row, j), score in entered.items() if row == i}
        expected = catalogue.entered(rows[i : i + 1], np.array(sorted(looked)))
        assert mine == {j: score for (_, j), score in expected.items()}


def test_newcomers_are_merged_in_order_and_the_horizon_rises_with_what_is_pushed_out() -> None:
    """Ties go to the smaller label; who is there already changes nothing; the published part is told of."""
    random, size = np.random.default_rng(9), 40
    labels = random.permutation(size).astype(np.int64)
    scores_of = random.choice(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (3, size))
    slots, scores = no_lists(3)
    lengths, horizon = np.zeros(3, np.int16), np.full(3, NOTHING, np.float32)
    at_last, list_of = np.zeros(3, np.bool_), np.arange(3, dtype=np.int32)
    held: list[list[Entry]] = [[], [], []]
    for _ in range(12):
        count = 8
        targets, newcomers = random.integers(0, 3, count), random.integers(0, size, count)
        entries = scores_of[targets, newcomers]
        before = [{one for one, _ in row[:2]} for row in held]
        for target, slot, score in zip(targets.tolist(), newcomers.tolist(), entries, strict=True):
            if slot not in dict(held[target]):
                held[target].append((slot, score))
                held[target].sort(key=lambda one: (-one[1], labels[one[0]]))
                if len(held[target]) > KEPT:
                    horizon_was = held[target].pop()[1]
                    assert horizon_was <= held[target][-1][1]
        entered = kernels.merge(
            targets.astype(np.int32), newcomers.astype(np.int32), entries, list_of, slots, scores, lengths,
            horizon, at_last, labels, 2,
        )  # fmt: skip
        assert [entries_of(slots[row], scores[row]) for row in range(3)] == held
        now = [{one for one, _ in row[:2]} for row in held]
        told = {
            (t, s) for t, s, told in zip(targets.tolist(), newcomers.tolist(), entered, strict=True) if told
        }
        assert told == {(t, s) for t in range(3) for s in now[t] - before[t]}
    assert lengths.tolist() == [len(row) for row in held] == [KEPT] * 3
    assert horizon.tolist() == [row[-1][1] for row in held]
    assert at_last.all()


def test_who_leaves_is_taken_out_of_every_list_and_what_is_behind_moves_up() -> None:
    """Of several that leave one list the latest event counts; lists that name none of them are left alone."""
    slots, scores = no_lists(4)
    slots[0], slots[1, :3], slots[2, :1] = [1, 2, 3, 0, 5], [4, 5, 6], [7]
    for row in range(3):
        length = int((slots[row] != EMPTY).sum())
        scores[row, :length] = np.linspace(0.9, 0.5, length)
    lengths, list_of = np.array([5, 3, 1, 0], np.int16), np.arange(4, dtype=np.int32)
    which = np.full(8, -1, np.int32)
    which[[3, 2, 6]] = [4, 9, 1]
    lists, latest, told, last = departing.remove(which, list_of, slots, scores, lengths, 4, 2)
    assert (lists.tolist(), latest.tolist(), told.tolist(), last.tolist()) == (
        [0, 1],
        [9, 1],
        [True, False],
        [5, 6],
    )
    assert [[slot for slot, _ in entries_of(slots[row], scores[row])] for row in range(4)] == [
        [1, 0, 5],
        [4, 5],
        [7],
        [],
    ]
    np.testing.assert_allclose(scores[0, :3], [0.9, 0.6, 0.5])
