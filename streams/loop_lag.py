"""How late an event loop is: what is ready in it waits for as long before it runs."""

import asyncio
from typing import Final, NoReturn

from prometheus_client import CollectorRegistry, Histogram

INTERVAL_SECONDS: Final = 0.1
# uvloop's clock has a millisecond.
_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


def loop_lag_histogram(name: str, registry: CollectorRegistry) -> Histogram:
    """A metric for `measure_loop_lag`."""
    text = "Seconds by which the event loop is late: what is ready in it waits as long for what runs"
    return Histogram(name, text, buckets=_BUCKETS, registry=registry)


async def measure_loop_lag(lag: Histogram) -> NoReturn:
    """Measure how late the running event loop is, ten times a second, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        lag.observe(max(0.0, loop.time() - due))
