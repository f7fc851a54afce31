"""Probes whether a Kafka broker answers at an address."""

from __future__ import annotations

import asyncio
import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

PROBE_TIMEOUT_SECONDS = 3.0
PROBE_GROUP = "mess-probe"

# A broker that is still starting is expected here: log no error.
_client_log = logging.getLogger("aiokafka")


async def broker_answers(bootstrap_servers: str) -> bool:
    """Ask over the Kafka protocol for brokers and groups; True if both are served.

    Groups come last when a broker starts. A consumer that asks for its offsets before they are loaded is told that
    it has none, so a broker without them is not ready yet.
    """
    if not await _listens(bootstrap_servers):
        return False
    level = _client_log.level
    _client_log.setLevel(logging.CRITICAL)
    client = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers, request_timeout_ms=int(PROBE_TIMEOUT_SECONDS * 1000)
    )
    try:
        await client.start()
        cluster = await client.describe_cluster()
        await client.find_coordinator(PROBE_GROUP)
        await client.list_consumer_groups()
        return bool(cluster["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await client.close()
        _client_log.setLevel(level)


async def _listens(bootstrap_servers: str) -> bool:
    """Say whether the first address takes connections: cheaper than a client that retries."""
    host, _, port = bootstrap_servers.split(",", maxsplit=1)[0].rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), PROBE_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    await writer.wait_closed()
    return True
