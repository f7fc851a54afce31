"""Whether there is any worker to answer: asked of the broker, and only when an answer is late."""

import asyncio
import time
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NoBrokersAvailable

from serving.kafka.broker import BrokerUnavailableError, start_client, stop_client

_FRESH_SECONDS = 1.0
# States of a consumer group that has no member.
_DESERTED = frozenset({"Empty", "Dead", ""})


class WorkerDiscovery:
    """Looks at the members of the workers' consumer group. Callers at the same time share one look.

    A worker that has died counts as there until its session times out: its group keeps it so long.

    Args:
        options: What aiokafka's clients take.
        group: The workers' consumer group.
        timeout: Seconds a look may take.
    """

    def __init__(self, options: dict[str, Any], group: str, timeout: float) -> None:
        self._options = options
        self._group = group
        self._timeout = timeout
        self._client: AIOKafkaAdminClient | None = None
        self._looked_at = float("-inf")
        self._present: bool | None = None
        self._looking: asyncio.Task[None] | None = None

    async def any_worker(self) -> bool | None:
        """Whether the group has a member, None where the broker cannot tell; seen within the last second.

        Raises:
            BrokerUnavailableError: The broker does not answer.
        """
        if time.monotonic() - self._looked_at > _FRESH_SECONDS:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_in_time(), name="look for workers")
            # Whoever gives up waiting leaves the look to the others.
            await asyncio.shield(self._looking)
        return self._present

    async def _look_in_time(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                self._present = await self._look()
        except Exception as error:
            await self._drop()
            if isinstance(error, TimeoutError):  # a broker that is busy says nothing about workers
                self._present = None
            elif isinstance(error, (KafkaConnectionError, NoBrokersAvailable, OSError)):
                raise BrokerUnavailableError(str(error) or "no answer in time") from error
            elif isinstance(error, KafkaError):
                self._present = None
            else:
                raise
        self._looked_at = time.monotonic()

    async def _look(self) -> bool:
        if self._client is None:
            client = AIOKafkaAdminClient(**self._options)
            try:
                await start_client(client)
            except BaseException:
                await stop_client(client)
                raise
            self._client = client
        (answer,) = await self._client.describe_consumer_groups([self._group])
        return any(group[2] not in _DESERTED for group in answer.groups)

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await stop_client(client)

    async def close(self) -> None:
        """Let go of the broker."""
        if self._looking is not None and not self._looking.done():
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._drop()
