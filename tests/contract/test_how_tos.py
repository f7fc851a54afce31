"""Commands that the how-tos give are there, with the options that they give."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mess.cli import build_cli
from serving import health
from store import lives, schema

pytestmark = pytest.mark.contract

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))
GROUPS = {"dead-letters", "topics", "keys", "roles", "spaces"}


def commands(page: Path) -> list[list[str]]:
    """What follows `mess` at the beginning of a line of a code block."""
    blocks = re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [
        line.strip() for block in blocks for line in block.splitlines() if line.strip().startswith("mess ")
    ]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_how_to_is_there_with_its_options(page: Path) -> None:
    """Each is asked for its help, which names every option that the page gives."""
    for words in commands(page):
        depth = 2 if words[0] in GROUPS else 1
        told = CliRunner().invoke(
            build_cli(), [*words[:depth], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}
        )
        assert told.exit_code == 0, words
        options = {word.partition("=")[0] for word in words[depth:] if word.startswith("--")}
        assert {option for option in options if option not in told.output} == set(), words


def test_the_page_on_poison_messages_names_what_health_and_the_store_have() -> None:
    """Columns and limits that it tells an operator are the schema's and the code's."""
    page = next(page for page in PAGES if page.stem == "get-past-a-poison-message").read_text(
        encoding="utf-8"
    )
    (asked,) = re.findall(r"SELECT ([\w, ]+)\n\s+FROM worker_lives", page)
    assert set(asked.split(", ")) <= {column.name for column in schema.worker_lives.columns}
    assert f"for {health._UNOWNED_SECONDS:.0f} seconds" in page
    assert f"for {health._STALLED_SECONDS:.0f} seconds" in page
    assert lives.RECENT_SECONDS == 600
    assert "in ten minutes" in page
