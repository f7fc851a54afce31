"""How many examples a property is tried with: all of them, or a quarter in the inner loop.

`make check` and `make unit` set MESS_TEST_EXAMPLES=quarter. Everything else, CI among it, tries all.
"""

import os

from hypothesis import settings

QUARTER = os.environ.get("MESS_TEST_EXAMPLES", "all") == "quarter"


def examples(count: int) -> int:
    """Return the number of examples to try of `count`."""
    return max(count // 4, 10) if QUARTER else count


def register() -> None:
    """Let properties that say no number be tried with as many as these settings want, and without a deadline."""
    # A busy machine makes no test fail: there is no deadline for an example.
    settings.register_profile("mess", max_examples=examples(settings.default.max_examples), deadline=None)
    settings.load_profile("mess")
