"""Whether there is any worker to answer: asked of the broker, and only when an answer is late."""

import asyncio
import time
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NoBrokersAvailable

from serving.kafka.broker import BrokerUnavailableError, started

_FRESH_SECONDS = 1.0
# States of a consumer group that has no member.
_DESERTED = frozenset({"Empty", "Dead", ""})


class WorkerPresence:
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
        self._one_at_a_time = asyncio.Lock()

    async def any_worker(self) -> bool | None:
        """Whether the group has a member, None where the broker cannot tell; seen within the last second.

        Raises:
            BrokerUnavailableError: The broker does not answer.
        """
        async with self._one_at_a_time:
            if time.monotonic() - self._looked_at > _FRESH_SECONDS:
                try:
                    async with asyncio.timeout(self._timeout):
                        self._present = await self._look()
                except TimeoutError:  # a broker that is busy says nothing about workers
                    await self._drop()
                    self._present = None
                except (KafkaConnectionError, NoBrokersAvailable, OSError) as error:
                    await self._drop()
                    raise BrokerUnavailableError(str(error) or "no answer in time") from error
                except KafkaError:
                    await self._drop()
                    self._present = None
                self._looked_at = time.monotonic()
            return self._present

    async def _look(self) -> bool:
        if self._client is None:
            client = AIOKafkaAdminClient(**self._options)
            try:
                await started(client)
            except BaseException:
                await client.close()
                raise
            self._client = client
        (answer,) = await self._client.describe_consumer_groups([self._group])
        return any(group[2] not in _DESERTED for group in answer.groups)

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def close(self) -> None:
        """Let go of the broker."""
        await self._drop()
