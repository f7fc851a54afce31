"""What a generation's worker reads of tracks whose metadata the catalogue may have changed."""

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from pydantic import SecretStr

from store import catalogue_tracks, generations, tracks
from store.columns import METADATA_FIELDS
from store.pool import open_pool, transaction
from store.settings import StoreSettings
from tests.integration.store.test_writes import row

pytestmark = pytest.mark.integration

TITLE = METADATA_FIELDS.index("title")


@pytest.fixture
async def beside(pool: asyncpg.Pool, database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A generation beside a catalogue of six tracks in two partitions, of which it has four."""
    async with transaction(pool) as connection:
        made = await generations.create_generation(connection, "default", None)
        rows = [
            replace(row(f"t{i}", key=i, offset=10 + i, title="of the catalogue"), partition=i % 2)
            for i in range(6)
        ]
        await tracks.upsert_tracks(connection, rows)
    own = StoreSettings(database_url=SecretStr(database_url)).of_schema(made.name.schema)
    async with await open_pool(own, application_name="test") as found:
        async with transaction(found) as connection:
            rows = [replace(row(f"t{i}", key=i, offset=90 - i, title="T"), partition=5) for i in range(4)]
            await tracks.upsert_tracks(connection, rows)
        yield found


async def read(
    pool: asyncpg.Pool, since: dict[int, int], until: dict[int, int], limit: int
) -> list[list[int]]:
    """The keys of each part."""
    parts = []
    while since != until:
        async with transaction(pool) as connection:
            part = await catalogue_tracks.read_described(connection, since, until, limit)
        assert [metadata[TITLE] for metadata in part.metadata] == ["T"] * len(part.keys)
        parts.append(part.keys)
        assert part.upto != since
        since = part.upto
    return parts


async def test_changed_tracks_are_read_in_parts(beside: asyncpg.Pool) -> None:
    """Each once, by the catalogue's offsets, none beyond the end; tracks without a vector are left out."""
    end = {0: 15, 1: 16}
    assert await read(beside, {}, end, 100) == [[0, 2, 1, 3]]
    parts = await read(beside, {}, end, 2)
    assert [key for part in parts for key in part if key % 2 == 0] == [0, 2]
    assert sorted(key for part in parts for key in part) == [0, 1, 2, 3]
    assert len(parts) > 2
    assert await read(beside, {0: 11, 1: 11}, {0: 12, 1: 13}, 100) == [[1]]
    assert await read(beside, end, end, 100) == []
    # A log that has taken another's place, and a partition that is new.
    assert await read(beside, {0: 900}, {0: 13}, 100) == [[0, 2]]
    assert await read(beside, {0: 13}, {0: 13, 1: 12}, 100) == [[1]]
