"""Search behind its pipe."""

import os
import signal

import numpy as np
import pytest

from streams.engine.search import SearchCallError, SearchProcess, SearchStoppedError
from tests.unit.engine.helpers import batch, key_of, unit

pytestmark = pytest.mark.unit


async def test_a_loaded_catalogue_is_searched_and_kept_up_to_date() -> None:
    """What was loaded in chunks and changed since is found, exactly; a refused call changes nothing."""
    rng = np.random.default_rng(1)
    catalogue = {f"t{i:03d}": unit(rng.standard_normal(8)) for i in range(100)}
    tracks = batch(catalogue, dimension=8)
    search = SearchProcess(8)
    await search.start()
    try:
        for part in (slice(0, 60), slice(60, 100)):
            await search.load(tracks.keys[part], tracks.track_ids[part], tracks.vectors[part])
        query = catalogue["t042"]
        found = await search.search(query[None], 3)
        assert found.keys[0, 0] == key_of("t042")
        assert found.exact
        await search.apply(batch({"new": query}, ["t042"], dimension=8))
        with pytest.raises(SearchCallError, match="zero or not finite"):
            await search.search(np.zeros((1, 8), dtype=np.float32), 3)
        assert (await search.search(query[None], 3)).keys[0, 0] == key_of("new")
        assert (await search.stats()).tracks == 100
    finally:
        await search.stop()


async def test_a_killed_search_process_is_reported_at_the_next_call() -> None:
    """When the process is killed, the call under way or the next one raises SearchStoppedError."""
    search = SearchProcess(4)
    await search.start()
    assert search.pid is not None
    os.kill(search.pid, signal.SIGKILL)
    with pytest.raises(SearchStoppedError):
        await search.stats()
    await search.stop()
