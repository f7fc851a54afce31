"""`mess spaces create --from-log` with weights, before anything is made."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from mess.spaces import lifecycle
from store.generations import GenerationError, list_generations
from store.layouts import StoredLayout, fix_layout
from store.pool import open_pool, transaction
from store.settings import StoreSettings
from streams.generations import GenerationName
from streams.settings import KafkaSettings, StreamSettings

pytestmark = pytest.mark.integration

# Nothing listens there: what reached for the broker would fail otherwise.
NO_BROKER = KafkaSettings(bootstrap_servers="127.0.0.1:1")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """The store of a test."""
    settings = StoreSettings(database_url=SecretStr(database_url))
    async with await open_pool(settings, application_name="test") as opened:
        yield opened


async def refusal(pool: asyncpg.Pool, layout: StoredLayout, weights: str) -> str:
    """Why a generation from the log of a catalogue of this layout, with these weights, is refused."""
    async with transaction(pool) as connection:
        await fix_layout(connection, layout)
    with pytest.raises(GenerationError) as refused:
        await lifecycle.create(
            NO_BROKER, StreamSettings(), pool, space="melody", weights=weights, from_log=GenerationName()
        )
    assert [each.name for each in await list_generations(pool)] == [GenerationName()]
    return str(refused.value)


@pytest.mark.parametrize("weights", ["melody:3", "melody:3,rhythm:1,timbre:1"])
async def test_weights_must_be_of_the_aspects_that_the_log_has(pool: asyncpg.Pool, weights: str) -> None:
    """Otherwise every event of the log would become a dead letter."""
    layout = StoredLayout(8, [("melody", 4, 0.5), ("rhythm", 4, 0.5)])
    assert await refusal(pool, layout, weights) == (
        "the vectors of default/1 have the aspects melody, rhythm: give each of them a weight, and no other"
    )


async def test_vectors_without_aspects_have_no_weights(pool: asyncpg.Pool) -> None:
    """The message says so."""
    told = await refusal(pool, StoredLayout(8), "melody:3")
    assert told == "the vectors of default/1 have no aspects that could be weighed"
