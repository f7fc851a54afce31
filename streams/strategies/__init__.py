"""Recommendation strategies: pure functions over candidates.

`select_list` makes a list, `explain_candidate` explains the rank of a track, `registry` lists the strategies by name,
`seeds.combine_seeds` makes a query vector, `filters.parse_filters` parses filters, `popularity` and `metrics` are arithmetic.
"""

from streams.strategies.errors import InvalidQuery, MissingData, StrategyError
from streams.strategies.selection import (
    candidates_wanted,
    explain_candidate,
    fields_needed,
    select_list,
)
from streams.strategies.source import CandidateSource, Source
from streams.strategies.types import (
    CandidateColumns,
    CandidatePlacement,
    Candidates,
    Caps,
    Filter,
    NearDuplicates,
    Query,
    RecommendedItem,
    Seed,
    Selection,
    StageCount,
    StrategyChoice,
)

__all__ = [
    "CandidateColumns",
    "CandidatePlacement",
    "CandidateSource",
    "Candidates",
    "Caps",
    "Filter",
    "InvalidQuery",
    "MissingData",
    "NearDuplicates",
    "Query",
    "RecommendedItem",
    "Seed",
    "Selection",
    "Source",
    "StageCount",
    "StrategyChoice",
    "StrategyError",
    "candidates_wanted",
    "explain_candidate",
    "fields_needed",
    "select_list",
]
