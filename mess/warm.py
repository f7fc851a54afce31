"""Compiles ahead of time what a worker's processes would compile at their first start.

Numba caches compiled code in NUMBA_CACHE_DIR. A container from an image that was warmed at build time starts at once.
"""

import asyncio
from typing import Final

import numpy as np

from streams.engine import acceleration
from streams.engine.search.process import SearchProcess
from streams.engine.search.types import SearchSettings, SearchStats
from streams.engine.types import Vectors

TRACKS: Final = 2_000
DIMENSION: Final = 32
# The index takes longest: half a minute on a fast core, minutes on a slow one.
PATIENCE_SECONDS: Final = 900.0
# The build of an index has begun by then.
BEGIN_SECONDS: Final = 20.0


class WarmingError(Exception):
    """The compiled code was not exercised, so it may not have been compiled."""


def warm_caches() -> SearchStats:
    """Compile the engine's inner loops, and build, search and replace an index.

    Raises:
        WarmingError: No index was built.
    """
    acceleration.load_kernels()
    return asyncio.run(_warm_search())


async def _warm_search() -> SearchStats:
    generator = np.random.default_rng(0)
    vectors: Vectors = generator.standard_normal((TRACKS, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    search = SearchProcess(DIMENSION, settings=SearchSettings(exact_below=TRACKS // 4))
    await search.start()
    try:
        await search.load(np.arange(TRACKS, dtype=np.int64), [f"track {i}" for i in range(TRACKS)], vectors)
        stats = await _until_indexed(search)
        for count in (10, 50):
            await search.search(vectors[:8], count)
            await search.search(vectors[:1], count)
        return stats
    finally:
        await search.stop()


async def _until_indexed(search: SearchProcess) -> SearchStats:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        stats = await search.stats()
        waited = loop.time() - began
        if stats.index_size or (waited > BEGIN_SECONDS and not stats.building):
            break
        if waited > PATIENCE_SECONDS:
            raise WarmingError(f"no index after {waited:.0f} s")
        await asyncio.sleep(0.2)
    if not stats.index_size:
        raise WarmingError(
            f"the search process builds no index: {stats.last_error or 'it has not begun one'}"
        )
    return stats
