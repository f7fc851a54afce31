"""A topic's own configuration, as the broker has it."""

import asyncio
import time

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from streams.errors import TopicError

TIMESTAMP_TYPE = "message.timestamp.type"
APPEND_TIME, CREATE_TIME = "LogAppendTime", "CreateTime"
_PATIENCE_SECONDS = 20.0
_APPLIED_SECONDS = 0.5
# Kafka's number for what was set for the topic, and is not the broker's default.
_OWN = 1


async def read_topic_config(client: AIOKafkaAdminClient, topic: str) -> dict[str, tuple[str, bool]]:
    """By name, each value and whether it is the topic's own; empty where the broker does not tell."""
    try:
        answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except KafkaError:
        return {}
    found: dict[str, tuple[str, bool]] = {}
    for answer in answers:
        for code, _, _, _, entries in answer.resources:
            if code:
                return {}
            for name, value, _, source, *_ in entries:
                if value is not None:
                    found[name] = value, source == _OWN
    return found


async def set_topic_config(client: AIOKafkaAdminClient, topic: str, changes: dict[str, str]) -> None:
    """Change some of a topic's own values, and wait until the broker goes by them.

    Raises:
        TopicError: The broker refuses, or does not do it.
    """
    # The request replaces all that is the topic's own.
    own = {
        name: value for name, (value, is_own) in (await read_topic_config(client, topic)).items() if is_own
    }
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=own | changes)
    for answer in await client.alter_configs([resource]):
        for code, message, *_ in answer.resources:
            if code:
                raise TopicError(f"topic {topic} cannot be configured: {message or for_code(code).__name__}")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not await _are_set(client, topic, changes):
        if time.monotonic() > deadline:
            raise TopicError(f"the broker does not take {changes} for topic {topic}")
        await asyncio.sleep(0.1)
    # It tells of them a moment before each log has them.
    await asyncio.sleep(_APPLIED_SECONDS)


async def _are_set(client: AIOKafkaAdminClient, topic: str, changes: dict[str, str]) -> bool:
    found = await read_topic_config(client, topic)
    return all(found.get(name, ("", False))[0] == value for name, value in changes.items())
