"""A database of the first version: brought up with its data, served, and taken back."""

import asyncio
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from mess import migrate
from tests.integration.serving.catalogue import ServedCatalogue, write_catalogue
from tests.integration.serving.conftest import Database, Served, serve
from tests.support.services import PostgresServer

pytestmark = pytest.mark.integration

FIRST = "0001"
# Everything of each row that the first version knows, in one figure.
_SUMS = """
SELECT
    (SELECT md5(string_agg(ROW({tracks})::text, '|' ORDER BY track_id)) FROM tracks t),
    (SELECT md5(string_agg(l::text, '|' ORDER BY key)) FROM neighbour_lists l),
    (SELECT md5(string_agg(p::text, '|' ORDER BY p.partition)) FROM (
        SELECT partition, epoch, owner, consumed_offset, published_version FROM ingest_partitions) p),
    (SELECT md5(string_agg(a::text, '|' ORDER BY a::text)) FROM absorbed_offsets a),
    (SELECT dimension FROM catalogue)
"""


# What is made of a row's other columns is made again when the schema changes.
_COLUMNS = "SELECT string_agg('t.' || column_name, ', ') FROM information_schema.columns WHERE table_name = 'tracks' AND column_name <> 'search'"


async def _sums(url: str, tracks: str) -> tuple[object, ...]:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(_SUMS.format(tracks=tracks))
        assert row is not None
        return tuple(row)
    finally:
        await connection.close()


async def test_a_database_of_the_first_version_is_served_after_an_upgrade_and_taken_back(
    postgres_server: PostgresServer, empty_database_url: str, catalogue: ServedCatalogue
) -> None:
    """Up: every list is served as it was stored, under the API's role. Down: every row is as before; and up again."""
    url = empty_database_url
    await asyncio.to_thread(migrate.upgrade_schema, url)
    connection = await asyncpg.connect(url)
    await write_catalogue(connection, catalogue)  # as the store writes today
    await asyncio.to_thread(migrate.downgrade_schema, url, FIRST)
    columns = await connection.fetchval(_COLUMNS)
    await connection.close()
    before = await _sums(url, columns)
    assert None not in before

    await asyncio.to_thread(migrate.upgrade_schema, url)
    assert await _sums(url, columns) == before
    database = Database(urlsplit(url).path[1:], url, postgres_server.api_url_of(url))
    async with serve(Served(database)) as api:
        assert (await api.get("/health/ready")).status_code == 200
        for row in range(0, len(catalogue.tracks), 17):
            track = catalogue.tracks[row]
            answer = await api.get(f"/recommend/{quote(track.track_id, safe='')}?top_k=5")
            assert answer.status_code == 200, answer.text
            named = [each["track_id"] for each in answer.json()["recommendations"]]
            assert named == [catalogue.tracks[n].track_id for n in catalogue.neighbours[row][:5]]
        assert (await api.get("/tracks?limit=1")).json()["total"] == len(catalogue.tracks)

    await asyncio.to_thread(migrate.downgrade_schema, url, FIRST)
    assert await _sums(url, columns) == before
    await asyncio.to_thread(migrate.upgrade_schema, url)
    assert await _sums(url, columns) == before
    await asyncio.to_thread(migrate.check_migrations, url)
