"""Explains in a sentence why a track is listed or not, from the components of its score."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from streams.strategies.aspects import described_weights, extremes
from streams.strategies.entries import Components, RankingMode
from streams.strategies.types import Filter, Query


def explain_item(
    mode: RankingMode,
    similarity: float,
    components: Components,
    *,
    aspects: Mapping[str, float | None],
    weights: Mapping[str, float] | None,
    contribution: str | None,
    shared: Sequence[tuple[str, str]],
    relaxed: Sequence[str],
) -> str:
    """Why a track is listed, in a sentence.

    Args:
        mode: What ranked it.
        similarity: Cosine to what the query starts from.
        components: What its score is made of.
        aspects: Its similarity by aspect; empty if there are none.
        weights: How much each aspect counts, if the query says it.
        contribution: What `most_of` says, where there are several seeds.
        shared: (fact, value) pairs in common with its seed.
        relaxed: The conditions that it does not meet.
    """
    said = [f"Cosine similarity {similarity:.3f}"]
    if weights:
        said = [f"Similarity {similarity:.3f}, weighted by {described_weights(weights)}"]
    if extreme := extremes(aspects):
        said.append(extreme)
    if contribution is not None:
        said.append(contribution)
    if mode.explain is not None:
        said += [phrase for phrase in mode.explain(components) if phrase]
    if shared:
        said.append(f"same {_listed([f'{fact} ({value})' for fact, value in shared])}")
    if relaxed:
        said.append(f"listed although it does not meet {_listed([_condition(name) for name in relaxed])}")
    return "; ".join(said)


def most_of(query: Query, seed: int, contribution: float) -> str:
    """The seed that contributes most, and its contribution, in words."""
    title = query.seeds[seed].metadata.get("title")
    name = f'"{title}"' if title else f"seed {seed + 1}"
    return f"{name} contributes most of the {len(query.seeds)} seeds ({contribution:.3f})"


def popularity_phrases(parts: Components) -> list[str]:
    """How popular a track is, from the components `popularity_percentile` and `heard`; empty where unknown."""
    percentile = parts.get("popularity_percentile")
    if percentile is None:
        return []
    if parts.get("heard") == 0:
        return ["nobody has listened to it yet"]
    if percentile == 1:
        return ["the most popular track of the catalogue"]
    return [f"more popular than {format_percent(percentile)} of the catalogue"]


def format_percent(share: float) -> str:
    """A share in per cent, rounded down, so that less than all is not 100 %. To a tenth near both ends."""
    tenths = math.floor(1000 * share + 1e-6)
    return f"{tenths / 10:.1f} %" if 990 < tenths < 1000 or 0 < tenths < 10 else f"{tenths // 10} %"


_CONDITIONS: Final = {
    "caps.list_share": "the cap on tracks that many lists hold",
    "near_duplicates": "the removal of near-duplicates",
}


def _condition(name: str) -> str:
    kind, _, field = name.partition(".")
    return _CONDITIONS.get(name) or (f"the cap by {field}" if kind == "caps" else f"the filter on {field}")


def unmet_phrase(condition: Filter, value: Any) -> str:
    """How a track with this value fails a filter, such as "form is sonata"."""
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(one) for one in value)
    return f"{condition.field} is {'unknown' if value in (None, '') else value}"


def refusal_reason(condition: str, by_rank: str) -> str:
    """Why a candidate was skipped; `by_rank` is " at rank 3", or empty if no listed track is the cause."""
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
