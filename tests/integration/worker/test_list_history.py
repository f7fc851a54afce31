"""A worker that keeps the lists it replaces, and the API that answers from them."""

from datetime import datetime

import asyncpg
import numpy as np
import pytest

from streams.contracts import track_key
from tests.integration.serving.conftest import serve
from tests.integration.worker.conftest import Line
from tests.integration.worker.over_http import served
from tests.support.polling import until
from tests.support.services import PostgresServer
from tests.support.worker import publish, settle, track_message, wrong_lists

pytestmark = pytest.mark.integration

TRACKS = 12


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    """Lists are kept for an hour."""
    return {"MESS_LIST_HISTORY": "1h"}


def vector(angle: float) -> np.ndarray:
    """A direction in the plane, which makes neighbours easy to foresee."""
    return np.array([np.cos(angle), np.sin(angle)])


async def test_a_list_is_read_as_it_was_before_events_changed_it(
    line: Line, postgres_server: PostgresServer
) -> None:
    """A new first neighbour, its end, and the end of the track itself: each list that there was is read again."""
    await publish(
        line.servers, [track_message(f"past/{i:02}", vector(0.1 * i), title=f"T{i}") for i in range(TRACKS)]
    )
    await settle(line.database_url, line.servers)
    async with serve(served(line, postgres_server)) as http:

        async def listed(**parameters: object) -> tuple[list[str | None], dict[str, object]]:
            response = await http.get("/recommend/past%2F00", params={"top_k": 3, **parameters})
            assert response.status_code == 200, response.text
            body = response.json()
            return [item["track_id"] for item in body["recommendations"]], body

        before, body = await listed()
        assert before == ["past/01", "past/02", "past/03"]
        moments = [body["generated_at"]]
        for message, first in (
            (track_message("past/new", vector(0.01), title="New"), "past/new"),
            ((b"past/new", None), "past/01"),
        ):
            await publish(line.servers, [message])
            await settle(line.database_url, line.servers)

            async def changed(first: str = first) -> bool:
                return (await listed())[0][0] == first

            await until(changed)
            moments.append((await listed())[1]["generated_at"])
        assert (await listed(as_of=moments[0]))[0] == before
        names, past = await listed(as_of=moments[1])
        assert names == [None, "past/01", "past/02"]
        assert datetime.fromisoformat(str(past["replaced_at"])) <= datetime.fromisoformat(str(moments[2]))
        assert (await listed(as_of=past["version"]))[1]["version"] == past["version"]
        assert (await listed(as_of=moments[2]))[0] == before

        await publish(line.servers, [(b"past/00", None)])
        await settle(line.database_url, line.servers)

        async def gone() -> bool:
            return (await http.get("/recommend/past%2F00")).status_code == 404

        await until(gone)
        assert (await listed(as_of=moments[2]))[0] == before
    assert await wrong_lists(line.database_url) == []
    connection = await asyncpg.connect(line.database_url)
    try:
        # Each list that was replaced is there once, and ends where the next one begins.
        rows = await connection.fetch(
            "SELECT version, replaced_by FROM list_history WHERE key = $1 ORDER BY version",
            track_key("past/00"),
        )
        ends = [row["replaced_by"] for row in rows]
        assert [row["version"] for row in rows][1:] == ends[:-1]
        assert len(rows) >= 3
    finally:
        await connection.close()


async def test_a_worker_that_keeps_none_deletes_what_there_is(line: Line) -> None:
    """So the setting can be taken back."""
    connection = await asyncpg.connect(line.database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM list_history") > 0
        line.worker.stop()
        other = line.another_worker("without", MESS_LIST_HISTORY="0")
        other.start()
        try:

            async def deleted() -> bool:
                return await connection.fetchval("SELECT count(*) FROM list_history") == 0

            await until(deleted)
            await publish(line.servers, [track_message("past/late", vector(0.02))])
            await settle(line.database_url, line.servers)
            assert await connection.fetchval("SELECT count(*) FROM list_history") == 0
        finally:
            other.kill()
    finally:
        await connection.close()
