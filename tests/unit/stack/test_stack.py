"""What the whole stack promises of its parts."""

import asyncio
from pathlib import Path

import pytest

from mess.stack.kafka import EmbeddedKafka
from mess.stack.postgres import EmbeddedPostgres
from mess.stack.stack import PIPELINE_GRACE, run_together
from mess.stack.tansu import EmbeddedTansu

pytestmark = pytest.mark.unit

STOP_PROMISE_SECONDS = 15


def test_the_longest_stop_keeps_the_promise(tmp_path: Path) -> None:
    """Stages stop one after the other, and their grace together is less than the 15 s a stop may take."""
    log = tmp_path / "x.log"
    kafka = EmbeddedKafka(tmp_path, Path("/java"), Path("/jars"), port=1, controller_port=2, log=log)
    brokers = [kafka.service(), EmbeddedTansu(port=1, log=log).service()]
    database = EmbeddedPostgres(tmp_path / "postgres", 3, log).service()
    longest = PIPELINE_GRACE + max(broker.stop_grace for broker in brokers) + database.stop_grace
    assert longest < STOP_PROMISE_SECONDS


async def test_work_done_together_fails_together() -> None:
    """If one of several starts fails, its error comes out and the others have ended by then."""
    ended = []

    async def endless() -> None:
        try:
            await run_together(_never())
        finally:
            ended.append(True)

    async def failing() -> None:
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        await run_together(endless(), failing())
    assert ended == [True]


async def _never() -> None:
    await asyncio.Event().wait()
