"""Lists in which no track stands too often, by deferred acceptance."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from mess.evaluate.lists import NOTHING, Made
from mess.evaluate.measures import Lists
from streams.strategies import metrics
from streams.strategies.types import Vectors

ROUNDS: Final = 100

# What to make again: (entry, variant) to seed to the tracks that it may not have.
Wishes = Mapping[tuple[str, str], Mapping[int, frozenset[int]]]


def ration_exposure(
    made: Made, seeds: Lists, vectors: Vectors, share: float, remake: Callable[[Wishes, int], Made]
) -> Made:
    """Lists of which no track is in more than `share`, at least one.

    A track that is in too many lists stays in those whose seeds it is most like; the other lists go without it and
    are made again; so on until no track is in too many. For a strategy that ranks each track by itself that is the
    algorithm of D. Gale and L. S. Shapley, "College admissions and the stability of marriage", American Mathematical
    Monthly 69(1), 1962, with lists as applicants: no list and track would both rather have each other.

    Args:
        made: (entry, variant) to lists, int64 (m, k); a row without any track was not asked for.
        seeds: int64 (m,).
        vectors: float32 (n, d), unit length.
        share: How many of the lists a track may be in.
        remake: Makes lists again, given wishes and the number of the round; answers in the order of `seeds`, with
            empty rows where there was no wish.
    """
    found = {key: lists.copy() for key, lists in made.items()}
    refused: dict[tuple[str, str], dict[int, frozenset[int]]] = {key: {} for key in found}
    for number in range(1, ROUNDS + 1):
        wishes: dict[tuple[str, str], dict[int, frozenset[int]]] = {}
        for key, lists in found.items():
            for place, tracks in _refusals(lists, seeds, vectors, share).items():
                seed = int(seeds[place])
                refused[key][seed] = refused[key].get(seed, frozenset()) | tracks
                wishes.setdefault(key, {})[seed] = refused[key][seed]
        if not wishes:
            return found
        for key, lists in remake(wishes, number).items():
            again = np.isin(seeds, list(wishes.get(key, {})))
            found[key][again] = lists[again]
    return found


def _refusals(lists: Lists, seeds: Lists, vectors: Vectors, share: float) -> dict[int, frozenset[int]]:
    """Place of a list to the tracks that must leave it."""
    asked = int((lists != NOTHING).any(axis=1).sum())
    budget = max(1, int(share * asked))
    counts = metrics.count_occurrences(lists, len(vectors))
    leaving: dict[int, set[int]] = {}
    for track in np.flatnonzero(counts > budget).tolist():
        holders = np.flatnonzero((lists == track).any(axis=1))
        closeness = vectors[seeds[holders]] @ vectors[track]
        for place in holders[np.argsort(-closeness, kind="stable")[budget:]].tolist():
            leaving.setdefault(place, set()).add(track)
    return {place: frozenset(tracks) for place, tracks in leaving.items()}
