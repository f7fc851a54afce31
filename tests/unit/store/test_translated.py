"""What a database that is away looks like to the rest of the program."""

import asyncpg
import pytest

from store.errors import StoreUnavailableError
from store.pool import translated_errors

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        asyncpg.ConnectionDoesNotExistError("cut"),
        asyncpg.InterfaceError("closed"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.OutOfMemoryError("out of memory"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_was_cut_is_a_store_that_is_away(error: Exception) -> None:
    """Callers repeat what they did, or answer 503; nothing of the driver reaches them."""
    with pytest.raises(StoreUnavailableError), translated_errors():
        raise error


def test_a_full_disk_is_told_as_such_in_one_line() -> None:
    """Postgres reports SQLSTATE 53100 and a hint on a line of its own; a reader of the log needs the first words."""
    fields = {
        "S": "ERROR",
        "C": "53100",
        "M": 'could not extend file "base/16386/16430": No space left on device',
        "H": "Check free disk space.",
    }
    error = asyncpg.PostgresError.new(fields)
    with pytest.raises(StoreUnavailableError) as caught, translated_errors():
        raise error
    assert str(caught.value) == (
        'Postgres has no disk space left: could not extend file "base/16386/16430": No space left on device '
        "HINT: Check free disk space."
    )
