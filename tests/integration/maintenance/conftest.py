"""A pool on the test's own database."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from store.pool import open_pool
from store.settings import StoreSettings


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool, closed afterwards."""
    opened = await open_pool(StoreSettings(database_url=SecretStr(database_url)), application_name="test")
    yield opened
    await opened.close()
