"""Search by any vector: approximate where that is faster, with exact similarities for all that it finds."""

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
