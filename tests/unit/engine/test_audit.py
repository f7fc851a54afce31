"""The audit against the oracle, and against lists that are wrong in every way there is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.audit import Auditor
from streams.engine.similarity import brute_force
from streams.engine.types import EVENT, StoredLists
from tests.unit.engine.helpers import key_of, unit

pytestmark = pytest.mark.unit

SIZE = 50


def made(count: int, dimension: int = 24) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Keys, ids and vectors; every fifth vector is a copy of the one before, so that there are ties."""
    rng = np.random.default_rng(count)
    vectors = np.array([unit(row) for row in rng.standard_normal((count, dimension))])
    vectors[4::5] = vectors[3::5][: len(vectors[4::5])]
    names = [f"{i:05d}" for i in rng.permutation(count)]
    return np.array([key_of(name) for name in names], dtype=np.int64), names, vectors


def true_lists(keys: np.ndarray, names: list[str], vectors: np.ndarray, size: int = SIZE) -> StoredLists:
    """What a store without fault holds."""
    ids, scores = brute_force(vectors, names, size)
    return StoredLists(
        keys=keys,
        neighbours=np.array([[key_of(name) for name in row] for row in ids], dtype=np.int64),
        scores=np.array(scores, dtype=np.float32),
        lengths=np.array([len(row) for row in ids]),
        events=np.zeros(len(keys), dtype=EVENT),
    )


def rows(auditor: Auditor) -> np.ndarray:
    """All of them."""
    return np.arange(len(auditor.keys))


@pytest.mark.parametrize("count", [2, 30, 51, 52, 700])
def test_true_lists_are_found_right(count: int) -> None:
    """The lists of the oracle pass with recall 1.0, in catalogues smaller and larger than a list."""
    keys, names, vectors = made(count)
    auditor = Auditor(keys, names, vectors)
    stored = true_lists(keys, names, vectors)
    shuffled = np.random.default_rng(0).permutation(count)
    stored = StoredLists(*(getattr(stored, name)[shuffled] for name in StoredLists.__slots__))
    found = auditor.check_all(rows(auditor), stored)
    assert (found.tracks, found.right) == (count, count)
    assert (found.recall(10), found.recall(50)) == (1.0, 1.0)
    assert (found.strangers, found.differing) == (0, 0)


@given(
    st.lists(st.tuples(*[st.integers(-2, 2)] * 3).filter(any).map(unit), min_size=2, max_size=40),
    st.integers(1, 12),
)
def test_nearest_equals_the_oracle_where_ties_are_common(vectors: list[np.ndarray], size: int) -> None:
    """With few directions, so that most similarities are equal, the lists are those of the oracle to the bit."""
    names = [f"t{i:02d}" for i in range(len(vectors))][::-1]
    auditor = Auditor(np.arange(len(names)), names, np.array(vectors), size)
    found, scores = auditor.nearest(np.arange(len(names)))
    ids, expected = brute_force(np.array(vectors), names, size)
    assert [[names[i] for i in row] for row in found.tolist()] == ids
    assert np.array_equal(scores, np.array(expected))


def test_each_fault_is_counted() -> None:
    """One missing, one short, two wrong lists, a stranger and a wrong score are told apart, and cost recall."""
    keys, names, vectors = made(400)
    stored = true_lists(keys, names, vectors)
    auditor = Auditor(keys, names, vectors)
    lengths = stored.lengths.copy()
    lengths[1] = 49
    stored.neighbours[2, [0, 40]] = stored.neighbours[2, [40, 0]]
    stored.neighbours[3, 9] = -12345
    stored.scores[4, 7] += np.float32(0.25)
    stored = replace(stored, lengths=lengths)
    faulty = StoredLists(*(getattr(stored, name)[1:] for name in StoredLists.__slots__))
    found = auditor.check_all(rows(auditor), faulty)
    assert (found.missing, found.short, found.wrong, found.right) == (1, 1, 2, 396)
    assert (found.strangers, found.differing) == (1, 1)
    assert found.largest_difference == pytest.approx(0.25)
    assert found.recall(50) == pytest.approx(1 - (50 + 1 + 1) / (400 * 50))
    assert found.recall(10) == pytest.approx(1 - (10 + 1 + 1) / (400 * 10))


def test_an_entry_named_twice_counts_once() -> None:
    """A list that repeats its first neighbour in every place has recall 1/50."""
    keys, names, vectors = made(200)
    stored = true_lists(keys, names, vectors)
    stored.neighbours[:] = stored.neighbours[:, :1]
    auditor = Auditor(keys, names, vectors)
    found = auditor.check_all(rows(auditor), stored)
    assert found.recall(50) == pytest.approx(1 / 50)
    assert found.wrong == 200


def test_no_lists_at_all() -> None:
    """Nothing stored is recall 0, and a catalogue of one track is complete without a list."""
    keys, names, vectors = made(60)
    nothing = StoredLists(
        np.empty(0, np.int64),
        np.empty((0, 0), np.int64),
        np.empty((0, 0), np.float32),
        np.empty(0, np.int64),
        np.empty(0, EVENT),
    )
    auditor = Auditor(keys, names, vectors)
    found = auditor.check_all(rows(auditor), nothing)
    assert (found.missing, found.recall(50)) == (60, 0.0)
    alone = Auditor(keys[:1], names[:1], vectors[:1])
    found = alone.check_all(rows(alone), nothing)
    assert (found.missing, found.short, found.wrong, found.recall(50)) == (0, 0, 0, 1.0)


def test_blocks_bound_the_memory() -> None:
    """However large the catalogue, a block's product stays within its budget, and adding blocks loses nothing."""
    keys, names, vectors = made(1200)
    auditor = Auditor(keys, names, vectors)
    assert auditor.block_rows == 512
    stored = true_lists(keys, names, vectors)
    whole = auditor.check(rows(auditor), stored)
    assert auditor.check_all(rows(auditor), stored) == whole
