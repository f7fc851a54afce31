"""A catalogue keeps to the model that its first track names, and one without a name gets it from the settings."""

import asyncpg
import numpy as np
import pytest

from streams.contracts import encode_track
from tests.integration.worker.conftest import Line
from tests.support.worker import publish, read_topic, settle, wrong_lists

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def message(track_id: str, model: str | None) -> tuple[bytes, bytes]:
    """A track's event."""
    vector = np.random.default_rng(list(track_id.encode())).standard_normal(6)
    return encode_track(track_id, vector, {"title": track_id}, model=model)


async def refused(line: Line) -> dict[str, bytes]:
    """By track, why its event is a dead letter."""
    letters = await read_topic(line.servers, "dead-letters")
    return {letter.key.decode(): dict(letter.headers)["mess.error"] for letter in letters if letter.key}


async def test_a_catalogue_keeps_to_one_model(line: Line) -> None:
    """Another one's vectors of the same dimension are dead letters, and the lists stay exact."""
    await publish(line.servers, [message(f"old/{i}", None) for i in range(20)])
    await settle(line.database_url, line.servers)
    await publish(line.servers, [message("named", "m-1")])
    await settle(line.database_url, line.servers)
    assert await refused(line) == {"named": b"wrong_model"}

    # Its operator knows what made the vectors, and says so.
    line.worker.stop()
    knowing = line.another_worker("knowing", MESS_EMBEDDING_MODEL="m-1")
    knowing.start()
    try:
        await publish(line.servers, [message("named", "m-1"), message("old/3", "m-2"), message("new", None)])
        await settle(line.database_url, line.servers)
        assert await refused(line) == {"named": b"wrong_model", "old/3": b"wrong_model"}
        assert await wrong_lists(line.database_url) == []
        connection = await asyncpg.connect(line.database_url)
        try:
            assert await connection.fetchval("SELECT model FROM catalogue") == "m-1"
            assert await connection.fetchval("SELECT count(*) FROM tracks") == 22
        finally:
            await connection.close()
    finally:
        knowing.stop()

    # The name stays, whatever another worker is told.
    wrong = line.another_worker("wrong", MESS_EMBEDDING_MODEL="m-2")
    wrong.start()
    try:
        await publish(line.servers, [message("more", "m-2")])
        await settle(line.database_url, line.servers)
        assert (await refused(line))["more"] == b"wrong_model"
        assert "the catalogue's embeddings are of another model" in wrong.log.read_text()
    finally:
        wrong.stop()
