"""docs/inputs.md: every kind of input, made and read anew."""

import sys
from pathlib import Path

import pytest

from streams.producers.items import SourceError
from streams.producers.sources import SourceOptions, open_source
from tests.unit.producers import input_kinds
from tests.unit.producers.input_kinds import KINDS, PAGE, InputKind, row

pytestmark = pytest.mark.unit
ROWS = PAGE.read_text(encoding="utf-8").removeprefix(input_kinds.HEAD).splitlines()


@pytest.mark.parametrize(
    ("each", "expected"), list(zip(KINDS, ROWS, strict=True)), ids=lambda value: getattr(value, "what", "")
)
def test_an_input_becomes_what_the_page_says(tmp_path: Path, each: InputKind, expected: str) -> None:
    """Sent, refused and told as the page has it; where it differs on purpose, write the page anew."""
    assert row(each, tmp_path) == expected


def test_no_input_got_a_wrong_vector() -> None:
    """Each array is read along the right axes: its vector is the one it was made of."""
    assert len(ROWS) >= 40
    assert not [line for line in ROWS if "WRONG" in line]


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("t.parquet", "pyarrow", ".parquet files need pyarrow"),
        ("t.h5", "h5py", "HDF5 files need h5py"),
        ("t.jsonl.zst", "pyarrow", ".zst files need pyarrow"),
    ],
)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, said: str
) -> None:
    """Nothing else needs it: `.npy`, `.npz`, CSV and JSON lines are read without the extra."""
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SourceError, match=rf"{said}, which is not installed: pip install 'mess-ai\[files\]'"):
        list(open_source(tmp_path / name, SourceOptions()).records(None))
