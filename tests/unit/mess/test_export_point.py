"""At which moment of the store an export is made, over snapshots that the test sets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mess.export import point
from mess.export.names import ExportKind
from mess.export.point import ExportPoint, PointNotReachedError, export_snapshot
from store.progress import StoreProgress

pytestmark = pytest.mark.unit

POOL: Any = None
SETTLED = StoreProgress({0: 10, 1: 5}, {0: {0: 10, 1: 5}, 1: {0: 10, 1: 5}})
BEHIND = StoreProgress({0: 10, 1: 5}, {0: {0: 10, 1: 5}, 1: {0: 8, 1: 5}})


class Moments:
    """Snapshots one after the other; the last one stays."""

    def __init__(self, *progress: StoreProgress) -> None:
        self.progress = list(progress)
        self.looks = 0

    @asynccontextmanager
    async def snapshot(self, _: object) -> AsyncIterator[StoreProgress]:
        self.looks += 1
        yield self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]

    async def read(self, connection: StoreProgress) -> StoreProgress:
        return connection

    async def offsets(self, connection: StoreProgress) -> dict[int, int]:
        return connection.consumed

    async def ready(self, _: object) -> None:
        pass


async def exported(
    monkeypatch: pytest.MonkeyPatch, moments: Moments, kind: ExportKind = ExportKind.LISTS, **options: Any
) -> ExportPoint:
    """The point of an export of these moments."""
    monkeypatch.setattr(point, "require_schema", moments.ready)
    monkeypatch.setattr(point, "snapshot", moments.snapshot)
    monkeypatch.setattr(point.progress, "fetch_progress", moments.read)
    monkeypatch.setattr(point.interactions, "interaction_offsets", moments.offsets)
    async with export_snapshot(POOL, kind, **{"at": {}, "wait": 0.0, **options}) as (_, found):
        return found


async def test_lists_are_taken_when_they_have_absorbed_what_is_consumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Moments before are let go."""
    moments = Moments(BEHIND, BEHIND, SETTLED)
    assert await exported(monkeypatch, moments, wait=30.0) == ExportPoint({0: 10, 1: 5}, {})
    assert moments.looks == 3


async def test_lists_that_never_settle_are_refused_or_taken_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says why; `unsettled` gives them with how far each partition's have come."""
    with pytest.raises(PointNotReachedError, match="events keep coming in after 0 s"):
        await exported(monkeypatch, Moments(BEHIND))
    found = await exported(monkeypatch, Moments(BEHIND), unsettled=True)
    assert found == ExportPoint(BEHIND.consumed, BEHIND.absorbed)


@pytest.mark.parametrize("kind", [ExportKind.TRACKS, ExportKind.POPULARITY])
async def test_tracks_and_popularity_do_not_wait_for_lists(
    monkeypatch: pytest.MonkeyPatch, kind: ExportKind
) -> None:
    """They are whole at every moment."""
    assert await exported(monkeypatch, Moments(BEHIND), kind) == ExportPoint({0: 10, 1: 5}, {})


async def test_an_event_that_was_asked_for_must_be_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offset itself, not only what is before it; the error has what the store has."""
    assert (await exported(monkeypatch, Moments(SETTLED), at={0: 9})).offsets[0] == 10
    with pytest.raises(PointNotReachedError, match="event 0:10 is not in the store: it has 0:9, 1:4"):
        await exported(monkeypatch, Moments(SETTLED), at={0: 10})
    with pytest.raises(PointNotReachedError, match="event 7:0 is not in the store"):
        await exported(monkeypatch, Moments(SETTLED), ExportKind.POPULARITY, at={7: 0})


async def test_unsettled_lists_must_have_the_event_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of every partition; the error names the ones that are late."""
    found = await exported(monkeypatch, Moments(BEHIND), at={0: 7}, unsettled=True)
    assert found.absorbed == BEHIND.absorbed
    with pytest.raises(PointNotReachedError, match=r"event 0:8 is not in the lists of partitions \[1\] yet"):
        await exported(monkeypatch, Moments(BEHIND), at={0: 8}, unsettled=True)
