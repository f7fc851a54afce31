"""The tracks most like the reference."""

from typing import Final

import numpy as np

from streams.strategies.entries import RankingMode, Strategy
from streams.strategies.ranking import FixedRanking
from streams.strategies.types import Candidates, Query, Settings


def similarity(pool: Candidates, query: Query, settings: Settings) -> FixedRanking:
    """Score = cosine of the candidate to the query, -1 to 1.

    The vector space model: G. Salton, A. Wong and C. S. Yang, "A vector space model for automatic indexing",
    CACM 18(11), 1975.
    """
    del query, settings
    return FixedRanking(pool.similarity.astype(np.float64))


SIMILARITY: Final = Strategy(
    "similarity",
    "The tracks most like the reference, the most similar first.",
    (
        RankingMode(
            description="Cosine.",
            formula="score = cosine similarity of the two embeddings, from -1 to 1",
            source="Salton, Wong and Yang 1975",
            rank=similarity,
            goal="similar",
        ),
    ),
    aliases={"similar": None},
)
