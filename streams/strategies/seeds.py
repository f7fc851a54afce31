"""Combines seeds and negatives to one query vector, and computes each seed's contribution to a similarity."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.strategies.arrays import cosines
from streams.strategies.errors import InvalidQuery, MissingData
from streams.strategies.types import Candidates, Floats, Query, Seed, Vector, Vectors

# The usual weights: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, section 9.1.1.
BETA: Final = 0.75
GAMMA: Final = 0.15


@dataclass(frozen=True, eq=False, slots=True)
class QueryVector:
    """What to search for.

    Attributes:
        vector: float32 (d,), at most of unit length.
        coefficients: float64 (m,), of each seed, in the order of `Query.seeds`: the similarity of x is the sum over seeds of
            coefficient * similarity(seed, x), plus what the embedding and the negatives add.
        scale: The similarity of x is this times the inner product of the vector and x.
    """

    vector: Vector
    coefficients: Floats
    scale: float = 1.0


def combine_seeds(query: Query) -> QueryVector:
    """The query vector of seeds, negatives and a raw embedding.

    q = e + BETA * sum(w_i s_i) / sum(w_i) - GAMMA * sum(v_j n_j) / sum(v_j), scaled to unit length, where e is
    the embedding, s_i the seeds with weights w_i and n_j the negatives with weights v_j.
    J. J. Rocchio, "Relevance feedback in information retrieval", in "The SMART Retrieval System", 1971.

    One seed alone gives its own vector to the bit, and an embedding alone keeps its length if it has aspects: one that it lacks
    counts 0, as a track's does.

    With `query.weights` the parts of q are weighed: the similarity of x is then the sum over what q is made of of its
    coefficient times the weighted mean of its aspects' cosines to x, scaled down where it could be above 1.

    Raises:
        InvalidQuery: nothing to start from, dimensions that differ, vectors that cancel out, or weights of aspects that there
            are not, or that the seeds lack.
        MissingData: a seed or negative without a vector.
    """
    combined = _combined(query)
    if not query.weights:
        return combined
    weighed = _factors(query, len(combined.vector)) * combined.vector.astype(np.float64)
    length = float(np.linalg.norm(weighed))
    if not length > 1e-9:
        lacking = "what the question starts from has none of these aspects"
        raise InvalidQuery("weights", lacking)
    # What several are combined to may be longer in an aspect than a track is.
    most = 1.0 if query.layout is None else max(1.0, query.layout.highest_product(weighed))
    return QueryVector((weighed / length).astype(np.float32), combined.coefficients / most, length / most)


def _factors(query: Query, dimension: int) -> Floats:
    """What components are multiplied by for the weights of a query, float64 (d,).

    Raises:
        InvalidQuery: the catalogue has other aspects, or none.
    """
    layout = query.layout
    names = () if layout is None else layout.names
    if layout is None or not names or layout.dimension != dimension:
        raise InvalidQuery("weights", "this catalogue's embeddings have no aspects")
    for name in query.weights or ():
        if name not in names:
            raise InvalidQuery("weights", f"this catalogue has no aspect {name}; it has {', '.join(names)}")
    return layout.factors(query.weights or {})


def _combined(query: Query) -> QueryVector:
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
        total += query.embedding
    shares = seed_coefficients(query)
    positive, negative = np.split(shares, [len(query.seeds)])
    if seeds is not None:
        total += positive @ seeds.astype(np.float64)
    if negatives is not None:
        total += negative @ negatives.astype(np.float64)
    length = float(np.linalg.norm(total))
    if not length > 1e-6:
        raise InvalidQuery("seeds", "they and the negatives cancel out: nothing is left to search for")
    if len(parts) == 1 and seeds is None and query.layout is not None and query.layout.aspects:
        length = 1.0
    return QueryVector((total / length).astype(np.float32), positive / length)


def seed_coefficients(query: Query) -> Floats:
    """How much of each seed and then of each negative `combine_seeds` adds up, before it scales: float64 (m,)."""
    return np.concatenate([BETA * _shares(query.seeds), -GAMMA * _shares(query.negatives)])


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


def seed_contributions(query: Query, candidates: Candidates) -> Floats | None:
    """What each of m seeds adds to the similarity of n candidates: float64 (n, m).

    None with fewer than two seeds, or where vectors are not at hand: then there is nothing to tell apart.
    """
    if len(query.seeds) < 2 or any(seed.vector is None for seed in (*query.seeds, *query.negatives)):
        return None
    matrix = _matrix(query.seeds, "seeds")
    if candidates.vectors is None or matrix is None:
        return None
    if query.weights:
        weighed = _factors(query, matrix.shape[1]) * matrix.astype(np.float64)
        to_seeds: npt.NDArray[np.floating] = candidates.vectors.astype(np.float64) @ weighed.T
    else:
        to_seeds = cosines(candidates.vectors, matrix)
    return np.asarray(to_seeds * combine_seeds(query).coefficients, dtype=np.float64)
