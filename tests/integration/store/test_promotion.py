"""Promotion of a generation: one transaction, for every role that reads, and the way back."""

import asyncio

import asyncpg
import pytest

from store import generations, partitions, promotion
from store.generations import GenerationError
from store.pool import transaction
from store.promotion import Promotion
from store.roles import role_findings
from streams.generations import GenerationName

pytestmark = pytest.mark.integration

FIRST, SECOND, THIRD = (GenerationName("default", number) for number in (1, 2, 3))


@pytest.fixture
async def generations_of(pool: asyncpg.Pool) -> asyncpg.Pool:
    """A catalogue with two generations beside the first."""
    async with transaction(pool) as connection:
        for _ in range(2):
            await generations.create_generation(connection, "default", None)
    return pool


async def promote(pool: asyncpg.Pool, name: GenerationName) -> Promotion:
    """Promote a generation, committed."""
    async with transaction(pool) as connection:
        return await promotion.promote_generation(connection, name)


async def before(pool: asyncpg.Pool, space: str = "default") -> GenerationName:
    """The generation that a rollback goes to."""
    async with transaction(pool) as connection:
        return (await promotion.generation_before(connection, space)).name


async def test_one_generation_serves_at_any_time_and_the_last_one_is_gone_back_to(
    generations_of: asyncpg.Pool,
) -> None:
    """Promotions and rollbacks in turn; none is promoted twice, and none that is not there."""
    pool = generations_of
    with pytest.raises(GenerationError, match="nothing to go back to"):
        await before(pool)
    assert await promote(pool, SECOND) == Promotion(FIRST, SECOND)
    with pytest.raises(GenerationError, match="serves already"):
        await promote(pool, SECOND)
    assert await before(pool) == FIRST
    assert await promote(pool, THIRD) == Promotion(SECOND, THIRD)
    assert await before(pool) == SECOND
    assert await promote(pool, SECOND) == Promotion(THIRD, SECOND)
    assert await before(pool) == THIRD
    async with transaction(pool) as connection:
        with pytest.raises(GenerationError, match="until a moment ago"):
            await generations.drop_generation(connection, THIRD)
    await pool.execute("UPDATE generations SET served_until = served_until - interval '2 minutes'")
    async with transaction(pool) as connection:
        await generations.drop_generation(connection, THIRD)
        with pytest.raises(GenerationError, match="serves, and cannot be retired"):
            await generations.drop_generation(connection, SECOND)
    with pytest.raises(GenerationError, match="was retired"):
        await before(pool)
    with pytest.raises(GenerationError, match="was retired"):
        await promote(pool, THIRD)
    assert await generations.require_serving(pool) == SECOND


async def test_all_lists_of_a_promoted_generation_count_as_untold(generations_of: asyncpg.Pool) -> None:
    """Its own partitions' published versions go to zero; those of the one before stay."""
    pool = generations_of
    async with transaction(pool) as connection:
        await partitions.claim_partitions(connection, [0, 1], "one")
    await pool.execute(f"INSERT INTO {SECOND.schema}.ingest_partitions SELECT * FROM ingest_partitions")
    for schema in ("public", SECOND.schema):
        await pool.execute(f"UPDATE {schema}.ingest_partitions SET published_version = 7")
    await promote(pool, SECOND)
    versions = "SELECT array_agg(DISTINCT published_version) FROM {}.ingest_partitions"
    assert await pool.fetchval(versions.format(SECOND.schema)) == [0]
    assert await pool.fetchval(versions.format("public")) == [7]


async def test_who_may_read_the_catalogue_may_read_what_serves(
    generations_of: asyncpg.Pool, api_database_url: str
) -> None:
    """The API's role reads a promoted generation's tables, and of one beside nothing."""
    pool = generations_of
    await promote(pool, SECOND)
    assert await role_findings(pool, "mess_api") == []
    connection = await asyncpg.connect(api_database_url)
    try:
        for table in ("tracks", "neighbour_lists", "worker_lives", "materialised_recommendations"):
            assert await connection.fetch(f"SELECT * FROM {SECOND.schema}.{table}") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {SECOND.schema}.told_lists")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {THIRD.schema}.tracks")
    finally:
        await connection.close()
    await pool.execute(f"REVOKE SELECT ON {SECOND.schema}.tracks FROM mess_api")
    assert f"it cannot read {SECOND.schema}, which serves readers" in await role_findings(pool, "mess_api")


async def test_two_promotions_at_once_follow_each_other(generations_of: asyncpg.Pool) -> None:
    """Whichever comes second finds what the first has done."""
    pool = generations_of
    done = await asyncio.gather(promote(pool, SECOND), promote(pool, THIRD))
    first = next(each for each in done if each.before == FIRST)
    second = next(each for each in done if each.before != FIRST)
    assert second.before == first.after
    assert await generations.require_serving(pool) == second.after


async def test_each_space_has_one_that_serves_or_none(pool: asyncpg.Pool) -> None:
    """A further space begins without, its promotions change nothing in another, and it can end without, too."""
    melody, next_melody = GenerationName("melody", 1), GenerationName("melody", 2)
    async with transaction(pool) as connection:
        made = [await generations.create_generation(connection, "melody", None) for _ in range(2)]
    assert [each.name for each in made] == [melody, next_melody]
    assert await generations.serving_generations(pool) == {"default": FIRST}
    with pytest.raises(
        GenerationError, match="no generation of space melody serves; spaces that serve: default"
    ):
        await generations.require_serving(pool, "melody")
    with pytest.raises(GenerationError, match="nothing to go back to"):
        await before(pool, "melody")
    assert await promote(pool, melody) == Promotion(None, melody)
    assert await promote(pool, next_melody) == Promotion(melody, next_melody)
    assert await before(pool, "melody") == melody
    assert await generations.serving_generations(pool) == {"default": FIRST, "melody": next_melody}
    assert await role_findings(pool, "mess_api") == []

    async with transaction(pool) as connection:
        with pytest.raises(
            GenerationError, match="serves, and cannot be retired: promote or retire melody/1"
        ):
            await generations.end_service(connection, next_melody)
    await pool.execute("UPDATE generations SET served_until = served_until - interval '2 minutes'")
    async with transaction(pool) as connection:
        await generations.drop_generation(connection, melody)
        with pytest.raises(GenerationError, match="serves"):
            await generations.drop_generation(connection, next_melody)
        await generations.end_service(connection, next_melody)
    assert await generations.serving_generations(pool) == {"default": FIRST}
    assert 0 < await generations.seconds_in_use(pool, next_melody) <= 60
    async with transaction(pool) as connection:
        with pytest.raises(GenerationError, match="until a moment ago"):
            await generations.drop_generation(connection, next_melody)
    await pool.execute("UPDATE generations SET served_until = served_until - interval '2 minutes'")
    async with transaction(pool) as connection:
        await generations.drop_generation(connection, next_melody)
    assert await generations.live_generations(pool) == [FIRST]


async def test_a_space_that_is_read_does_not_end(pool: asyncpg.Pool) -> None:
    """Nor does one of which a worker runs, or the space `default`."""
    async with transaction(pool) as connection:
        made = await generations.create_generation(connection, "melody", None)
    await promote(pool, made.name)
    await pool.execute(
        f"INSERT INTO {made.name.schema}.worker_lives (worker, owner, seen_at) VALUES ('w', 'w/1', now())"
    )
    for name, reason in ((made.name, "still run; stop them first"), (FIRST, "holds the metadata")):
        async with transaction(pool) as connection:
            with pytest.raises(GenerationError, match=reason):
                await generations.end_service(connection, name)
    assert await generations.serving_generations(pool) == {"default": FIRST, "melody": made.name}
