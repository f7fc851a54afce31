"""Creates and retires generations: in the store and on the broker."""

import asyncpg

from store import generations
from store.generations import GenerationError, StoredGeneration
from store.pool import transaction
from streams.contracts.embedding_models import check_model_name
from streams.generations import DEFAULT_SPACE, GenerationName
from streams.kafka.topics import create_generation_topic, delete_generation_topic
from streams.settings import KafkaSettings, StreamSettings, check_aspect_weights


async def create(
    kafka: KafkaSettings,
    streams: StreamSettings,
    pool: asyncpg.Pool,
    space: str = DEFAULT_SPACE,
    *,
    model: str | None = None,
    weights: str | None = None,
) -> StoredGeneration:
    """Create the next generation of a space: its tables, and its topic.

    Args:
        kafka: How to reach the brokers.
        streams: The configuration of its topic.
        pool: The catalogue's store.
        space: The space.
        model: The name of the model that makes its vectors.
        weights: Of their aspects, as `name:weight,...`.

    Raises:
        GenerationError: No space, no model or no aspects may be called so.
        StoreError, StreamsError: It cannot be created; nothing is left of it in the store.
    """
    _check_names(space, model, weights)
    async with transaction(pool) as connection:
        made = await generations.create_generation(connection, space, model, weights)
        await create_generation_topic(kafka, streams, made.name)
    return made


def _check_names(space: str, model: str | None, weights: str | None) -> None:
    try:
        GenerationName(space, 1)
        if model is not None:
            check_model_name(model)
    except ValueError as error:
        raise GenerationError(str(error)) from None
    if weights is not None:
        try:
            check_aspect_weights(weights)
        except ValueError as error:
            raise GenerationError(f"the weights of a generation {error}") from None


async def retire(kafka: KafkaSettings, pool: asyncpg.Pool, name: GenerationName) -> None:
    """Drop a generation's tables and delete its topic; may be repeated after a failure.

    Raises:
        GenerationError: It serves, is the first, is not there, or has workers that run.
        StoreError, StreamsError: It cannot be retired; what is left goes with the next attempt.
    """
    every = await generations.list_generations(pool)
    if not any(each.name == name and each.retired_at is not None for each in every):
        async with transaction(pool) as connection:
            await generations.drop_generation(connection, name)
    await delete_generation_topic(kafka, name)
