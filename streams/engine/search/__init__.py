"""Search by arbitrary vector: approximate where that is faster, exact in everything it says about what it found."""

from streams.engine.search.process import SearchCallError, SearchProcess, SearchStoppedError
from streams.engine.search.types import SearchMatches, SearchSettings, SearchStats

__all__ = [
    "SearchCallError",
    "SearchMatches",
    "SearchProcess",
    "SearchSettings",
    "SearchStats",
    "SearchStoppedError",
]
