"""What is told of an index that fails."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from streams.engine.search import SearchSettings
from streams.engine.search.searcher import Searcher
from streams.engine.search.types import SearchStats
from streams.maintenance import searching
from streams.maintenance.searching import SearchSupervisor
from streams.metrics import WorkerMetrics
from tests.unit.engine.helpers import batch
from tests.unit.engine.test_exact import random_catalogue
from tests.unit.search.twin import ExactBuild

pytestmark = pytest.mark.unit

D = 8


class _Here:
    """A search in this process, in place of one in a process of its own."""

    def __init__(self, searcher: Searcher) -> None:
        self.pid = 1
        self._searcher = searcher
        self.looked = asyncio.Event()

    async def stats(self) -> SearchStats:
        self.looked.set()
        return self._searcher.stats()


async def test_a_build_that_fails_is_counted_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each failure is a warning with its reason; what is as before is told of no more."""
    monkeypatch.setattr(searching, "OBSERVE_SECONDS", 0.001)
    searcher = Searcher(D, SearchSettings(exact_below=10, retry=0.0, rest=0.0), ExactBuild)
    searcher.apply(batch(random_catalogue(50, D, seed=1), dimension=D))
    metrics, process = WorkerMetrics(), _Here(searcher)
    supervisor = SearchSupervisor(process, lambda _: None, metrics)  # type: ignore[arg-type]
    observing = asyncio.create_task(supervisor.observe())

    async def looked() -> float:
        for _ in range(3):
            process.looked.clear()
            await process.looked.wait()
        return float(metrics.search_failures._value.get())

    with capture_logs() as logs:
        searcher.supervisor.tend()
        assert await looked() == 0
        ExactBuild.latest.finish(fails=True)
        searcher.supervisor.tend()
        assert await looked() == 1
        searcher.supervisor.tend()
        ExactBuild.latest.finish(fails=True)
        searcher.supervisor.tend()
        assert await looked() == 2
        searcher.supervisor.tend()
        ExactBuild.latest.finish(fails=False)
        searcher.supervisor.tend()
        assert searcher.stats().index_size == 50
        assert await looked() == 2
    observing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await observing
    told = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["reason"] for entry in told] == ["made to fail"] * 2
