"""Retries operations while Postgres or Kafka is away."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from store.errors import StoreUnavailableError
from streams.errors import BrokerUnavailable
from streams.metrics import WorkerMetrics

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

TRANSIENT = (StoreUnavailableError, BrokerUnavailable, KafkaError)
# KafkaErrors that come again however often the message is sent.
_LASTING = (MessageSizeTooLargeError,)


def is_transient(error: BaseException) -> bool:
    """Whether the same attempt may succeed later."""
    return isinstance(error, TRANSIENT) and not isinstance(error, _LASTING)


async def until_done(
    attempt: Callable[[], Awaitable[Result]], *, what: str, system: str, metrics: WorkerMetrics
) -> Result:
    """Call `attempt` until it does not fail for a transient reason; other errors are raised.

    There is no limit: the events wait in Kafka, and health reports say what is away.
    """
    # Nearly always the first attempt does it, and what follows costs more than many an attempt.
    try:
        return await attempt()
    except TRANSIENT as error:
        if not is_transient(error):
            raise
        failed: Exception | None = error

    async def attempt_again() -> Result:
        nonlocal failed
        if failed is not None:
            error, failed = failed, None
            raise error
        return await attempt()

    def note(state: RetryCallState) -> None:
        metrics.retries.labels(system).inc()
        error = state.outcome.exception() if state.outcome else None
        log.warning("trying again", what=what, attempt=state.attempt_number, error=str(error))

    retrying = AsyncRetrying(
        retry=retry_if_exception(is_transient),
        wait=wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.5),
        before_sleep=note,
        reraise=True,
    )
    async for once in retrying:
        with once:
            return await attempt_again()
    raise AssertionError("retrying ends with a result or an error")
