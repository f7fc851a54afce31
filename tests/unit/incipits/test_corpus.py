"""Incipits from music21's own corpus: `make demo-test`, and wherever music21 is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "music21", reason="INCIPITS ARE NOT TESTED: music21 is not installed; see `make demo-test`"
)

from mess.demo import catalogue
from mess.incipits.corpus import Corpus
from serving.incipits import IncipitFile

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """The installed corpus."""
    return Corpus()


def test_every_work_of_the_demo_is_in_the_corpus(corpus: Corpus) -> None:
    """Each id of the catalogue leads to a score."""
    assert [
        each.track_id for each in catalogue.load_demo_catalogue().tracks if each.track_id not in corpus
    ] == []


@pytest.mark.parametrize(
    ("track_id", "parts"),
    [("bach/bwv66.6", 4), ("oneills1850/0001", 1), ("oneills1850/0550-2", 1), ("beethoven/opus132", 4)],
)
def test_a_work_begins_with_its_parts(corpus: Corpus, track_id: str, parts: int) -> None:
    """All parts are there, within some ten seconds, as notes that can sound."""
    found = corpus.incipit(track_id, 60)
    assert len(found) == parts
    for part in found:
        assert len(part) % 3 == 0
        assert all(0 <= onset < 10_000 for onset in part[::3])
        assert all(length > 0 for length in part[1::3])
        assert all(20 <= pitch <= 108 for pitch in part[2::3])


def test_the_process_derives_what_is_pending_and_ends(tmp_path: Path) -> None:
    """What is pending is derived, what the corpus does not have gets its reason, and the process ends well."""
    file = IncipitFile(tmp_path / "incipits.sqlite")
    file.create(["bach/bwv66.6", "no/such"])
    # As the stack runs it, but that the demo catalogue has no further works.
    run = "from mess.incipits import __main__ as process; process.load_demo_catalogue = lambda: SimpleNamespace(tracks=())"
    script = f"import sys; from pathlib import Path; from types import SimpleNamespace; {run}; process.main(Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path / "incipits.sqlite")]
    assert subprocess.run(command, check=False, timeout=100, capture_output=True).returncode == 0
    found = {each.track_id: each for each in file.read(["bach/bwv66.6", "no/such"])}
    assert found["bach/bwv66.6"].notes is not None
    assert "does not have it" in str(found["no/such"].reason)
    assert file.next_work() is None
