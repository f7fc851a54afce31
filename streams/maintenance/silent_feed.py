"""The change feed of a generation that does not serve: nobody is told of its lists."""

import asyncio
from collections.abc import Mapping
from typing import Final

from opentelemetry.trace import SpanContext

from streams.kafka.retry import until_done
from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.pending_changes import ChangedBlock

_FORGET_SECONDS: Final = 10.0


class SilentFeed(ChangePublisher):
    """Takes lists like the publisher, and drops them; the tombstones in the outbox, too."""

    def add(
        self,
        block: ChangedBlock,
        *,
        flushed: Mapping[int, int],
        withdrawn: bool,
        trace: SpanContext | None = None,
    ) -> None:
        """Drop changed lists."""

    async def publish_due(self, *, everything: bool = False) -> int:
        """Publish nothing; returns 0."""
        del everything
        return 0

    async def run(self) -> None:
        """Empty the outbox now and then, for ever."""
        while True:
            await until_done(
                lambda: self._ledger.forget_owed(self._ownership.partitions),
                what="empty the outbox",
                system="postgres",
                metrics=self._metrics,
            )
            await asyncio.sleep(_FORGET_SECONDS)
