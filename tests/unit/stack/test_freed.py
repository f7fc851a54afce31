"""What a process has freed is the system's again."""

import platform
import subprocess
import sys

import pytest

from mess.stack.freed import GIVING_MEMORY_BACK

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no way to"),
]

_FREEING = """
import os, psutil, sys
from mess.stack.freed import give_memory_back
blocks = [bytes(1_000) for _ in range(200_000)]
last = blocks[-1]  # stands above all the others, so that the heap cannot shrink
del blocks
before = psutil.Process().memory_info().rss
give_memory_back()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.parametrize("told", [{}, GIVING_MEMORY_BACK])
def test_what_was_freed_is_given_back(told: dict[str, str]) -> None:
    """Of 200 MB in small blocks, though one that is kept stands above them."""
    done = subprocess.run(
        [sys.executable, "-c", _FREEING], env=told, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 100 * 1024 * 1024
