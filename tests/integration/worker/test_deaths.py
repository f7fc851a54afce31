"""Workers that die at the same message: it is found among its neighbours, and left behind; health says so."""

from dataclasses import replace
from typing import Any

import pytest

from store import lives
from store.lives import fetch_workers
from store.pool import transaction
from streams.errors import SkippedMessagesError
from streams.maintenance import ingest
from tests.integration.worker.test_isolation import IsolationBench, bench, event

pytestmark = pytest.mark.integration
__all__ = ["bench"]


async def look(bench: IsolationBench) -> None:
    """What a worker does when it has claimed its partition."""
    async with transaction(bench.pool) as connection:
        bench.ingest.suspect(await lives.suspect_offsets(connection, [0]))


class Killed(BaseException):
    """The process ends here: nothing is noted."""


async def life(bench: IsolationBench, monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """One life of a worker that a message kills; returns how many messages each batch had."""
    await lives.begin_life(bench.pool, "w", "test")
    await look(bench)
    sizes: list[int] = []
    real = ingest.decode_messages

    def deadly(messages: Any, layout: Any) -> Any:
        sizes.append(len(messages))
        if any(message.key == b"deadly" for message in messages):
            raise Killed
        return real(messages, layout)

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "decode_messages", deadly)
        names = [f"good/{i}" for i in range(3)] + ["deadly"] + [f"late/{i}" for i in range(3)]
        messages = [event(offset, name) for offset, name in enumerate(names)][:count]
        try:
            await bench.ingest.process(messages)
        except Killed:
            sizes.append(0)
    return sizes


async def test_a_message_that_kills_whoever_reads_it_is_refused_after_a_few_deaths(
    bench: IsolationBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two deaths in a batch, then one by one, six deaths at the message alone, then it is a dead letter and all goes on."""
    assert [await life(bench, monkeypatch, 7) for _ in range(2)] == [[7, 0], [7, 0]]
    assert await life(bench, monkeypatch, 7) == [1, 1, 1, 1, 0]
    assert [await life(bench, monkeypatch, 7) for _ in range(5)] == [[1, 0]] * 5
    assert await life(bench, monkeypatch, 7) == [1, 1, 1]
    assert sorted(await bench.titles()) == [
        *(f"good/{i}" for i in range(3)),
        *(f"late/{i}" for i in range(3)),
    ]
    letters = await bench.letters("track-ingest")
    assert letters == {
        3: ("unprocessable", "WorkerDied: 6 workers died while they worked on nothing but this message")
    }


async def test_messages_behind_a_gap_are_not_taken(bench: IsolationBench) -> None:
    """What follows upon messages that never came ends the worker; offsets without messages are no gap."""
    await bench.ingest.process([replace(event(0, "a"), follows=0), replace(event(3, "b"), follows=1)])
    await bench.ingest.process([replace(event(1, "again"), follows=1)])
    with pytest.raises(SkippedMessagesError, match="partition 0: messages from 4 to 6 were dropped"):
        await bench.ingest.process([replace(event(6, "c"), follows=6)])
    await bench.ingest.process([replace(event(6, "c"), follows=4)])
    assert set(await bench.titles()) == {"a", "b", "c"}


async def test_deaths_elsewhere_make_nobody_suspect(bench: IsolationBench) -> None:
    """Ends that were asked for, and deaths at other offsets, change nothing."""
    for _ in range(3):
        await lives.begin_life(bench.pool, "w", "test")
        await lives.end_life(bench.pool, "w", None)
    async with transaction(bench.pool) as connection:
        assert await lives.suspect_offsets(connection, [0]) == {}
    for _ in range(2):
        await lives.begin_life(bench.pool, "w", "test")
        await lives.end_life(bench.pool, "w", "OverflowError: date value out of range")
    await bench.ingest.process([event(0, "a")])
    async with transaction(bench.pool) as connection:
        assert await lives.suspect_offsets(connection, [0]) == {}


async def test_the_store_knows_how_the_workers_are(bench: IsolationBench) -> None:
    """Deaths with their last error, who is alive, when one last owned a partition, how long events have waited."""
    assert (await fetch_workers(bench.pool)).owned_ago is None
    for _ in range(3):  # the second and the third find one that has ended without notice
        await lives.begin_life(bench.pool, "w", "test")
    await lives.record_heartbeat(
        bench.pool, "test", owning=True, stalled_seconds=41.0, figures={"wrong_lists": 0}
    )
    state = await fetch_workers(bench.pool)
    assert (state.deaths, len(state.workers), state.stalled) == (2, 1, 41.0)
    assert state.last_error == "w: ended without notice"
    (worker,) = state.workers
    assert (worker.name, worker.figures) == ("w", {"wrong_lists": 0})
    assert state.owned_ago is not None
    assert state.owned_ago < 10
    await bench.pool.execute("UPDATE worker_lives SET owning_at = now() - interval '20 seconds'")
    await lives.end_life(bench.pool, "w", "KeyError: 'x'")
    state = await fetch_workers(bench.pool)
    assert (state.deaths, state.workers, state.last_error) == (3, (), "w: KeyError: 'x'")
    assert round(state.owned_ago or 0) >= 20


async def test_a_worker_learns_that_another_has_its_name(bench: IsolationBench) -> None:
    """Its life has ended with the other's start; a database that was made anew has said nothing of it."""
    await lives.begin_life(bench.pool, "w", "w/1")
    assert await lives.record_heartbeat(bench.pool, "w/1", owning=True, stalled_seconds=0)
    await lives.begin_life(bench.pool, "w", "w/2")
    assert not await lives.record_heartbeat(bench.pool, "w/1", owning=True, stalled_seconds=0)
    assert await lives.record_heartbeat(bench.pool, "w/2", owning=True, stalled_seconds=0)
    assert await lives.record_heartbeat(bench.pool, "w/unknown", owning=True, stalled_seconds=0)


async def test_a_long_life_is_not_forgotten(bench: IsolationBench) -> None:
    """Lives are forgotten a week after they were seen last, not after their start."""
    await lives.begin_life(bench.pool, "old", "old/1")
    await lives.begin_life(bench.pool, "gone", "gone/1")
    await bench.pool.execute("UPDATE worker_lives SET begun_at = now() - interval '30 days'")
    await bench.pool.execute("UPDATE worker_lives SET seen_at = begun_at WHERE worker = 'gone'")
    await lives.begin_life(bench.pool, "new", "new/1")
    assert [worker.name for worker in (await fetch_workers(bench.pool)).workers] == ["new", "old"]
    assert await bench.pool.fetchval("SELECT count(*) FROM worker_lives") == 2
