"""What the worker's settings ask of its engine."""

import asyncio
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from streams.engine.approximate import MANY
from streams.engine.types import StoredLists, no_events
from streams.maintenance.start import engine_process
from streams.settings import StreamSettings
from tests.unit.engine.helpers import KeptLists, batch, oracle
from tests.unit.engine.test_descent import put_in_place
from tests.unit.engine.test_exact import random_catalogue
from tests.unit.engine.test_process import _ChangedEngine

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("exact_upto", "cells"), [("100", True), ("200", False)])
async def test_the_threshold_decides_whether_newcomers_are_looked_for_in_cells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exact_upto: str, cells: bool
) -> None:
    """Above MESS_EXACT_UPTO the engine makes cells, at it not; the lists are the same in the end."""
    monkeypatch.setenv("MESS_EXACT_UPTO", exact_upto)
    settings = StreamSettings(list_size=5, list_kept=8, data_dir=tmp_path)
    engine, catalogue, follower = engine_process(settings, 8), random_catalogue(200, 8), KeptLists()
    await engine.start()
    try:
        tracks = list(catalogue.items())
        await engine.apply(batch(dict(tracks[:100]), dimension=8))
        while not (await engine.stats()).compiled:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.05)
        await engine.apply(batch(dict(tracks[100:]), dimension=8, first=100))
        while (await engine.stats()).unverified:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
        follower.take(_ChangedEngine(await engine.take_changes()))  # type: ignore[arg-type]
        assert follower.lists == oracle(catalogue, 5)
        assert ("cells" in (await engine.stats()).seconds) == cells
    finally:
        await engine.stop()


async def test_first_lists_come_from_pynndescent_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With MESS_BOOTSTRAP=pynndescent the engine takes the library's graph, and completes it."""
    put_in_place(monkeypatch, tmp_path)
    monkeypatch.setenv("MESS_BOOTSTRAP", "pynndescent")
    settings = StreamSettings(list_size=5, list_kept=8, data_dir=tmp_path)
    engine, catalogue, follower = engine_process(settings, 8), random_catalogue(MANY, 8), KeptLists()
    none = np.empty(0, dtype=np.int64)
    nothing = StoredLists(none, none.reshape(0, 0), np.empty((0, 0), dtype=np.float32), none, no_events())
    await engine.start()
    try:
        await engine.load(batch(catalogue, dimension=8), nothing)
        while (stats := await engine.stats()).waiting_refills or stats.unverified:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.05)
        assert stats.descent_failure == ""
        assert stats.seconds["descent"] > 0
        follower.take(_ChangedEngine(await engine.take_changes()))  # type: ignore[arg-type]
        assert follower.lists == oracle(catalogue, 5)
    finally:
        await engine.stop()


@pytest.mark.parametrize(
    ("text", "kept"), [("0", timedelta()), ("90s", timedelta(seconds=90)), ("7d", timedelta(days=7))]
)
def test_lists_are_kept_for_a_span(text: str, kept: timedelta) -> None:
    """As people write it; 0 is none at all."""
    assert StreamSettings(list_history=text).list_history_kept == kept


@pytest.mark.parametrize("text", ["", "7", "1w", "-1d", "for ever"])
def test_a_span_that_is_none_is_refused(text: str) -> None:
    """The message says which there are."""
    with pytest.raises(ValidationError, match="must be 0 or a span such as 90s, 30m, 12h, 7d"):
        StreamSettings(list_history=text)
