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
    *,
    model: str | None = None,
    weights: str | None = None,
) -> StoredGeneration:
    """Create the next generation of the space `default`: its tables, and its topic.

    Args:
        kafka: How to reach the brokers.
        streams: The configuration of its topic.
        pool: The catalogue's store.
        model: The name of the model that makes its vectors.
        weights: Of their aspects, as `name:weight,...`.

    Raises:
        GenerationError: No model or no aspects may be called so.
        StoreError, StreamsError: It cannot be created; nothing is left of it in the store.
    """
    _check_names(model, weights)
    async with transaction(pool) as connection:
        made = await generations.create_generation(connection, DEFAULT_SPACE, model, weights)
        await create_generation_topic(kafka, streams, made.name)
    return made


def _check_names(model: str | None, weights: str | None) -> None:
    if model is not None:
        try:
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
