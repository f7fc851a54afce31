"""The newcomers' page: its commands are run from a clean clone, and print what it shows."""

import os
from pathlib import Path

import pytest

from mess.models import ModelUnavailableError, fetch_weights
from tests.e2e.transcripts import FILES, Section, comparable, sections

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SECTIONS = [*sections()]


def test_every_newcomer_has_a_section() -> None:
    """The page has not lost one."""
    assert [section.heading for section in SECTIONS] == [*FILES]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading.removeprefix("## "))
def test_a_terminal_shows_what_its_commands_print(section: Section, tmp_path: Path) -> None:
    """Line for line; only seconds may differ."""
    if "recordings" in section.heading:
        try:
            fetch_weights()
        except ModelUnavailableError as error:
            if os.environ.get("CI", "").lower() in ("1", "true"):
                raise
            pytest.skip(str(error))
    assert comparable(section.run(tmp_path)) == comparable(section.text)
