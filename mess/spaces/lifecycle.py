"""Creates, promotes and retires generations: in the store and on the broker."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import asyncpg

from mess.spaces.status import GenerationStatus, generation_status
from mess.topics import record_new_topics
from store import generations, promotion
from store.generations import GenerationError, StoredGeneration
from store.pool import transaction
from store.promotion import Promotion
from store.settings import StoreSettings
from streams.contracts.embedding_models import check_model_name
from streams.generations import DEFAULT_SPACE, GenerationName
from streams.kafka.topics import RECOMMENDATIONS, create_generation_topics, delete_topics
from streams.settings import KafkaSettings, StreamSettings, check_aspect_weights
from streams.strategies.aspects import Layout, parse_weights, weights_of

# Seconds between looks at a generation that is to be promoted. While events come there is always one on its way: a moment at
# which it has everything is waited for.
_LOOK_SECONDS: Final = 0.2


def _quiet() -> None:
    """Tell nobody."""


async def create(
    kafka: KafkaSettings,
    streams: StreamSettings,
    pool: asyncpg.Pool,
    *,
    space: str = DEFAULT_SPACE,
    model: str | None = None,
    weights: str | None = None,
    from_log: GenerationName | None = None,
) -> StoredGeneration:
    """Create the next generation of a space: its tables and its topic, and with the first one the space's feed.

    Args:
        kafka: How to reach the brokers.
        streams: The configuration of its topics.
        pool: The catalogue's store.
        space: Its space, which is there from then on.
        model: The name of the model that makes its vectors.
        weights: Of their aspects, as `name:weight,...`.
        from_log: The generation whose vectors it is to have: what is not said of the model and the weights is as there.

    Raises:
        GenerationError: No space, no model or no aspects may be called so, or that generation is not there or of another model.
        StoreError, StreamsError: It cannot be created; nothing is left of it in the store.
    """
    _check_names(space, model, weights)
    if from_log is not None:
        model, weights = await _as_in(pool, from_log, model, weights)
    async with transaction(pool) as connection:
        made = await generations.create_generation(connection, space, model, weights)
        created = await create_generation_topics(kafka, streams, [made.name])
        # The feed may have been lost with its broker.
        fellows = [name for name in await generations.live_generations(connection) if name.space == space]
        await record_new_topics(connection, created, fellows)
    return made


def _check_names(space: str, model: str | None, weights: str | None) -> None:
    try:
        GenerationName(space)
    except ValueError as error:
        raise GenerationError(str(error)) from None
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


async def _as_in(
    pool: asyncpg.Pool, source: GenerationName, model: str | None, weights: str | None
) -> tuple[str | None, str | None]:
    """The model of another generation's vectors, and the weights that make the lists of it, where others are not given."""
    found = await generations.find_generation(pool, source)
    stored = await generations.generation_layout(pool, source)
    known = found.model or (stored.model if stored else None)
    if model is not None and known is not None and model != known:
        raise GenerationError(f"the log of {source} has vectors of {known}, not of {model}")
    if stored is None:
        return model or known, weights
    aspects = [name for name, *_ in stored.aspects]
    if weights is None:
        weights = found.weights or weights_of(Layout.of_rows(stored.dimension, stored.aspects))
    elif not aspects:
        raise GenerationError(f"the vectors of {source} have no aspects that could be weighed")
    elif set(parse_weights(weights)) != set(aspects):
        raise GenerationError(
            f"the vectors of {source} have the aspects {', '.join(aspects)}: give each of them a weight, and no other"
        )
    return model or known, weights


async def retire(
    kafka: KafkaSettings, pool: asyncpg.Pool, name: GenerationName, *, ended: Callable[[], None] = _quiet
) -> None:
    """Drop a generation's tables and delete its topic; may be repeated after a failure.

    The last generation of a further space takes the space's feed with it. If it serves, it first ceases to, and is dropped once
    nobody can read it any more, after a minute.

    Args:
        kafka: How to reach the brokers.
        pool: The catalogue's store.
        name: The generation.
        ended: Called when it has ceased to serve.

    Raises:
        GenerationError: It serves and has fellows or is of the space `default`, it is the first, it is not there, or it has
            workers that run.
        StoreError, StreamsError: It cannot be retired; what is left goes with the next attempt.
    """
    every = await generations.list_generations(pool)
    if not any(each.name == name and each.retired_at is not None for each in every):
        if any(each.name == name and each.serving for each in every):
            async with transaction(pool) as connection:
                await generations.end_service(connection, name)
            ended()
            while (left := await generations.seconds_in_use(pool, name)) > 0:  # noqa: ASYNC110 -- the store's clock counts
                await asyncio.sleep(min(left, 1.0))
        async with transaction(pool) as connection:
            await generations.drop_generation(connection, name)
    topics = [name.topic]
    if not any(other.space == name.space for other in await generations.live_generations(pool)):
        topics.append(name.feed_topic(RECOMMENDATIONS))
    await delete_topics(kafka, topics)


async def promote(
    kafka: KafkaSettings,
    store: StoreSettings,
    pool: asyncpg.Pool,
    name: GenerationName,
    *,
    allow_missing: int | None = 0,
    seconds: float = 30.0,
) -> Promotion:
    """Let a generation serve its space, as soon as it lacks nothing.

    Args:
        kafka: How to reach the brokers.
        store: How to reach the catalogue's store.
        pool: Of it.
        name: The generation.
        allow_missing: How many tracks of the catalogue may be without a vector in it: readers do not find these any more. None:
            any number.
        seconds: How long it may take until it lacks nothing.

    Raises:
        GenerationError: It serves, is not there, or still lacks something, which the text says. Nothing has changed then.
        StoreError, StreamsError: Postgres or the broker cannot be reached.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = await generation_status(kafka, store, pool, name)
        if found.generation.serving:
            raise GenerationError(f"generation {name} serves already")
        lacking = _lacking(found, allow_missing)
        if lacking is None:
            break
        if time.monotonic() > deadline:
            raise GenerationError(f"generation {name} is not promoted: {lacking}")
        await asyncio.sleep(_LOOK_SECONDS)
    async with transaction(pool) as connection:
        return await promotion.promote_generation(connection, name)


async def generation_before(pool: asyncpg.Pool, space: str) -> GenerationName:
    """The generation that served a space before the one that does.

    Raises:
        GenerationError: There is none.
    """
    async with transaction(pool) as connection:
        return (await promotion.generation_before(connection, space)).name


def _lacking(found: GenerationStatus, allow_missing: int | None) -> str | None:
    """What keeps a generation from serving, with what to do about it; None: nothing."""
    counts, name = found.counts, found.generation.name
    if not counts.vectors:
        return "it has no vectors"
    if allow_missing is not None and counts.missing > allow_missing:
        return (
            f"{counts.missing:,} tracks have no vector in it, such as {', '.join(counts.first_missing)}; publish these, or give "
            f"--allow-missing {counts.missing}: readers do not find such tracks then"
        )
    if found.lag:
        return f"{found.lag:,} events of {name.topic} wait; see `mess spaces status {name}`"
    if counts.full_lists < counts.vectors:
        return f"{counts.vectors - counts.full_lists:,} of its lists are not made yet"
    if not counts.answering:
        return (
            "none of its workers can answer questions; "
            f"start `mess worker --space {name.space} --generation {name.number}`"
        )
    return None
