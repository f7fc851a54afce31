"""The brokers that end-to-end tests run on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mess.stack.jars import kafka_jars
from mess.stack.java import KafkaUnavailableError, find_java
from tests.e2e.stack import Clone, Up


def _require(kind: str) -> None:
    """Skip or fail unless tests are to run on this broker and can.

    Without Java the tests on Apache Kafka are skipped on a developer's machine; in CI that is a failure, unless
    MESS_TEST_BROKER=tansu says that it is meant so.
    """
    wanted = os.environ.get("MESS_TEST_BROKER", "auto")
    if wanted not in ("auto", kind):
        pytest.skip(f"MESS_TEST_BROKER={wanted}")
    if kind != "kafka":
        return
    try:
        find_java()
        kafka_jars(lambda _: None)
    except KafkaUnavailableError as reason:
        if wanted == "kafka" or os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"Apache Kafka cannot run here: {reason}")
        pytest.skip(f"APACHE KAFKA IS NOT TESTED: {reason}")


@pytest.fixture(scope="module", params=["kafka", "tansu"])
def broker(request: pytest.FixtureRequest) -> str:
    """Each broker in turn."""
    _require(request.param)
    return str(request.param)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone for this test alone."""
    return Clone.make(tmp_path / "mess-ai")


@pytest.fixture(scope="module")
def stack(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A stack started from a clone, its catalogue empty; for tests that use track ids of their own."""
    clone = Clone.make(tmp_path_factory.mktemp(broker) / "mess-ai")
    with clone.up("--no-demo", "--port=0", f"--broker={broker}") as up:
        assert up.broker == broker
        yield up
