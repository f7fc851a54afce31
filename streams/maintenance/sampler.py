"""Measures recall in production: compares random stored lists with true ones, all the time.

The engine recomputes a few lists a second, which are compared with the store. A list that differs while its change is pending is
late; one that differs without a pending change is wrong. Only partitions that this worker has claimed and caught up with are
sampled, as an engine that has just been restored is behind the store.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import asyncpg
import numpy as np
import numpy.typing as npt
import structlog

from store import lists
from store.errors import StoreUnavailableError
from store.pool import transaction
from store.rows import ListRows
from streams.contracts import times
from streams.engine.audit import DEPTHS
from streams.engine.types import TrueLists
from streams.maintenance.maintainer import ListMaintainer
from streams.maintenance.ownership import Ownership
from streams.maintenance.recent_mean import RecentMean
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Recall and churn are means over the samples of so many seconds: what a fill left behind is soon forgotten.
WINDOW_SECONDS = 60.0
# Lists that wait to be read again, at most.
_SEEN = 5_000
# A sampled list is read again after so long, to measure churn.
CHURN_SECONDS = 60.0
INTERVAL = 1.0


@dataclass(slots=True)
class _Seen:
    """A list, as it was in the store."""

    key: int
    neighbours: npt.NDArray[np.int64]
    due: float


@dataclass(slots=True)
class _Stored:
    """Lists read from the store, by key."""

    rows: ListRows
    row_of: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.row_of = {key: row for row, key in enumerate(self.rows.keys.tolist())}

    def neighbours(self, key: int) -> npt.NDArray[np.int64] | None:
        """The keys of a list's tracks, int64 (k,), or None if there is no such list."""
        row = self.row_of.get(key)
        return None if row is None else self.rows.neighbours[row, : int(self.rows.lengths[row])]


class ListSampler:
    """Samples lists for ever.

    Args:
        pool: The store.
        maintainer: Has the engine.
        ownership: The partitions whose lists this worker writes.
        metrics: Gets the findings.
        lists_per_second: How many lists; 0 samples none.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        maintainer: ListMaintainer,
        ownership: Ownership,
        metrics: WorkerMetrics,
        lists_per_second: float,
    ) -> None:
        self._pool = pool
        self._maintainer = maintainer
        self._ownership = ownership
        self._metrics = metrics
        self._count = max(1, round(lists_per_second * INTERVAL))
        self._pause = self._count / lists_per_second if lists_per_second > 0 else None
        self._recall = {depth: RecentMean(WINDOW_SECONDS) for depth in DEPTHS}
        self._churn = {depth: RecentMean(WINDOW_SECONDS) for depth in DEPTHS}
        for gauge, means in ((metrics.sampled_recall, self._recall), (metrics.sampled_churn, self._churn)):
            for depth, recent in means.items():
                # Computed as it is read: nothing is sampled during a claim, and values grow old all the same.
                gauge.labels(depth).set_function(recent.mean)
        self._seen: deque[_Seen] = deque(maxlen=_SEEN)

    async def run(self) -> None:
        """Sample for ever; while the store is away, nothing is sampled."""
        while self._pause is not None:
            await asyncio.sleep(self._pause)
            try:
                await self.look()
            except StoreUnavailableError as error:
                log.info("lists are not sampled for a moment", error=str(error))

    async def look(self) -> None:
        """Sample once; nothing during a change of partitions."""
        # With the turn, the engine is in the middle of no claim.
        async with self._maintainer.turn:
            before = self._standing()
            if before is None:
                return
            true = await self._maintainer.engine.sample(self._count)
        again = list(self._due())
        keys = np.concatenate([true.keys, np.array([seen.key for seen in again], dtype=np.int64)])
        if not len(keys):
            return
        async with transaction(self._pool) as connection:
            stored = _Stored(await lists.read_lists_of(connection, np.unique(keys)))
        # What a flush carried meanwhile, or another owner wrote, may or may not have been read.
        settled = before[0] is not None and before == self._standing()
        for i in range(len(true.keys)):
            self._compare(true, i, stored, settled=settled)
        for seen in again:
            self._note_churn(seen, stored)

    def _standing(self) -> tuple[int | None, dict[int, int]] | None:
        """How many flushes there have been (None: one is under way), in which tenures; None where not all is claimed."""
        claimed = self._ownership.partitions
        if not claimed or self._maintainer.owned != set(claimed):
            return None
        return self._maintainer.flushes(), self._ownership.tenures

    def _due(self) -> Iterator[_Seen]:
        while self._seen and self._seen[0].due <= time.monotonic():
            yield self._seen.popleft()

    def _compare(self, true: TrueLists, i: int, stored: _Stored, *, settled: bool) -> None:
        key, length = int(true.keys[i]), int(true.lengths[i])
        wanted, found = true.neighbours[i, :length], stored.neighbours(key)
        given = found if found is not None else np.empty(0, dtype=np.int64)
        if found is not None:
            self._seen.append(_Seen(key, found, time.monotonic() + CHURN_SECONDS))
            age = times.now_microseconds() - int(stored.rows.generated_at[stored.row_of[key]])
            self._metrics.sampled_age.observe(max(0.0, age / 1e6))
        if length:
            for depth, recalls in self._recall.items():
                recalls.add(float(np.isin(wanted[:depth], given[:depth]).mean()))
        if np.array_equal(wanted, given):
            outcome = "right"
        else:
            outcome = "wrong" if settled and not true.pending[i] else "late"
        if outcome == "wrong":
            log.error("a stored list is wrong", key=key, entries=len(given), expected=length)
        self._metrics.sampled_lists.labels(outcome).inc()

    def _note_churn(self, seen: _Seen, stored: _Stored) -> None:
        now = stored.neighbours(seen.key)
        if now is None:  # withdrawn since
            return
        for depth, shares in self._churn.items():
            if len(now[:depth]):
                shares.add(float(1 - np.isin(now[:depth], seen.neighbours[:depth]).mean()))
