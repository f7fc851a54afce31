"""The thread that builds an index gives way to other work."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

SHOW = """
import os, threading
from streams.engine.search.index_process import _step_back

def build():
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    _step_back()
    print(before, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

thread = threading.Thread(target=build)
thread.start()
thread.join()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="priorities are of threads on Linux alone")
def test_the_thread_that_builds_has_the_lower_of_two_priorities() -> None:
    """Ten where the process has more; where it has given way further, as under `nice`, that stays: a rise takes a right."""
    for niceness in (0, 15):
        command = ["nice", "-n", str(niceness), sys.executable, "-c", SHOW]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        before, after, main = map(int, said.split())
        assert after == max(before, 10)
        assert main == before
