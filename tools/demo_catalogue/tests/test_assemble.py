"""Choosing works and writing the catalogue's files."""

from pathlib import Path

import numpy as np
import pytest

from mess.demo import catalogue
from mess.demo.corpus.raw import Failure, RawWork
from tools.demo_catalogue import assemble
from tools.demo_catalogue.extraction import read_cache, write_cache
from tools.demo_catalogue.tests.helpers import line, work

pytestmark = pytest.mark.unit


def some_works(count: int = 20) -> list[RawWork]:
    """Melodies that all differ."""
    random = np.random.default_rng(5)
    return [work(f"book/{i}", raw=line((60 + random.integers(0, 12, 24)).tolist())) for i in range(count)]


def write_all(out: Path, works: list[RawWork]) -> dict[str, int]:
    """Write a catalogue of works that have a title each."""
    tracks = [(w.track_id, {"title": f"Tune {w.track_id}", "collection": "A Book"}) for w in works]
    return assemble.write(out, assemble.feature_matrix(works), tracks, "10.5.1")


def test_an_exact_repeat_under_the_same_title_is_left_out() -> None:
    """The first stays, the repeat is named with it."""
    selection = assemble.select([work("book/2"), work("book/1"), work("book/3", raw=line([60, 62] * 8))])
    assert [w.track_id for w in selection.works] == ["book/1", "book/3"]
    assert selection.left_out == [Failure("book/2", "the same title and notes as book/1")]


def test_the_same_notes_under_another_title_stay() -> None:
    """A tune that travels under two names is two works of the catalogue."""
    other = work("book/2", header=[("X", "2"), ("T", "Another Name"), ("K", "C")])
    assert len(assemble.select([work("book/1"), other]).works) == 2


def test_fragments_are_left_out() -> None:
    """Fewer notes than a distribution needs."""
    selection = assemble.select([work("book/1", raw=line([60] * (assemble.FEWEST_NOTES - 1)))])
    assert not selection.works
    assert "fragment" in selection.left_out[0].reason


def test_two_transcriptions_of_one_number_get_different_ids() -> None:
    """The second, by file, has its count added."""
    first = work("oneills1850/0732", "oneills1850/0732-0758_bs.abc")
    second = work("oneills1850/0732", "oneills1850/0732-0758_mh.abc", raw=line([60, 64] * 8))
    ids = [w.track_id for w in assemble.select([second, first]).works]
    assert ids == ["oneills1850/0732", "oneills1850/0732-2"]


def test_what_is_written_can_be_loaded(tmp_path: Path) -> None:
    """Ids, metadata and dimension survive; a part counts by its aspect's weight, or is missing."""
    works = some_works()
    write_all(tmp_path, works)
    loaded = catalogue.load_demo_catalogue(tmp_path)
    assert [t.track_id for t in loaded.tracks] == [w.track_id for w in works]
    assert loaded.tracks[3].metadata["title"] == "Tune book/3"
    assert loaded.embeddings.dtype == np.float32
    assert loaded.embeddings.shape == (len(works), sum(block.size for block in loaded.blocks))
    for aspect, part in zip(loaded.layout.aspects, loaded.layout.parts.values(), strict=True):
        lengths = np.linalg.norm(loaded.embeddings[:, part], axis=1)
        # All notes of these melodies are equally long, which is no rhythm.
        wanted = 0 if aspect.name == "rhythm" else np.sqrt(aspect.weight)
        np.testing.assert_allclose(lengths, wanted, rtol=1e-6, err_msg=aspect.name)


def test_the_same_works_give_the_same_bytes(tmp_path: Path) -> None:
    """A rebuild without a change leaves nothing to commit."""
    works = some_works()
    for name in ("one", "two"):
        write_all(tmp_path / name, works)
    for name in (catalogue.VECTORS, catalogue.TRACKS, catalogue.MANIFEST):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_checkpoint_gives_back_what_was_parsed(tmp_path: Path) -> None:
    """Works and failures, to the last number."""
    works, failures = some_works(3), [Failure("book/9", "ValueError: no notes")]
    write_cache(tmp_path / "one.json.gz", works, failures)
    again, failed = read_cache(tmp_path / "one.json.gz")
    assert [w.notes for w in again] == [w.notes for w in works]
    assert failed == failures
    assert [p.name for p in tmp_path.iterdir()] == ["one.json.gz"]
