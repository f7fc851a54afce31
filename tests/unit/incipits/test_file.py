"""The file of incipits: what is pending, in which order, and what survives."""

from pathlib import Path

import pytest

from serving.incipits import Incipit, IncipitFile

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> IncipitFile:
    """A file that knows three works."""
    made = IncipitFile(tmp_path / "incipits.sqlite")
    made.create(["a", "b", "c"])
    return made


def test_what_is_looked_at_last_comes_first(file: IncipitFile) -> None:
    """Works that are asked for come before the others, the last of them first; unknown ones are no work."""
    file.want(["c", "stranger", "b"])
    assert file.next_work() == "b"
    file.write("b", [[0, 500, 60]], None)
    assert file.next_work() == "c"
    file.write("c", None, "malformed")
    assert file.next_work() == "a"
    assert file.pending() == 1


def test_it_goes_on_where_it_was(file: IncipitFile, tmp_path: Path) -> None:
    """Made ready again, the file keeps what was derived, what failed, and takes new works."""
    file.write("a", [[0, 500, 60], [0, 250, 48]], None)
    file.write("b", None, "malformed")
    again = IncipitFile(tmp_path / "incipits.sqlite")
    again.create(["a", "b", "c", "d"])
    assert again.pending() == 2
    found = {each.track_id: each for each in again.read(["a", "b", "c", "x"])}
    assert found == {
        "a": Incipit("a", [[0, 500, 60], [0, 250, 48]], None),
        "b": Incipit("b", None, "malformed"),
        "c": Incipit("c", None, None),
    }


def test_it_says_what_is_missing(file: IncipitFile) -> None:
    """A reason why nothing is derived is kept until something is."""
    assert file.missing() is None
    file.say_missing("music21")
    assert file.missing() == "music21"
    file.say_missing(None)
    assert file.missing() is None
