"""Recommendation strategies: pure functions over candidates.

`select` makes a list, `explain` says where a track stands, `registry` knows the strategies by name,
`seeds.combine` makes a query vector, `filters.parse` reads filters, `popularity` and `metrics` are arithmetic.
"""

from streams.strategies.errors import InvalidQuery, MissingData, StrategyError
from streams.strategies.selection import (
    candidates_wanted,
    explain,
    fields_needed,
    select,
)
from streams.strategies.source import CandidateSource, Source
from streams.strategies.types import (
    Candidates,
    Caps,
    Choice,
    Columns,
    Filter,
    Item,
    NearDuplicates,
    Placement,
    Query,
    Seed,
    Selection,
    StageCount,
)

__all__ = [
    "CandidateSource",
    "Candidates",
    "Caps",
    "Choice",
    "Columns",
    "Filter",
    "InvalidQuery",
    "Item",
    "MissingData",
    "NearDuplicates",
    "Placement",
    "Query",
    "Seed",
    "Selection",
    "Source",
    "StageCount",
    "StrategyError",
    "candidates_wanted",
    "explain",
    "fields_needed",
    "select",
]
