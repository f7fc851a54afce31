"""Which generation serves, for tests that are about what follows from it."""

import asyncpg

from streams.generations import DEFAULT_SPACE


async def let_serve(database_url: str, number: int | None, space: str = DEFAULT_SPACE) -> None:
    """Let a generation of a space serve, or serve on, whatever it lacks; nobody is given rights, no list becomes untold.

    None: none of the space does.
    """
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "UPDATE generations SET serving = false WHERE space = $1 AND serving", space
            )
            await connection.execute(
                "UPDATE generations SET serving = true WHERE space = $1 AND number = $2", space, number
            )
    finally:
        await connection.close()
