"""One worker process: settings, logging, signals, the Faust app."""

import asyncio
import logging
import os
import signal
import sys
from typing import NoReturn

import structlog
import uvloop
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from mess import collecting, tracing
from serving.logging import configure_logging
from store.errors import StoreError
from store.settings import StoreSettings
from streams.engine.process import EngineStoppedError
from streams.engine.search import SearchStoppedError
from streams.errors import StreamsError
from streams.faults import VARIABLE, arm
from streams.recommender.settings import RecommenderSettings
from streams.settings import KafkaSettings, StreamSettings
from streams.worker.app import create_worker_app, run_worker_app

log = structlog.get_logger(__name__)

# The interpreter's switch interval: a computing thread delays the event loop by so much at each system call. A request passes
# the loop a dozen times, so Python's default of 5 ms would add up to a good part of a second under load.
SWITCH_SECONDS = 0.0005


def _not_a_cancellation(record: logging.LogRecord) -> bool:
    """Drop Faust's reports of crashed agents that it has cancelled itself, at a rebalance or stop."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError)


def _quieten_faust() -> None:
    """Log only Faust's warnings: our own log covers starts and stops."""
    for name in ("faust", "mode", "streams.worker.transport"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("faust.agents.actor", "faust.agents.agent", "mode.supervisors"):
        logging.getLogger(name).addFilter(_not_a_cancellation)


def main(kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings) -> NoReturn:
    """Run a worker until SIGINT or SIGTERM, then end the process with a status that tells success from failure.

    It ends without unwinding: threads of a Faust app that has crashed, or whose broker is away, may wait for ever. Memory
    holds nothing worth saving; the store and the log have everything.
    """
    arm(os.environ.get(VARIABLE, ""))
    send_traces = tracing.start_tracing("mess-worker")
    configure_logging(streams.worker_log_format, streams.worker_log_level)
    _quieten_faust()
    sys.setswitchinterval(SWITCH_SECONDS)
    # Products are small here: a second BLAS thread would speed up none, and would spin while it waits.
    threadpool_limits(1, user_api="blas")
    collecting.keep_short()
    status = uvloop.new_event_loop().run_until_complete(_run(kafka, streams, store))
    send_traces()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


async def _run(kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await run_worker_app(create_worker_app(kafka, streams, store, RecommenderSettings()), stop)
    except (StoreError, StreamsError, EngineStoppedError, SearchStoppedError, OSError) as error:
        log.error("worker stops", error=str(error))
        return 1
    except Exception:
        log.exception("worker crashed")
        return 1
    return 0
