"""The strategies by name: what they do, their other names, modes and settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streams.strategies import blends, diverse, exploration
from streams.strategies.errors import InvalidQuery
from streams.strategies.parameters import Parameter, Value, settings
from streams.strategies.ranking import Ranking
from streams.strategies.similarity import similarity
from streams.strategies.types import Candidates, Caps, Query, Settings

Rank = Callable[[Candidates, Query, Settings], Ranking]
AUTO: Final = "auto"
DEFAULT: Final = "similarity"


@dataclass(frozen=True, slots=True)
class RankingMode:
    """One way of a strategy to rank.

    Attributes:
        rank: The pure function behind it; None for `auto`, which hands over to another.
        formula: In a line, for people.
        vectors: Whether it uses the candidates' vectors.
    """

    name: str | None
    description: str
    formula: str
    source: str
    rank: Rank | None
    vectors: bool = False


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy as callers know it; the first of its modes is its default."""

    name: str
    description: str
    modes: tuple[RankingMode, ...]
    parameters: tuple[Parameter, ...] = ()
    aliases: Mapping[str, str | None] | None = None

    def taken_by(self, mode: str | None) -> list[Parameter]:
        """The parameters that a mode takes."""
        return [one for one in self.parameters if not one.modes or mode in one.modes]

    def describe(self) -> dict[str, Any]:
        """The strategy as JSON has it."""
        named = [mode for mode in self.modes if mode.name]
        return {
            "name": self.name,
            "description": self.description,
            "aliases": [
                {"name": alias, **({"mode": mode} if mode else {})}
                for alias, mode in (self.aliases or {}).items()
            ],
            "formula": self.modes[0].formula,
            "source": self.modes[0].source,
            "default_mode": self.modes[0].name,
            "modes": [
                {"name": m.name, "description": m.description, "formula": m.formula, "source": m.source}
                for m in named
            ],
            "parameters": [parameter.describe() for parameter in self.parameters],
        }


@dataclass(frozen=True, slots=True)
class Resolved:
    """A strategy, one of its modes, and every setting with its value."""

    strategy: Strategy
    mode: RankingMode
    settings: Mapping[str, Value]


def _pool(default: int) -> Parameter:
    text = "how many of the most similar tracks that may be listed are re-ranked; others follow when these run out"
    return Parameter("pool", "integer", default, text, 10, 5000)


def _share(name: str, default: float, text: str, *modes: str) -> Parameter:
    return Parameter(name, "number", default, text, 0, 1, modes)


STRATEGIES: Final = (
    Strategy(
        "similarity",
        "The tracks most like the reference, the most similar first.",
        (
            RankingMode(
                None,
                "Cosine.",
                "score = cosine similarity of the two embeddings, from -1 to 1",
                "Salton, Wong and Yang 1975",
                similarity,
            ),
        ),
        aliases={"similar": None},
    ),
    Strategy(
        "diverse",
        "Tracks like the reference that differ among themselves.",
        (
            RankingMode(
                "mmr",
                "Maximal marginal relevance: each next track like the reference, unlike those above it.",
                "score = lambda * similarity - (1 - lambda) * max cosine to the tracks above",
                "Carbonell and Goldstein 1998",
                diverse.mmr,
                vectors=True,
            ),
            RankingMode(
                "cluster",
                "The best of each cluster of the candidates, round after round.",
                "spherical k-means; order = (place within cluster, best of cluster); score = similarity",
                "Dhillon and Modha 2001; Gonzalez 1985",
                diverse.cluster,
                vectors=True,
            ),
            RankingMode(
                "novelty",
                "Little-known tracks like the reference.",
                "score = (1 - weight) * similarity' + weight * (-log2 p)'; ' = min-max normalised",
                "Zhou et al. 2010; Castells, Vargas and Wang 2011",
                diverse.novelty,
            ),
            RankingMode(
                "serendipity",
                "Like the reference, but not what its facts or the other candidates would lead one to expect.",
                "score = similarity' * (metadata * (1 - overlap) + (1 - metadata) * (1 - typicality))",
                "Ge, Delgado-Battenfeld and Jannach 2010; Adamopoulos and Tuzhilin 2014",
                diverse.serendipity,
                vectors=True,
            ),
            RankingMode(
                "contrast",
                "As different as can be, of the same form or instrument.",
                "score = relation * (1 - similarity) / 2; relation = share of form and instrument in common",
                "Ziegler et al. 2005",
                diverse.contrast,
            ),
        ),
        (
            _share("lambda", 0.7, "relevance against diversity; 1 is similarity", "mmr"),
            Parameter("clusters", "integer", 0, "how many clusters; 0 means top_k", 0, 50, ("cluster",)),
            Parameter(
                "one_per_cluster",
                "boolean",
                False,
                "one track of each cluster; if more are needed, they follow by similarity",
                modes=("cluster",),
            ),
            _share("weight", 0.5, "novelty against similarity", "novelty"),
            _share("metadata", 0.5, "unexpected by its facts against untypical in sound", "serendipity"),
            Parameter(
                "pool",
                "integer",
                0,
                "how many of the most similar tracks that may be listed are re-ranked; 0 means 200, for cluster five "
                "times top_k, for contrast 5,000",
                0,
                5000,
            ),
        ),
        aliases={"complementary": "cluster"},
    ),
    Strategy(
        "popular",
        "Tracks like the reference that many listen to lately.",
        (
            RankingMode(
                None,
                "Similarity blended with popularity.",
                "score = (1 - weight) * similarity' + weight * popularity percentile",
                "Fox and Shaw 1994; Gamma-Poisson smoothing: Clayton and Kaldor 1987",
                blends.popular,
            ),
        ),
        (_share("weight", 0.5, "popularity against similarity"), _pool(200)),
    ),
    Strategy(
        "hybrid",
        "A bit of everything: likeness in sound and in facts, popularity, and variety.",
        (
            RankingMode(
                None,
                "A weighted blend, diversified.",
                "score = (1 - diversity) * weighted mean(similarity', metadata, popularity, novelty') "
                "- diversity * max cosine to the tracks above",
                "Burke 2002; Carbonell and Goldstein 1998",
                blends.hybrid,
                vectors=True,
            ),
        ),
        (
            _share("similarity", 0.6, "weight of similarity"),
            _share("metadata", 0.2, "weight of the facts in common with the seeds"),
            _share("popularity", 0.2, "weight of the popularity percentile"),
            _share("novelty", 0.0, "weight of novelty"),
            _share("diversity", 0.2, "how much a track loses by being like those above it"),
            _pool(200),
        ),
        aliases={"balanced": None},
    ),
    Strategy(
        "random",
        "A draw from the tracks like the reference; the same draw within a time window.",
        (
            RankingMode(
                None,
                "Weighted sampling without replacement.",
                "score = similarity' / temperature + Gumbel noise of (seeds, time window, candidate)",
                "Efraimidis and Spirakis 2006; Kool, van Hoof and Welling 2019",
                exploration.random,
            ),
        ),
        (
            Parameter("temperature", "number", 0.5, "high draws evenly, low by similarity", 0.01, 100),
            Parameter("seed", "integer", 0, "another seed, another draw", 0, 2**31 - 1),
            _pool(200),
        ),
        aliases={"exploration": None},
    ),
    Strategy(
        AUTO,
        "Chooses one of the others by what is known of the listener and of the candidates, and says why.",
        (
            RankingMode(
                None,
                "Rules, first match wins.",
                "goal; skips; seeds that differ; candidates too much alike; popularity known; else similarity",
                "own",
                None,
                vectors=True,
            ),
        ),
    ),
)

ALIASES: Final[Mapping[str, tuple[str, str | None]]] = {
    alias: (strategy.name, mode)
    for strategy in STRATEGIES
    for alias, mode in (strategy.aliases or {}).items()
}
_BY_NAME: Final = {strategy.name: strategy for strategy in STRATEGIES}
# How many tracks are re-ranked where a strategy says nothing else, and at most.
DEFAULT_POOL: Final = 200
MOST: Final = 5_000
_POOL_OF_CLUSTERS: Final = 5


def resolve(name: str, mode: str | None = None, given: Mapping[str, Any] | None = None) -> Resolved:
    """The strategy called `name`, which may be an alias, its mode, and that mode's settings with defaults filled in.

    `auto` has no settings: what it chooses has its defaults.

    Raises:
        InvalidQuery: no such strategy or mode, an alias of one mode with another, a parameter that the mode does not
            take, or a value out of bounds.
    """
    canonical, alias_mode = ALIASES.get(name, (name, None))
    strategy = _BY_NAME.get(canonical)
    if strategy is None:
        raise InvalidQuery("strategy", f"is none of {', '.join([*_BY_NAME, *ALIASES])}")
    if mode and alias_mode and mode != alias_mode:
        raise InvalidQuery("mode", f"contradicts {name}, which is {canonical} in mode {alias_mode}")
    wanted = mode or alias_mode or strategy.modes[0].name
    for known in strategy.modes:
        if known.name == wanted:
            whose = f"{canonical}/{known.name}" if known.name else canonical
            return Resolved(strategy, known, settings(whose, strategy.taken_by(known.name), given or {}))
    named = [known.name for known in strategy.modes if known.name]
    has = f"its modes are {', '.join(named)}" if named else "it has none"
    raise InvalidQuery("mode", f"is not a mode of {strategy.name}: {has}")


def pool_size(resolved: Resolved, query: Query) -> int:
    """How many tracks, the most similar of those that may be listed, are re-ranked at first."""
    if resolved.strategy.name == DEFAULT and not query.hub_correction:
        # They rank alike in whatever pool: room for some that near-duplicates and caps close.
        return query.top_k if query.near_duplicates is None and query.caps == Caps() else 2 * query.top_k
    chosen = int(resolved.settings.get("pool", 0))
    # Clusters of many candidates have their best members far from the seed: measured, they cost more than they add.
    by_mode = {"contrast": MOST, "cluster": _POOL_OF_CLUSTERS * query.top_k}
    return chosen or by_mode.get(resolved.mode.name or "", DEFAULT_POOL)


def describe_strategies() -> list[dict[str, Any]]:
    """Every strategy as JSON has it: names, aliases, modes, formulas, sources, parameters with bounds."""
    return [strategy.describe() for strategy in STRATEGIES]
