"""docs/metadata.md: every cell of its table becomes what it says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streams.contracts import TrackMetadata
from streams.contracts.metadata import STRICT
from streams.metadata_fields import METADATA

pytestmark = pytest.mark.unit
PAGE = Path(__file__).parents[3] / "docs" / "metadata.md"
ROW = re.compile(r"^\| `(\w+)` \| `(.+)` \| (?:`(.+)`|(missing|raw)) \|$", re.MULTILINE)


def cases() -> list[Any]:
    """(field, cell, expected or None, missing or raw) of each row of the page."""
    return [
        pytest.param(
            field, json.loads(cell), json.loads(value) if value else None, word, id=f"{field}={cell}"
        )
        for field, cell, value, word in ROW.findall(PAGE.read_text())
    ]


@pytest.mark.parametrize(("field", "cell", "value", "word"), cases())
def test_a_cell_becomes_what_the_page_says(field: str, cell: object, value: object, word: str) -> None:
    """Read as the page says; what goes to `extra.raw` is refused, by name, where reading is strict."""
    read = TrackMetadata.model_validate({field: cell}).present()
    extra = read.get("extra", {})
    assert read.get(field, extra.get(field)) == value
    assert ("raw" in extra) == (word == "raw")
    if word == "raw":
        assert extra["raw"] == {field: cell}
        with pytest.raises(ValidationError, match=field):
            TrackMetadata.model_validate({field: cell}, context={STRICT: True})


def test_the_page_has_a_table_that_is_read() -> None:
    """The pattern of rows still finds the table: as many rows as lines that look like one."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(cases()) == len(rows) > 60


def test_the_page_names_every_field() -> None:
    """The list of fields is the contract's."""
    listed = PAGE.read_text().split("## Fields", 1)[1].split("## ", 1)[0]
    assert {field.name for field in METADATA} <= set(re.findall(r"`(\w+)`", listed))
