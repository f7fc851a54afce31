"""The measure of the embedding's meaning, on made-up catalogues and on the committed one."""

import numpy as np
import pytest

from benchmarks import demo_quality
from mess.demo.catalogue import DemoCatalogue, DemoTrack, FeatureBlock
from streams.strategies.aspects import Layout
from tools.demo_catalogue import quality

pytestmark = pytest.mark.unit

EACH = 30


def two_collections(separate: bool) -> DemoCatalogue:
    """Two collections of thirty reels and jigs each; apart in space, or all mixed up."""
    random = np.random.default_rng(2)
    vectors = random.normal(0, 0.05 if separate else 1, (2 * EACH, 8)).astype(np.float32)
    if separate:
        vectors[:EACH, 0] += 1
        vectors[EACH:, 1] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tracks = [
        DemoTrack(f"t/{i}", {"collection": "A" if i < EACH else "B", "form": "reel" if i % 2 else "jig"})
        for i in range(2 * EACH)
    ]
    return DemoCatalogue(vectors, tracks, [FeatureBlock("any", 8, 1.0)], "0", Layout(8))


def test_collections_that_lie_apart_have_a_share_of_one() -> None:
    """Every neighbour is from the work's own collection; by chance 29 of 59 would be."""
    (answer,) = quality.measure(two_collections(separate=True), quality.QUESTIONS[:1])
    assert answer.share == 1.0
    assert answer.expected == pytest.approx(29 / 59)
    assert answer.shuffled == pytest.approx(0.5, abs=0.12)


def test_the_balanced_share_counts_each_label_once() -> None:
    """Twenty of one label found always and ten of another never are two thirds, but one half balanced."""
    codes, asked = np.array([0] * 20 + [1] * 10), np.arange(30)
    nearest = np.zeros((30, quality.NEAREST), np.int64)
    assert quality._share(codes, asked, nearest) == pytest.approx(2 / 3)
    assert quality._balanced_share(codes, asked, nearest) == pytest.approx(1 / 2)


def test_collections_without_structure_are_at_chance() -> None:
    """Vectors at random share a label about as often as chance says."""
    (answer,) = quality.measure(two_collections(separate=False), quality.QUESTIONS[:1])
    assert answer.share == pytest.approx(answer.expected, abs=0.1)


def test_a_barred_collection_gives_no_neighbours() -> None:
    """Asked for other collections only, a work never finds one of its own."""
    demo = two_collections(separate=True)
    groups = np.array([0] * EACH + [1] * EACH)
    everyone = np.arange(2 * EACH)
    nearest = quality.nearest_rows(demo.embeddings, everyone, everyone, groups)
    assert (groups[nearest] != groups[everyone][:, None]).all()


def test_a_work_is_not_its_own_neighbour() -> None:
    """The nearest of a row leave the row itself out."""
    everyone = np.arange(2 * EACH)
    nearest = quality.nearest_rows(two_collections(separate=True).embeddings, everyone, everyone)
    assert (nearest != everyone[:, None]).all()
    assert nearest.shape == (2 * EACH, quality.NEAREST)


def test_the_committed_catalogue_means_something() -> None:
    """Collection, dance type and composer are shared far more often than chance or shuffled labels explain."""
    answers = {answer.name: answer for answer in demo_quality.measure_demo_quality(sample=600)}
    assert answers["collection"].share > 0.75 > 1.5 * answers["collection"].expected
    assert answers["dance type, among dance tunes"].share > 0.65
    across = answers["dance type, among dance tunes of other collections"]
    assert across.share > 0.6 > 2 * across.expected
    assert answers["composer, among works of known composers"].share > 0.85
    assert all(answer.share > 1.5 * max(answer.expected, answer.shuffled) for answer in answers.values())
