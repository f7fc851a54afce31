# ruff: noqa: INP001, T201 -- a script of the image's build, which prints
"""Prints, of the lock on standard input, what builds our wheel: hatchling and what is there because of it."""

import re
import sys


def build_backend(lock: str) -> str:
    """The blocks of hatchling and of its requirements; those name it in their comment `via`."""
    blocks = re.split(r"(?m)^(?=[a-z])", lock)
    return "".join(
        block
        for block in blocks
        if block.startswith("hatchling==") or re.search(r"(?m)^\s*#\s+(via\s+)?hatchling$", block)
    )


if __name__ == "__main__":
    print(build_backend(sys.stdin.read()))
