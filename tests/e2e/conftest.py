"""The brokers that end-to-end tests run on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Clone, ClonedStack
from tests.support.services import require_kafka


def _require(kind: str) -> None:
    """Skip or fail unless tests are to run on this broker and can."""
    wanted = os.environ.get("MESS_TEST_BROKER", "auto")
    if wanted not in ("auto", kind):
        pytest.skip(f"MESS_TEST_BROKER={wanted}")
    if kind == "kafka":
        require_kafka()


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
def stack(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClonedStack]:
    """A stack started from a clone, its catalogue empty; for tests that use track ids of their own."""
    clone = Clone.make(tmp_path_factory.mktemp(broker) / "mess-ai")
    with clone.up("--no-demo", "--port=0", f"--broker={broker}") as up:
        assert up.broker == broker
        yield up
