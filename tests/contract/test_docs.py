"""What the docs name is there: source files, rooms, words."""

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_source_file_that_a_page_names_is_there(page: Path) -> None:
    """A path to a Python file in backticks leads from the top of the repository to a file."""
    named = set(re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.py)`", page.read_text(encoding="utf-8")))
    assert {path for path in named if not (ROOT / path).is_file()} == set()


def test_the_picture_shows_every_room_that_the_linter_knows() -> None:
    """docs/rooms.svg and the layers of import-linter name the same rooms."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = configured["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    rooms = {room.replace(".", "/") for layer in layers for room in layer.split(" | ")}
    picture = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert set(re.findall(r'font-weight="600">([\w/]+)<', picture)) == rooms


def test_every_page_can_be_reached() -> None:
    """The site's navigation names each page; decisions and dated results are reached from their own lists."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    named = set(re.findall(r"'([\w/-]+\.md)'", str(nav)))
    for folder in ("decisions", "benchmarks"):
        listing = "README.md" if folder == "decisions" else "../benchmarks.md"
        text = (ROOT / "docs" / folder / listing).read_text(encoding="utf-8")
        named |= {f"{folder}/{name}" for name in re.findall(rf"\((?:{folder}/)?([\w-]+\.md)", text)}
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages - named == set()


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_stay_within_the_site(page: Path) -> None:
    """A page links to files beneath docs/ that are there; what is elsewhere is named by its path. `make docs` checks anchors."""
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    paths = [(page.parent / link).resolve() for link in links if "://" not in link]
    assert [path for path in paths if not (path.is_file() and path.is_relative_to(ROOT / "docs"))] == []
