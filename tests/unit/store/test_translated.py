"""What a database that is away looks like to the rest of the program."""

import asyncpg
import pytest

from store.errors import StoreUnavailableError
from store.pool import translated

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        asyncpg.ConnectionDoesNotExistError("cut"),
        asyncpg.InterfaceError("closed"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_was_cut_is_a_store_that_is_away(error: Exception) -> None:
    """Callers repeat what they did, or answer 503; nothing of the driver reaches them."""
    with pytest.raises(StoreUnavailableError), translated():
        raise error
