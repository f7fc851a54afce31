"""A question with filters and caps is answered in full whenever the catalogue can."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.integration.recommender.conftest import RecommenderBench

pytestmark = pytest.mark.integration
Run = Callable[[Any], Any]


def brute_force(
    bench: RecommenderBench, seeds: list[int], wanted: dict[str, str], cap: int, count: int
) -> list[str]:
    """The nearest that meet every condition, by a walk over the whole catalogue."""
    vectors = np.array([track.vector for track in bench.catalogue.tracks], dtype=np.float64)
    sought = vectors[seeds].mean(axis=0)
    found: list[str] = []
    held: dict[str, int] = dict.fromkeys(
        (track.metadata["artists"][0] for track in bench.catalogue.tracks), 0
    )
    for row in np.argsort(-(vectors @ sought), kind="stable").tolist():
        track = bench.catalogue.tracks[row]
        artist = track.metadata["artists"][0]
        meets = all(track.metadata.get(name) == value for name, value in wanted.items())
        if row not in seeds and meets and held[artist] < cap:
            found.append(track.track_id)
            held[artist] += 1
    return found[:count]


@pytest.mark.parametrize("number", range(12))
def test_filters_and_caps_are_walked_to_the_end(large_bench: RecommenderBench, run: Run, number: int) -> None:
    """The same list as brute force over the catalogue, and the cap kept although few of the nearest may be listed."""
    bench = large_bench
    random = np.random.default_rng(number)
    seeds = random.choice(len(bench.catalogue.tracks), 2, replace=False).tolist()
    wanted = [{}, {"era": "Renaissance"}, {"form": "string quartet"}, {"key_signature": "G major"}][
        number % 4
    ]
    cap = int(random.integers(1, 4))
    names = [bench.catalogue.tracks[row].track_id for row in seeds]
    reply = run(bench.ask(seeds=names, filters=wanted, caps={"artist": cap}, top_k=50, at_least=0))
    listed = [item.track_id for item in reply.recommendations]
    assert listed == brute_force(bench, seeds, wanted, cap, 50)
    assert reply.relaxed == []
