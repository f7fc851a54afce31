"""The process that builds an index gives way to other work, and does not outlive who asked for it."""

import os

import numpy as np
import psutil
import pytest

from streams.engine.search.growing import GrowingRows
from streams.engine.search.index_build import IndexBuild, step_back
from tests.support.polling import until

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("niceness", "then"), [(0, 10), (15, 15)])
def test_a_build_has_the_lower_of_two_priorities(
    niceness: int, then: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten where the process had more; where it has given way further, as under `nice`, that stays: a rise takes a right."""
    now = niceness

    def nice(more: int) -> int:
        nonlocal now
        now += more
        return now

    monkeypatch.setattr(os, "nice", nice)
    step_back()
    assert now == then


async def test_a_build_ends_with_who_asked_for_it() -> None:
    """When the other end of its pipe is closed, as by kill -9, the process that builds ends."""
    vectors = np.random.default_rng(0).standard_normal((200_000, 32)).astype(np.float32)
    build = IndexBuild(GrowingRows.copy_of(vectors), np.arange(200_000, dtype=np.int32), 0.99)
    process = psutil.Process(build._process.pid)
    build._connection.close()

    async def gone() -> bool:
        return process.status() == psutil.STATUS_ZOMBIE

    await until(gone)
    build._process.join()
