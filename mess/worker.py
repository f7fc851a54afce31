"""One worker process: settings, logging, signals, the Faust app."""

import asyncio
import signal

import structlog

from serving.logging import configure_logging
from serving.settings import ServingSettings
from store.errors import StoreError
from store.settings import StoreSettings
from streams.app import create_app, run
from streams.errors import StreamsError
from streams.settings import KafkaSettings, StreamSettings

log = structlog.get_logger(__name__)


def main(kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings) -> int:
    """Run a worker until SIGINT or SIGTERM; the exit status says how it ended."""
    configure_logging(ServingSettings())
    try:
        asyncio.run(_run(kafka, streams, store))
    except (StoreError, StreamsError, OSError) as error:
        log.error("worker stops", error=str(error))
        return 1
    except Exception:
        log.exception("worker crashed")
        return 1
    return 0


async def _run(kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    app = create_app(kafka, streams, store)
    running = asyncio.create_task(run(app, stop), name="worker")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    # A worker that stands by is still starting: there is nothing to drain.
    if not running.done() and not app.started:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return
    await running
