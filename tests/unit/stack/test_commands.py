"""Programs that the stack runs to their end, and brokers that it asks."""

import subprocess
import sys

import pytest

from mess.stack.broker_probe import broker_answers
from mess.stack.commands import run_command

pytestmark = pytest.mark.unit


def test_a_failed_program_tells_its_reason_last() -> None:
    """Output and errors are one text, in order; a program that reads gets an end of file."""
    code = "import sys; print('begun', flush=True); print(sys.stdin.read() + 'no room', file=sys.stderr); sys.exit(3)"
    done = run_command([sys.executable, "-c", code])
    assert (done.status, done.last_line) == (3, "no room")
    assert done.output.splitlines()[0] == "begun"


def test_a_silent_program_has_no_reason() -> None:
    """And an environment of its own is all that it sees."""
    code = "import os, sys; sys.exit('PATH' in os.environ)"
    done = run_command([sys.executable, "-c", code], env={})
    assert (done.status, done.last_line) == (0, "no reason given")


def test_a_program_that_hangs_is_killed() -> None:
    """After its time."""
    with pytest.raises(subprocess.TimeoutExpired):
        run_command([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:none", "nowhere"])
async def test_an_address_where_nobody_listens_has_no_broker(address: str) -> None:
    """It is no error: the broker may still be starting."""
    assert not await broker_answers(address)
