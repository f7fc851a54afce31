"""Why a track is listed, or is not, in a sentence made of true components alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from streams.strategies.types import Filter, Query, StrategyChoice

Components = Mapping[str, float]


def explanation(
    choice: StrategyChoice,
    similarity: float,
    components: Components,
    *,
    contribution: str | None,
    shared: Sequence[tuple[str, str]],
    relaxed: Sequence[str],
) -> str:
    """Why a track is listed; the arguments are those of its `Item`, `contribution` is what `most_of` says."""
    said = [f"Cosine similarity {similarity:.3f}"]
    if contribution is not None:
        said.append(contribution)
    tell = _TELL.get((choice.strategy, choice.mode))
    if tell is not None:
        said += [sentence for sentence in tell(components) if sentence]
    if shared:
        said.append(f"same {_listed([f'{fact} ({value})' for fact, value in shared])}")
    if relaxed:
        said.append(f"listed although it does not meet {_listed([_condition(name) for name in relaxed])}")
    return "; ".join(said)


def most_of(query: Query, seed: int, contribution: float) -> str:
    """Which of several seeds contributes most, and how much."""
    title = query.seeds[seed].metadata.get("title")
    name = f'"{title}"' if title else f"seed {seed + 1}"
    return f"{name} contributes most of the {len(query.seeds)} seeds ({contribution:.3f})"


def _mmr(parts: Components) -> list[str]:
    if "nearest_listed" not in parts:
        return ["nothing above it to repeat"]
    return [
        f"at most {parts['nearest_listed']:.3f} to the tracks above it (MMR penalty {parts['mmr_penalty']:.3f})"
    ]


def _cluster(parts: Components) -> list[str]:
    size = int(parts["cluster_size"])
    return [f"from cluster {int(parts['cluster'])} ({size} candidate{'s' if size > 1 else ''})"]


def _popularity(parts: Components) -> list[str]:
    percentile = parts.get("popularity_percentile")
    if percentile is None:
        return []
    if parts.get("heard") == 0:
        return ["nobody has listened to it yet"]
    if percentile == 1:
        return ["the most popular track of the catalogue"]
    return [f"more popular than {_percent(percentile)} of the catalogue"]


def _percent(share: float) -> str:
    """Never more than is true: what is all but a little is not all. To a tenth near both ends."""
    tenths = math.floor(1000 * share + 1e-6)
    return f"{tenths / 10:.1f} %" if 990 < tenths < 1000 or 0 < tenths < 10 else f"{tenths // 10} %"


def _novelty(parts: Components) -> list[str]:
    known = [f"novelty {parts['novelty']:.1f} bits"] if "novelty" in parts else []
    return [*known, *_popularity(parts)]


def _serendipity(parts: Components) -> list[str]:
    said = f"unexpectedness {parts['unexpectedness']:.2f}"
    if "overlap" in parts:
        return [
            f"{said} ({_percent(parts['overlap'])} of the reference's facts, typicality {parts['typicality']:.2f})"
        ]
    return [f"{said} (typicality {parts['typicality']:.2f})"]


def _contrast(parts: Components) -> list[str]:
    return [f"deliberately different (distance {parts['distance']:.3f} of 1)"]


def _hybrid(parts: Components) -> list[str]:
    penalty = parts.get("mmr_penalty", 0.0)
    return [
        f"blend {parts['blend']:.3f}",
        *_popularity(parts),
        f"less {penalty:.3f} for likeness to the tracks above it" if penalty > 0 else "",
    ]


def _random(parts: Components) -> list[str]:
    del parts
    return ["drawn at random, the similar more likely"]


_TELL: Final[Mapping[tuple[str, str | None], Callable[[Components], list[str]]]] = {
    ("diverse", "mmr"): _mmr,
    ("diverse", "cluster"): _cluster,
    ("diverse", "novelty"): _novelty,
    ("diverse", "serendipity"): _serendipity,
    ("diverse", "contrast"): _contrast,
    ("popular", None): _popularity,
    ("hybrid", None): _hybrid,
    ("random", None): _random,
}
_CONDITIONS: Final = {
    "caps.list_share": "the cap on tracks that many lists hold",
    "near_duplicates": "the removal of near-duplicates",
}


def _condition(name: str) -> str:
    kind, _, field = name.partition(".")
    return _CONDITIONS.get(name) or (f"the cap by {field}" if kind == "caps" else f"the filter on {field}")


def unmet(condition: Filter, value: Any) -> str:
    """How a track with this value fails a filter, such as "form is sonata"."""
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(one) for one in value)
    return f"{condition.field} is {'unknown' if value in (None, '') else value}"


def refusal_reason(condition: str, by_rank: str) -> str:
    """Why a candidate was passed over; `by_rank` is " at rank 3", or empty if no listed track is behind it."""
    if condition == "near_duplicates":
        return (
            f"It nearly repeats the track{by_rank}"
            if by_rank
            else "It nearly repeats a seed or a listed track"
        )
    if condition == "caps.list_share":
        return "More lists hold it already than the cap on hubs allows"
    field = condition.partition(".")[2]
    return f"The list holds as many tracks of its {field} as the cap allows" + (
        f", the last{by_rank}" if by_rank else ""
    )


def _listed(facts: list[str]) -> str:
    return facts[0] if len(facts) == 1 else f"{', '.join(facts[:-1])} and {facts[-1]}"
