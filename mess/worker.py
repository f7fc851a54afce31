"""One worker process: settings, logging, signals, the Faust app."""

import asyncio
import logging
import os
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
    """Run a worker until SIGINT or SIGTERM; the exit status says how it ended.

    After a crash the process ends at once, without unwinding: what a broken Faust app still has running may wait for
    itself for ever, and nothing in memory is worth saving. The store and the log have everything.
    """
    configure_logging(ServingSettings())
    status = asyncio.new_event_loop().run_until_complete(_run(kafka, streams, store))
    if status:
        logging.shutdown()
        os._exit(status)
    return status


async def _run(kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await run(create_app(kafka, streams, store), stop)
    except (StoreError, StreamsError, OSError) as error:
        log.error("worker stops", error=str(error))
        return 1
    except Exception:
        log.exception("worker crashed")
        return 1
    return 0
