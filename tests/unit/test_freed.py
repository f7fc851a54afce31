"""What a process has freed is the system's again."""

import platform
import subprocess
import sys

import pytest

from streams.freed import GIVING_MEMORY_BACK, GROWN_BYTES, LOOK_SECONDS, FreedMemory, resident_bytes

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no way to"),
]

_FREEING = """
import os, psutil, sys
from streams.freed import give_memory_back
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


def test_memory_is_given_back_after_growth_until_nothing_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By looks some seconds apart; what made a process grow may be freed after the first."""
    now, resident = [1_000.0], [100 * GROWN_BYTES]
    frees = [0, 0, 5 * GROWN_BYTES, 0]
    monkeypatch.setattr("streams.freed.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "streams.freed.give_memory_back", lambda: resident.append(resident.pop() - frees.pop(0))
    )
    freed = FreedMemory(lambda: resident[0])

    def look() -> bool:
        now[0] += LOOK_SECONDS
        return freed.give_back()

    assert look()
    assert not freed.give_back()  # too soon
    assert [look(), look(), look(), look()] == [True, False, False, False]
    resident[0] += 2 * GROWN_BYTES
    assert [look(), look(), look()] == [True, True, False]
    assert frees == []


def test_resident_memory_is_measured() -> None:
    """In bytes, not in pages."""
    assert resident_bytes() > 10 * 1024 * 1024
