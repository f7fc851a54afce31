"""The loop's lag is what holds it up."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry

from streams.loop_lag import INTERVAL_SECONDS, loop_lag_histogram, measure_loop_lag
from tests.support.polling import until

pytestmark = pytest.mark.unit


async def test_what_holds_the_loop_up_is_measured() -> None:
    """A call that does not yield makes the loop late by at least what it took beyond the interval."""
    registry = CollectorRegistry()
    running = asyncio.create_task(measure_loop_lag(loop_lag_histogram("lag_seconds", registry)))
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 -- it is to hold up the loop
    await until(lambda: registry.get_sample_value("lag_seconds_count") == 1)
    total = registry.get_sample_value("lag_seconds_sum")
    assert total is not None
    assert total >= 0.3 - INTERVAL_SECONDS - 0.01
    running.cancel()
