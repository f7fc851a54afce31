"""Whatever fails while a question is under way, who asked is told, in time."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from serving.kafka import worker_client
from serving.kafka.broker import BrokerUnavailableError
from serving.kafka.presence import WorkerDiscovery
from serving.kafka.worker_client import WorkerClient, WorkerClientOptions
from serving.metrics import ApiMetrics
from serving.problems import ProblemError
from streams.contracts import RecommendationQuery
from tests.support.polling import until

pytestmark = pytest.mark.unit

OPTIONS = WorkerClientOptions(
    "requests", "replies", "workers", timeout=0.4, broker_timeout=0.2, in_flight=100
)
QUERY = RecommendationQuery(track_id="a")


class _UnforeseenError(Exception):
    pass


class _Producer:
    """Takes requests, or fails or hangs as it is told."""

    def __init__(self, fails: Callable[[], Any] | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self._fails = fails

    async def send_and_wait(self, _: str, *, key: bytes, value: bytes, headers: Any) -> None:
        if self._fails is not None:
            await self._fails()
        self.sent.append(orjson.loads(value) | {"key": key.decode(), "headers": headers})


def _asker(monkeypatch: pytest.MonkeyPatch, producer: _Producer, present: Any = True) -> WorkerClient:
    """A client that is connected to what stands in for the broker; `present` is what the look for workers gives."""
    monkeypatch.setattr(worker_client, "_LATE_SECONDS", 0.05)
    monkeypatch.setattr(worker_client, "_GRACE_SECONDS", 0.1)
    asker = WorkerClient({}, OPTIONS, ApiMetrics())
    asker._producer = producer
    asker._connected.set()

    async def any_worker() -> bool | None:
        return await present() if callable(present) else present

    monkeypatch.setattr(asker._presence, "any_worker", any_worker)
    return asker


def _raising(error: BaseException) -> Callable[[], Any]:
    async def fail() -> None:
        raise error

    return fail


async def _hanging() -> None:
    """Goes on whatever is done to end it, as a library may that swallows cancellations."""
    for _ in range(10):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            continue


async def _waiting() -> None:
    await asyncio.Event().wait()


def _reply(request_id: str, value: bytes) -> ConsumerRecord:
    record = (("topic", "replies"), ("partition", 0), ("offset", 0), ("timestamp", 0), ("timestamp_type", 0))
    rest = (("checksum", None), ("serialized_key_size", 0), ("serialized_value_size", 0), ("headers", ()))
    return ConsumerRecord(**dict(record), key=request_id.encode(), value=value, **dict(rest))


async def _problem_of(asking: Any) -> str:
    async with asyncio.timeout(5):
        with pytest.raises(ProblemError) as caught:
            await asking
    return caught.value.name


@pytest.mark.parametrize(
    ("producer", "present", "problem"),
    [
        (_raising(_UnforeseenError()), True, "internal-error"),
        (_raising(KafkaError()), True, "broker-unavailable"),
        (_waiting, True, "broker-unavailable"),
        (_hanging, True, "no-reply"),
        (None, _raising(_UnforeseenError()), "internal-error"),
        (None, _raising(BrokerUnavailableError("away")), "broker-unavailable"),
        (None, _waiting, "no-reply"),
        (None, _hanging, "no-reply"),
        (None, False, "no-worker"),
        (None, True, "no-reply"),
        (None, None, "no-reply"),
    ],
)
async def test_every_failure_is_told_to_all_who_wait(
    monkeypatch: pytest.MonkeyPatch, producer: Callable[[], Any] | None, present: Any, problem: str
) -> None:
    """An error that nobody has foreseen, or a wait without end, at each await: two who ask alike are both told, once."""
    asker = _asker(monkeypatch, _Producer(producer), present)
    names = await asyncio.gather(*(_problem_of(asker.ask(QUERY)) for _ in range(2)))
    assert names == [problem] * 2
    assert asker.in_flight == 0
    assert asker._alike == {}
    await asker.close()


async def test_an_error_where_a_request_is_traced_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands around the awaits may fail, too."""

    def span(*_: Any, **__: Any) -> None:
        raise _UnforeseenError

    asker = _asker(monkeypatch, _Producer())
    monkeypatch.setattr(worker_client.tracing, "traced_span", span)
    assert await _problem_of(asker.ask(QUERY)) == "internal-error"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"request_id":"another","status":"ok"}',
        b'{"status":"error","error":{"headers":1,"name":2,"status":"x","title":[]}}',
        b'{"status":"error","error":7}',
        b"[" * 100_000,
    ],
)
async def test_a_reply_that_cannot_be_read_fails_its_question_alone(
    monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    """Who asked is told at once, not after the timeout, and the next reply is read."""
    producer = _Producer()
    asker = _asker(monkeypatch, producer)
    asking = asyncio.create_task(_problem_of(asker.ask(QUERY)))
    await until(lambda: len(producer.sent) == 1)
    asker._take(_reply(producer.sent[0]["key"], value))
    assert await asking == "internal-error"
    second = asyncio.create_task(asker.ask(QUERY))
    await until(lambda: len(producer.sent) == 2)
    request_id = producer.sent[1]["key"]
    asker._take(_reply(request_id, b'{"request_id":"%s","status":"ok","a":1}' % request_id.encode()))
    assert orjson.loads((await second).body) == {"a": 1}


async def test_who_waits_when_the_process_stops_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the client ends every wait with a problem, not with a cancellation that nobody asked for."""
    producer = _Producer()
    asker = _asker(monkeypatch, producer)
    asking = asyncio.create_task(_problem_of(asker.ask(QUERY)))
    await until(lambda: len(producer.sent) == 1)
    await asker.close()
    assert await asking == "broker-unavailable"


async def test_one_who_leaves_does_not_take_the_answer_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two who share a request the first may go."""
    producer = _Producer()
    asker = _asker(monkeypatch, producer)
    first, second = (asyncio.create_task(asker.ask(QUERY)) for _ in range(2))
    await until(lambda: len(producer.sent) == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    request_id = producer.sent[0]["key"]
    asker._take(_reply(request_id, b'{"request_id":"%s","status":"ok"}' % request_id.encode()))
    assert (await second).body == b"{}"


class _Admin(AIOKafkaAdminClient):
    """What answers about consumer groups, or does not."""

    def __init__(self, describe: Callable[[], Any], close: Callable[[], Any]) -> None:
        self._answer = describe
        self._end = close

    async def describe_consumer_groups(self, _: list[str]) -> Any:
        return await self._answer()

    async def close(self) -> None:
        await self._end()


@pytest.mark.parametrize("close", [_hanging, _raising(_UnforeseenError())])
@pytest.mark.parametrize(
    ("describe", "expected"),
    [
        (_raising(_UnforeseenError()), _UnforeseenError),
        (_raising(OSError()), BrokerUnavailableError),
        (_waiting, None),
    ],
)
async def test_a_look_for_workers_ends_however_the_broker_fails(
    monkeypatch: pytest.MonkeyPatch, describe: Any, expected: type[Exception] | None, close: Any
) -> None:
    """All who look at the same time share what comes of it, and a connection that does not close holds up nobody."""
    monkeypatch.setattr("serving.kafka.broker._STOPPING_SECONDS", 0.1)
    presence = WorkerDiscovery({}, "workers", timeout=0.1)
    monkeypatch.setattr(presence, "_client", _Admin(describe, close))
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(presence.any_worker() for _ in range(3)), return_exceptions=True)
        await presence.close()
    assert [type(each) for each in found] == [expected or type(None)] * 3
