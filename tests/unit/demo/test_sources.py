"""Finding works in the corpus."""

from pathlib import Path

import pytest

from mess.demo.corpus import sources
from mess.demo.corpus.sources import SourceFile

pytestmark = pytest.mark.unit

BOOK = """% A book of tunes, 1803

X: 1
T: First One
M: 6/8
K: Dmix % as printed
ABc|
X:2
T:Second One
B:O'Neill's 2
K:G
T:not a title any more
GAB|
"""


def make_corpus(root: Path, *paths: str) -> Path:
    """Empty files in place of scores."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_files_that_are_no_works_are_named_with_a_reason(tmp_path: Path) -> None:
    """Demonstrations, exercises, tests, superseded and double encodings stay out; the rest goes in."""
    root = make_corpus(
        tmp_path,
        "bach/bwv277.krn", "bach/bwv277.mxl", "demos/two-parts.xml", "essenFolksong/test0.abc",
        "essenFolksong/erk10.abc", "monteverdi/madrigal.3.1.rntxt", "trecento/Gloria_bak.xml", "palestrina/Kyrie.krn",
    )  # fmt: skip
    chosen, skipped = sources.list_files(root)
    assert [source.path for source in chosen] == [
        "bach/bwv277.mxl",
        "essenFolksong/erk10.abc",
        "palestrina/Kyrie.krn",
    ]
    assert [source.is_book for source in chosen] == [False, True, False]
    assert {path for path, _ in skipped} == {
        "bach/bwv277.krn", "demos/two-parts.xml", "essenFolksong/test0.abc", "trecento/Gloria_bak.xml",
    }  # fmt: skip


def test_a_book_is_split_at_its_tunes() -> None:
    """Each tune has its number, its header up to the key, and its own text; the preface is nobody's."""
    first, second = sources.split_tunes(BOOK)
    assert (first.number, second.number) == (1, 2)
    assert first.header == (("X", "1"), ("T", "First One"), ("M", "6/8"), ("K", "Dmix"))
    assert ("T", "not a title any more") not in second.header
    assert second.text.startswith("X:2")
    assert "1803" not in first.text


def test_a_tune_numbered_zero_takes_the_printed_number() -> None:
    """`X: 0` with the book's number beside it is that number."""
    (tune,) = sources.split_tunes("X: 0\nT:The Supple Dancer\nB:O'Neill's 1646\nK:D\nd|\n")
    assert tune.number == 1646


@pytest.mark.parametrize(
    ("path", "numbers", "ids"),
    [
        ("essenFolksong/altdeu10.abc", [42], ["essen/altdeu10-42"]),
        ("oneills1850/0001-0050.abc", [1, 50], ["oneills1850/0001", "oneills1850/0050"]),
        ("ryansMammoth/AcaciaReel.abc", [309], ["ryansMammoth/AcaciaReel"]),
        ("airdsAirs/book1.abc", [7, 7], ["aird/0007", "aird/0007-2"]),
        ("bach/bwv66.6.mxl", [], ["bach/bwv66.6"]),
        ("trecento/PMFC_04-Cara mi donna.xml", [], ["trecento/PMFC_04-Cara_mi_donna"]),
    ],
)
def test_ids_follow_from_file_and_number(path: str, numbers: list[int], ids: list[str]) -> None:
    """Ids are stable, readable and differ within a file."""
    book = path.split("/", maxsplit=1)[0] in sources.BOOK_FOLDERS
    assert sources.work_ids(SourceFile(path, book), numbers) == ids


def test_reference_records_and_key_of_a_humdrum_file() -> None:
    """Records come in order, and the first key token is added."""
    text = "!!!COM: Palestrina\n!!!OTL: Agnus\n**kern\t**kern\n*k[]\t*k[]\n*G:mix\t*G:mix\n"
    assert sources.read_references(text) == [("COM", "Palestrina"), ("OTL", "Agnus"), ("key", "G:mix")]
