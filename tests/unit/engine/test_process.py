"""The engine behind a pipe."""

import os
import signal

import numpy as np
import pytest

from streams.engine.process import EngineCallError, EngineProcess, EngineStoppedError
from streams.engine.types import EVENT, StoredLists
from tests.unit.engine.helpers import KeptLists, batch, oracle
from tests.unit.engine.test_exact import random_catalogue

pytestmark = pytest.mark.unit


async def test_lists_that_run_short_are_refilled_without_being_asked() -> None:
    """After most neighbours were deleted, the engine completes the lists in its idle time."""
    engine = EngineProcess(8, published=5, kept=8)
    await engine.start()
    try:
        catalogue = random_catalogue(400, 8)
        await engine.apply(batch(catalogue, dimension=8))
        gone = list(catalogue)[:300]
        await engine.apply(batch({}, gone, dimension=8))
        follower = KeptLists()
        expected = oracle({name: catalogue[name] for name in list(catalogue)[300:]}, 5)
        for _ in range(200):
            changes = await engine.take_changes()
            follower.take(_ChangedEngine(changes))  # type: ignore[arg-type]
            if follower.lists == expected:
                break
        assert follower.lists == expected
    finally:
        await engine.stop()


class _ChangedEngine:
    """An engine that has just these changes."""

    def __init__(self, changes: object) -> None:
        self.take_changes = lambda: changes


async def test_a_killed_engine_is_reported_at_the_next_call() -> None:
    """When the process is killed, the call under way or the next one raises EngineStoppedError, which says how it ended."""
    engine = EngineProcess(4)
    await engine.start()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineStoppedError, match=r"SIGKILL.*out of memory"):
        await engine.take_changes()
    await engine.stop()


async def test_a_refused_call_leaves_the_engine_serving() -> None:
    """Loading into an engine that already holds tracks is an error, and the engine still answers."""
    engine = EngineProcess(4)
    await engine.start()
    try:
        tracks = batch(random_catalogue(3, 4), dimension=4)
        await engine.apply(tracks)
        nothing = np.empty((0, 0))
        lists = StoredLists(
            keys=np.empty(0, dtype=np.int64),
            neighbours=nothing.astype(np.int64),
            scores=nothing.astype(np.float32),
            lengths=np.empty(0, dtype=np.int64),
            events=np.empty(0, dtype=EVENT),
        )
        with pytest.raises(EngineCallError, match="empty engine"):
            await engine.load(tracks, lists)
        assert (await engine.stats()).tracks == 3
    finally:
        await engine.stop()
