"""Which generation serves, for tests that are about what follows from it."""

import asyncpg


async def let_serve(database_url: str, number: int) -> None:
    """Let a generation serve, or serve on, whatever it lacks; nobody is given rights and no list becomes untold."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE generations SET serving = false WHERE serving")
            await connection.execute("UPDATE generations SET serving = true WHERE number = $1", number)
    finally:
        await connection.close()
