"""Reading notes with the parser. Needs the `demo-build` extra, as the builder does."""

from pathlib import Path

import pytest

from mess.demo.corpus.raw import Failure, RawWork
from mess.demo.corpus.sources import SourceFile

pytest.importorskip("music21", reason="the extra demo-build is not installed: only rebuilding needs it")

from mess.demo.corpus import parse

pytestmark = pytest.mark.unit


def read(tmp_path: Path, abc: str) -> RawWork:
    """The one tune of a book."""
    works, failures = read_all(tmp_path, abc)
    assert not failures
    return works[0]


def read_all(tmp_path: Path, abc: str, limit: float = 20) -> tuple[list[RawWork], list[Failure]]:
    """All tunes of a book, and those that failed."""
    (tmp_path / "airdsAirs").mkdir(exist_ok=True)
    (tmp_path / "airdsAirs/book1.abc").write_text(abc)
    return parse.read_file(tmp_path, SourceFile("airdsAirs/book1.abc", True), limit)


def test_a_pickup_is_counted_from_the_bar_s_end(tmp_path: Path) -> None:
    """An upbeat of an eighth in 6/8 stands at 2.5 quarters, the first full bar at 0."""
    tune = read(tmp_path, "X:1\nT:a\nM:6/8\nL:1/8\nK:D\nA|d2d dcB|A3 A2:|\n")
    assert tune.notes.position[:3] == [2.5, 0.0, 1.0]
    assert tune.notes.bar[0] == 3.0
    assert tune.notes.beat[0] == 1.5


def test_the_second_strain_s_pickup_is_too(tmp_path: Path) -> None:
    """A repeat sign that splits a bar leaves the next strain's upbeat at the bar's end."""
    tune = read(tmp_path, "X:1\nT:a\nM:2/4\nL:1/8\nK:D\nA|d2dd|d3:|e|f2ff|d3:|\n")
    upbeat = tune.notes.midi.index(76)
    assert tune.notes.position[upbeat] == 1.5


def test_an_accidental_lasts_to_the_end_of_its_bar(tmp_path: Path) -> None:
    """In G, a natural F makes the next F of the bar natural, and no later one."""
    tune = read(tmp_path, "X:1\nT:a\nM:4/4\nL:1/4\nK:G\n=FGFG|F4|\n")
    assert [midi for midi in tune.notes.midi if midi != 67] == [65, 65, 66]


def test_tied_notes_are_one(tmp_path: Path) -> None:
    """A note held over the bar line is struck once."""
    tune = read(tmp_path, "X:1\nT:a\nM:2/4\nL:1/4\nK:C\nCD-|DE|\n")
    assert tune.notes.midi == [60, 62, 64]
    assert tune.notes.duration == [1.0, 2.0, 1.0]


def test_chord_names_and_grace_notes_are_no_notes(tmp_path: Path) -> None:
    """What isn't played in time isn't counted; a written chord is."""
    tune = read(tmp_path, 'X:1\nT:a\nM:2/4\nL:1/4\nK:C\n"G7"{D}C[EG]|\n')
    assert tune.notes.midi == [60, 64, 67]


def test_a_tune_without_notes_fails_alone(tmp_path: Path) -> None:
    """It is named with the reason, and the tunes beside it are read."""
    works, failures = read_all(
        tmp_path, "X:1\nT:a\nM:2/4\nL:1/4\nK:C\nz2|\n\nX:2\nT:b\nM:2/4\nL:1/4\nK:C\nCD|\n"
    )
    assert [work.track_id for work in works] == ["aird/0002"]
    assert failures == [Failure("aird/0001", "ValueError: no notes")]


# The alarm may come in a hook of the collector, where Python drops the error; the work is told again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_work_that_takes_too_long_fails_alone(tmp_path: Path) -> None:
    """The limit is for each work, and its passing is a reason like another."""
    long = "X:1\nT:a\nM:2/4\nL:1/4\nK:C\n" + "CD|EF|\n" * 2000
    works, failures = read_all(tmp_path, long, limit=0.05)
    assert not works
    assert failures[0].reason.startswith("WorkTimeoutError")
