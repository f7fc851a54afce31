"""A log is followed again after every failure, sooner after a long healthy time."""

import pytest
from aiokafka.errors import KafkaError

from serving.kafka.broker import keep_following

pytestmark = pytest.mark.unit


class EnoughError(Exception):
    """Ends what would go on for ever."""


async def test_the_waits_begin_anew_after_the_log_was_followed_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waits double while the broker stays away; a connection that lasted brings the first wait back."""
    now, waits = [1_000.0], list[float]()
    lasting = iter([0.0, 0.0, 0.0, 60.0, 0.0])

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    async def follow() -> None:
        lasted = next(lasting, None)
        if lasted is None:
            raise EnoughError
        now[0] += lasted
        raise KafkaError("gone")

    monkeypatch.setattr("serving.kafka.broker.time.monotonic", lambda: now[0])
    monkeypatch.setattr("serving.kafka.broker.asyncio.sleep", sleep)
    with pytest.raises(EnoughError):
        await keep_following(follow, "away")
    assert waits == [0.2, 0.4, 0.8, 0.2, 0.4]
