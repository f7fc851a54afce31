"""The strategy `random`: repeatable random draws."""

import hashlib
import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.strategies.arrays import min_max
from streams.strategies.entries import Components, RankingMode, Strategy
from streams.strategies.parameters import Parameter, pool_parameter
from streams.strategies.ranking import FixedRanking
from streams.strategies.types import Candidates, Floats, Keys, Query, Settings


def random(pool: Candidates, query: Query, settings: Settings) -> FixedRanking:
    """Drawn without replacement, a candidate with probability proportional to exp(similarity' / temperature).

    score = similarity' / temperature + g, where g = -ln(-ln u) is Gumbel noise: the k highest scores are such a sample.
    P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir", IPL 97(5), 2006; W. Kool, H. van
    Hoof and M. Welling, "Stochastic beams and where to find them", ICML 2019. similarity' is min-max normalised
    over the pool; a high temperature draws evenly, a low one like `similarity`.

    u is a hash of the candidate, the seeds, the setting `seed` and the time window: the same question has the
    same answer within a window, wherever and however often it is asked. Components: `relevance`, `noise`.
    """
    relevance = min_max(pool.similarity)
    noise = gumbel_noise(pool.keys, _entropy(query, int(settings["seed"])))
    score = relevance / float(settings["temperature"]) + noise
    return FixedRanking(score, {"relevance": relevance, "noise": noise})


def _entropy(query: Query, seed: int) -> int:
    """64 bits of what a draw depends on."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(struct.pack("<qq", int(query.moment // query.window), seed))
    for one in sorted(query.seeds, key=lambda one: (one.key, one.weight)):
        digest.update(struct.pack("<qd", one.key, one.weight))
    if query.embedding is not None:
        digest.update(query.embedding.astype("<f4").tobytes())
    return int.from_bytes(digest.digest(), "little")


def gumbel_noise(keys: Keys, entropy: int) -> Floats:
    """Standard Gumbel noise for each key, int64 (n,), from 64 bits of entropy: float64 (n,), the same every time."""
    bits = _mix(keys.view(np.uint64) ^ np.uint64(entropy))
    # 52 bits and a half fit a float64 exactly: strictly between 0 and 1.
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return np.asarray(-np.log(-np.log(uniform)), dtype=np.float64)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (G. L. Steele, D. Lea and C. H. Flood, OOPSLA 2014), twice: keys may be consecutive."""
    for _ in range(2):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def _explain_random(parts: Components) -> list[str]:
    del parts
    return ["drawn at random, the similar more likely"]


RANDOM: Final = Strategy(
    "random",
    "A draw from the tracks like the reference; the same draw within a time window.",
    (
        RankingMode(
            description="Weighted sampling without replacement.",
            formula="score = similarity' / temperature + Gumbel noise of (seeds, time window, candidate)",
            source="Efraimidis and Spirakis 2006; Kool, van Hoof and Welling 2019",
            rank=random,
            uses=frozenset({"time"}),
            goal="explore",
            explain=_explain_random,
        ),
    ),
    (
        Parameter("temperature", "number", 0.5, "high draws evenly, low by similarity", 0.01, 100),
        Parameter("seed", "integer", 0, "another seed, another draw", 0, 2**31 - 1),
        pool_parameter(200),
    ),
    aliases={"exploration": None},
)
