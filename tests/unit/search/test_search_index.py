"""The search process with a real index, which it builds while it answers."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from streams.engine.search import SearchMatches, SearchProcess, SearchSettings
from streams.engine.types import TrackBatch, Vectors
from tests.support.polling import until
from tests.unit.engine.helpers import batch

pytestmark = pytest.mark.unit

D, TRACKS = 96, 6_000
SETTINGS = SearchSettings(exact_below=1_000, rest=0.0, retry=0.1)


def clustered(count: int, seed: int) -> Vectors:
    """Unit vectors as embeddings are: clusters along few directions, with noise."""
    world = np.random.default_rng(7)
    centres, up = world.standard_normal((60, 24)), world.standard_normal((24, D))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, 60, count)] + 0.7 * rng.standard_normal((count, 24))
    made = points @ up + 0.3 * rng.standard_normal((count, D))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def tracks(vectors: Vectors, prefix: str) -> TrackBatch:
    """A batch of inserts."""
    return batch({f"{prefix}{i:05d}": vector for i, vector in enumerate(vectors)}, dimension=D)


@pytest.fixture
async def search() -> AsyncIterator[SearchProcess]:
    """A search process that has a catalogue, and may have an index."""
    process = SearchProcess(D, settings=SETTINGS)
    await process.start()
    catalogue = tracks(clustered(TRACKS, 1), "t")
    await process.load(catalogue.keys, catalogue.track_ids, catalogue.vectors)
    yield process
    await process.stop()


async def has_index(search: SearchProcess) -> bool:
    """Whether there is an index; fails if one could not be built."""
    stats = await search.stats()
    assert stats.last_error is None
    return bool(stats.index_size)


async def truth(search: SearchProcess, queries: Vectors, alive: np.ndarray, count: int) -> SearchMatches:
    """The exact answer: a scan of all tracks, named as a subset."""
    return await search.search(queries, count, among=alive)


def recall(found: SearchMatches, true: SearchMatches) -> float:
    """The share of the true ones found."""
    pairs = zip(found.keys.tolist(), true.keys.tolist(), strict=True)
    return sum(len(set(f) & set(t)) for f, t in pairs) / true.keys.size


async def test_an_index_has_the_recall_wanted_and_what_is_newer_is_found(search: SearchProcess) -> None:
    """Exact before the index is there; then recall@50 of 0.99, of a catalogue that has changed since."""
    catalogue = tracks(clustered(TRACKS, 1), "t")
    first = await search.search(catalogue.vectors[:1], 50)
    assert first.exact
    assert first.keys[0, 0] == catalogue.keys[0]
    await until(lambda: has_index(search))

    newer = tracks(clustered(200, 2), "n")
    moved = TrackBatch(
        catalogue.keys[:100],
        catalogue.track_ids[:100],
        clustered(100, 3),
        newer.events[:100],
        *2 * [newer.keys[:0]],
    )
    gone = catalogue.keys[100:250]
    await search.apply(newer)
    await search.apply(moved)
    await search.apply(
        TrackBatch(gone[:0], [], newer.vectors[:0], newer.events[:0], gone, newer.events[:150])
    )
    alive = np.setdiff1d(np.concatenate([catalogue.keys, newer.keys]), gone)

    near = clustered(200, 4)
    mixed = near + 0.8 * np.roll(near, 1, axis=0)
    mixed = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    for queries in (near, mixed, newer.vectors, moved.vectors):
        found, true = await search.search(queries, 50), await truth(search, queries, alive, 50)
        assert recall(found, true) >= 0.99
        assert not np.isin(found.keys, gone).any()
    own = await search.search(newer.vectors, 1)
    assert own.keys[:, 0].tolist() == newer.keys.tolist()
    own = await search.search(moved.vectors, 1)
    assert own.keys[:, 0].tolist() == moved.keys.tolist()
    stats = await search.stats()
    assert stats.approximate_queries > 400
    assert stats.recall is not None
    assert stats.recall >= 0.99
    assert (stats.newer, stats.tombstones) == (300, 250)


async def test_a_rebuild_takes_in_what_is_newer_and_answers_stay_right(search: SearchProcess) -> None:
    """While an index is rebuilt every answer has what was applied before; afterwards nothing is newer than the index."""
    await until(lambda: has_index(search))
    newer = tracks(clustered(900, 5), "n")
    await search.apply(newer)

    async def rebuilt() -> bool:
        own = await search.search(newer.vectors[:3], 1)
        assert own.keys[:, 0].tolist() == newer.keys[:3].tolist()
        return (await search.stats()).builds == 2

    await until(rebuilt)
    stats = await search.stats()
    assert (stats.index_size, stats.newer, stats.tombstones) == (TRACKS + 900, 0, 0)
