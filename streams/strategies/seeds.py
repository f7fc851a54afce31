"""Several seeds and negatives as one query vector, and what each seed adds to a candidate's similarity."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.strategies.arrays import cosines
from streams.strategies.errors import InvalidQuery, MissingData
from streams.strategies.types import Floats, Query, Seed, Vector, Vectors

# The weights that the literature settled on: Manning, Raghavan and Schuetze, "Introduction to Information
# Retrieval", 2008, section 9.1.1.
ALPHA: Final = 1.0
BETA: Final = 0.75
GAMMA: Final = 0.15


@dataclass(frozen=True, eq=False, slots=True)
class QueryVector:
    """What to search for.

    Attributes:
        vector: float32 (d,), unit length.
        coefficients: float64 (m,), of each seed, in the order of `Query.seeds`: the cosine of the vector to x is
            the sum over seeds of coefficient * cosine(seed, x), plus what the embedding and the negatives add.
    """

    vector: Vector
    coefficients: Floats


def combine(query: Query, *, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> QueryVector:
    """The query vector of seeds, negatives and a raw embedding.

    q = alpha * e + beta * sum(w_i s_i) / sum(w_i) - gamma * sum(v_j n_j) / sum(v_j), scaled to unit length, where e is
    the embedding, s_i the seeds with weights w_i and n_j the negatives with weights v_j.
    J. J. Rocchio, "Relevance feedback in information retrieval", in "The SMART Retrieval System", 1971.

    One seed alone gives its own vector to the bit.

    Raises:
        InvalidQuery: nothing to start from, dimensions that differ, or vectors that cancel out.
        MissingData: a seed or negative without a vector.
    """
    seeds, negatives = _matrix(query.seeds, "seeds"), _matrix(query.negatives, "negatives")
    if seeds is None and query.embedding is None:
        raise InvalidQuery("seeds", "nothing to start from")
    if seeds is not None and len(seeds) == 1 and negatives is None and query.embedding is None:
        return QueryVector(seeds[0], np.ones(1))
    parts = [
        m
        for m in (seeds, negatives, None if query.embedding is None else query.embedding[None])
        if m is not None
    ]
    if len({part.shape[1] for part in parts}) > 1:
        raise InvalidQuery("embedding", "seeds, negatives and embedding differ in dimension")
    total = np.zeros(parts[0].shape[1])
    if query.embedding is not None:
        total += alpha * query.embedding.astype(np.float64)
    positive = beta * _shares(query.seeds)
    if seeds is not None:
        total += positive @ seeds.astype(np.float64)
    if negatives is not None:
        total -= gamma * _shares(query.negatives) @ negatives.astype(np.float64)
    length = float(np.linalg.norm(total))
    if not length > 1e-6:
        raise InvalidQuery("seeds", "they and the negatives cancel out: nothing is left to search for")
    return QueryVector((total / length).astype(np.float32), positive / length)


def _shares(seeds: tuple[Seed, ...]) -> Floats:
    weights = np.array([seed.weight for seed in seeds], dtype=np.float64)
    return weights / weights.sum() if len(weights) else weights


def _matrix(seeds: tuple[Seed, ...], name: str) -> Vectors | None:
    if not seeds:
        return None
    vectors = [seed.vector for seed in seeds if seed.vector is not None]
    if len(vectors) < len(seeds):
        raise MissingData(f"{name}: every one needs its vector")
    if len({len(vector) for vector in vectors}) > 1:
        raise InvalidQuery(name, "their vectors differ in dimension")
    return np.stack(vectors)


def contributions(query: Query, vectors: Vectors) -> npt.NDArray[np.float64] | None:
    """What each seed adds to the similarity of vectors, float32 (n, d): float64 (n, m).

    None with fewer than two seeds, or where their vectors are not at hand: then there is nothing to tell apart.
    """
    if len(query.seeds) < 2 or any(seed.vector is None for seed in (*query.seeds, *query.negatives)):
        return None
    combined = combine(query)
    matrix = _matrix(query.seeds, "seeds")
    assert matrix is not None
    return np.asarray(cosines(vectors, matrix) * combined.coefficients, dtype=np.float64)
