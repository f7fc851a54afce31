"""The ends of a topic's partitions.

Fetches report them. But a partition whose messages wait here is not fetched, so its growth would be unknown: a lag of hundreds
of thousands would look like one of thousands. So while there is a lag, the broker is asked.
"""

import asyncio
from collections.abc import Callable, Collection

import faust
import structlog
from faust.types import TP

log = structlog.get_logger(__name__)

ASK_SECONDS = 1.0


class LogEndsCache:
    """The ends of a topic's partitions, as far as is known. Call it with a partition: 0 where nothing is known.

    Args:
        app: Whose consumer it is.
        topic: Which topic.
        behind: The partitions of which messages wait.
    """

    def __init__(self, app: faust.App, topic: str, behind: Callable[[], Collection[int]]) -> None:
        self._app = app
        self._topic = topic
        self._behind = behind
        self._asked: dict[int, int] = {}

    def __call__(self, partition: int) -> int:
        """The end of a partition's log: the offset of its next message, as far as is known."""
        fetched: int = self._app.consumer.highwater(TP(self._topic, partition))
        return max(fetched, self._asked.get(partition, 0))

    async def run(self) -> None:
        """Ask the broker while messages wait, for ever."""
        while True:
            await asyncio.sleep(ASK_SECONDS)
            await self.ask()

    async def ask(self) -> None:
        """Ask the broker once, for the partitions of which messages wait."""
        wanted = [TP(self._topic, partition) for partition in self._behind()]
        if not wanted:
            self._asked = {}
            return
        try:
            found = await self._app.consumer.highwaters(*wanted)
        except Exception as error:  # noqa: BLE001 -- whatever it is, fetches tell enough until it is over
            log.debug("the ends of partitions are not known", error=repr(error))
            return
        self._asked = {place.partition: end or 0 for place, end in found.items()}
