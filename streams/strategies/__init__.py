"""Recommendation strategies: pure functions over candidates.

`select` makes a list, `explain` and `explain_beyond` say where a candidate stands, `registry` knows the strategies by name,
`seeds.combine` makes a query vector, `filters.parse` reads filters, `popularity` and `metrics` are arithmetic.
"""

from streams.strategies.errors import InvalidQuery, MissingData, StrategyError
from streams.strategies.picking import listable
from streams.strategies.selection import (
    MOST,
    candidates_wanted,
    explain,
    explain_beyond,
    fields_needed,
    select,
    select_widening,
)
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
    "MOST",
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
    "StageCount",
    "StrategyError",
    "candidates_wanted",
    "explain",
    "explain_beyond",
    "fields_needed",
    "listable",
    "select",
    "select_widening",
]
