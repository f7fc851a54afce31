"""Settings for one generation's worker."""

from store import generations
from store.generations import GenerationError
from store.pool import open_pool, require_schema
from store.settings import StoreSettings
from streams.generations import DEFAULT_SPACE, GenerationName
from streams.settings import StreamSettings


async def of_generation(
    streams: StreamSettings, store: StoreSettings, space: str | None, number: int | None
) -> tuple[StreamSettings, StoreSettings]:
    """The settings of a worker of a generation: what is named after it, and its model.

    Raises:
        GenerationError: There is none.
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is another version's.
    """
    try:
        name = GenerationName(space or DEFAULT_SPACE, number or 1)
    except ValueError as error:
        raise GenerationError(str(error)) from None
    if name.is_first:
        return streams, store
    one = store.model_copy(update={"pool_min_size": 1, "pool_max_size": 1})
    async with await open_pool(one, application_name="mess-worker", read_only=True) as pool:
        await require_schema(pool)
        found = await generations.find_generation(pool, name)
    # Those of the settings are of the catalogue's own vectors.
    own = {
        "embedding_dimension": None,
        "embedding_model": found.model,
        "aspect_weights": found.weights,
    }
    named = {"space": name.space, "generation": name.number}
    return streams.model_copy(update=own | named), store.of_schema(name.schema)
