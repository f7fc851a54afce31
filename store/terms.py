"""Terms of service: the time from a promotion of a generation to the next one of another of its space."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store.errors import StoreError
from streams.generations import GenerationName


class TermEndedError(StoreError):
    """Another generation has come to serve meanwhile, even if this one does again."""


@dataclass(frozen=True, slots=True)
class ServingTerm:
    """A term of a generation.

    Attributes:
        name: The generation.
        served_until: When it had ceased to serve last when the term began, which tells its terms apart; None: never.
        promoted: Whether it began with a promotion: the catalogue itself served without one at first.
    """

    name: GenerationName
    served_until: datetime | None
    promoted: bool


_READ: Final = """
SELECT served_until, EXISTS (SELECT FROM generations WHERE space = $1 AND served_until IS NOT NULL) AS promoted
FROM generations WHERE space = $1 AND number = $2 AND serving
"""


async def read_term(
    connection: PoolConnectionProxy | asyncpg.Connection, name: GenerationName
) -> ServingTerm | None:
    """The term of a generation that serves now; None: it does not."""
    row = await connection.fetchrow(_READ, name.space, name.number)
    if row is None:
        return None
    return ServingTerm(name, row["served_until"], row["promoted"] or not name.is_first)


async def require_term(connection: PoolConnectionProxy, term: ServingTerm) -> None:
    """Check that a generation has served ever since a term began.

    Raises:
        TermEndedError: It has not.
    """
    found = await read_term(connection, term.name)
    if found is None or found.served_until != term.served_until:
        raise TermEndedError(f"generation {term.name} has not served without a break")
