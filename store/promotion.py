"""Lets another generation of a space serve: one transaction, which may be taken back by another."""

from dataclasses import dataclass
from typing import Final

from asyncpg.pool import PoolConnectionProxy

from store import generations
from store.generations import GenerationError, StoredGeneration, shared_schema
from store.roles import grant_reads_like_catalogue
from streams.generations import GenerationName

# In the order in which workers lock these rows.
_UNTOLD: Final = """
WITH held AS (SELECT partition FROM {schema}.ingest_partitions ORDER BY partition FOR NO KEY UPDATE)
UPDATE {schema}.ingest_partitions AS p SET published_version = 0 FROM held WHERE p.partition = held.partition
"""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What has been switched.

    Attributes:
        before: The generation of the space that served; None: it is the space's first promotion, or the first after its end.
        after: The one that serves now.
    """

    before: GenerationName | None
    after: GenerationName


async def promote_generation(connection: PoolConnectionProxy, name: GenerationName) -> Promotion:
    """Let a generation serve its space. Must run inside a transaction; readers get its lists once that is committed.

    All its lists count as untold: its workers publish them on the change feed.

    Raises:
        GenerationError: It is not there, retired, or serves already.
    """
    await connection.execute("LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE")
    found = await generations.find_generation(connection, name)
    if found.serving:
        raise GenerationError(f"generation {name} serves already")
    before = (await generations.serving_generations(connection)).get(name.space)
    await grant_reads_like_catalogue(connection, name)
    schema = name.schema or await shared_schema(connection)
    await connection.execute(_UNTOLD.format(schema=schema))
    # One after the other: only one may serve at any moment of the transaction, too.
    if before is not None:
        await generations.stop_serving(connection, before)
    await connection.execute(
        "UPDATE generations SET serving = true WHERE space = $1 AND number = $2", name.space, name.number
    )
    return Promotion(before, name)


async def generation_before(connection: PoolConnectionProxy, space: str) -> StoredGeneration:
    """The generation that served a space before the one that does.

    Raises:
        GenerationError: There is none, or it has been retired.
    """
    every = [each for each in await generations.list_generations(connection) if each.name.space == space]
    served = [
        (each.served_until, each) for each in every if each.served_until is not None and not each.serving
    ]
    if not served:
        raise GenerationError(f"no other generation of {space} has served: there is nothing to go back to")
    return await generations.find_generation(connection, max(served, key=lambda pair: pair[0])[1].name)
