"""The points at which a test may have a worker die."""

import os
import signal
import subprocess
import sys

import pytest

from streams.faults import VARIABLE, FaultPoint

pytestmark = pytest.mark.unit

PROGRAM = """
import os
from streams.faults import VARIABLE, FaultPoint, arm, reach
arm(os.environ.get(VARIABLE, ""))
for at in range(4):
    print(at, flush=True)
    reach(FaultPoint.BEFORE_ACK)
    reach(FaultPoint.AFTER_PUBLISH)
"""


def play(setting: str) -> subprocess.CompletedProcess[str]:
    """Run a program that comes to two points four times."""
    environment = os.environ | {VARIABLE: setting}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )


def test_nothing_happens_unless_a_point_is_set() -> None:
    """A process without the variable passes all points."""
    done = play("")
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2", "3"])


def test_a_process_dies_at_the_named_occurrence_of_its_point() -> None:
    """The third time a point is reached is the end, and other points do not count."""
    done = play(f"{FaultPoint.BEFORE_ACK}:3")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1", "2"])


@pytest.mark.parametrize("setting", ["nowhere:1", f"{FaultPoint.BEFORE_ACK}:0", f"{FaultPoint.BEFORE_ACK}:x"])
def test_a_point_that_does_not_exist_is_refused(setting: str) -> None:
    """A misspelt point would make a test that cannot fail."""
    done = play(setting)
    assert done.returncode == 1
    assert "ValueError" in done.stderr
