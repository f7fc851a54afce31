"""Searching, choosing, asking and comparing on the page, in Chromium."""

import re
import shlex

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import ATTACK, TRACKS, PageStack, track
from tests.support.accessibility import serious_findings

pytestmark = pytest.mark.e2e


def open_page(page: Page, stack: PageStack, **query: str) -> None:
    """Open the page and wait until its search has answered."""
    page.goto(stack.address(**query))
    expect(page.locator("#found")).to_contain_text("work")


def test_search_choose_and_go_back(page: Page, page_stack: PageStack) -> None:
    """Words find works, a click shows the list, the URL says so, and the browser's way back works."""
    open_page(page, page_stack)
    page.fill("#search", "palestrina 14")
    expect(page.locator("#results .row")).to_have_count(1)
    page.click("#results .pick")
    expect(page.locator("#chosen")).to_have_text("Dance no. 14")
    expect(page.locator("#list .row")).to_have_count(20)
    assert "track=page%2F014" in page.url
    first = page.locator("#list .pick").first
    title = first.locator(".title").inner_text()
    first.click()
    expect(page.locator("#chosen")).to_have_text(title)
    page.go_back()
    expect(page.locator("#chosen")).to_have_text("Dance no. 14")


def test_state_is_the_url(page: Page, page_stack: PageStack) -> None:
    """A link opens the page as its sender saw it: search, work, strategy, mode and conditions."""
    open_page(page, page_stack, q="fugue", track="page/003", strategy="diverse", mode="mmr", era="Baroque")
    expect(page.locator("#search")).to_have_value("fugue")
    expect(page.locator("#strategy")).to_have_value("diverse")
    expect(page.locator("#mode")).to_have_value("mmr")
    expect(page.locator("#conditions .chip")).to_contain_text(["era: Baroque"])
    expect(page.locator("#list .row").first).to_contain_text("Baroque")
    expect(page.locator("#stages li").first).to_have_text(f"{TRACKS} received")


def test_conditions_are_chips(page: Page, page_stack: PageStack) -> None:
    """A condition is added as a chip, narrows the list at once, and is taken off again."""
    open_page(page, page_stack, track="page/003")
    page.select_option("#condition-name", "composer")
    page.fill("#condition-value", "Haydn")
    page.click("#how button")
    expect(page.locator("#list .row")).to_have_count(20)
    expect(page.locator("#list .row", has_text="Haydn")).to_have_count(20)
    assert "composer=Haydn" in page.url
    page.click("#conditions .remove")
    expect(page.locator("#conditions .chip")).to_have_count(0)
    page.select_option("#condition-name", "year_composed_min")
    page.fill("#condition-value", "soon")
    page.click("#how button")
    expect(page.locator("#freshness")).to_contain_text("year_composed_min")


def test_old_links_still_open_their_work(page: Page, page_stack: PageStack) -> None:
    """A link with the id behind the `#`, as earlier versions made them, shows that work."""
    page.goto(f"{page_stack.url}/#page%2F005")
    expect(page.locator("#chosen")).to_have_text("Dance no. 5")


def test_compare_strategies(page: Page, page_stack: PageStack) -> None:
    """Strategies stand side by side, and lines join the works they share."""
    open_page(page, page_stack, track="page/003")
    page.click("#compare")
    expect(page.locator(".strategy").nth(3)).to_be_visible()
    expect(page.locator(".strategy h3").first).to_have_text("similarity")
    assert page.locator(".side-by-side path").count() > 5
    work = page.locator(".strategy .work").first
    work.hover()
    traced = page.locator(f".work.traced[data-track='{work.get_attribute('data-track')}']")
    assert traced.count() >= 2
    assert page.url.endswith("compare")


def test_copy_as_curl(page: Page, page_stack: PageStack) -> None:
    """The command asks for what is shown, and a shell takes it."""
    open_page(page, page_stack, track="page/003", strategy="diverse", era="Baroque")
    page.click("#curl")
    expect(page.locator("#curl-command")).to_contain_text("curl")
    command = page.locator("#curl-command").inner_text()
    curl, silent, url, *_ = shlex.split(command)
    assert (curl, silent) == ("curl", "-s")
    assert url.startswith(page_stack.url)
    listed = httpx.get(url, trust_env=False, timeout=10).json()["recommendations"]
    expect(page.locator("#list .title")).to_have_text([each["title"] for each in listed])


def test_titles_are_text(page: Page, page_stack: PageStack) -> None:
    """A title that is markup is shown as it is, in every view."""
    open_page(page, page_stack, track="page/000", compare="")
    expect(page.locator("#chosen")).to_have_text(ATTACK)
    page.fill("#search", "page/000")
    expect(page.locator("#results .title").first).to_have_text(ATTACK)
    expect(page.locator(".strategy").first).to_be_visible()
    assert page.locator("img").count() == 0
    assert page.title() == "MESS-AI"


def test_keyboard_alone(page: Page, page_stack: PageStack) -> None:
    """`/` goes to the search, arrows through works, Enter chooses, and the reader is taken to the work."""
    open_page(page, page_stack)
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("chorale bach")
    expect(page.locator("#found")).to_have_text(re.compile(r"^\d works"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#results .pick").nth(1)).to_be_focused()
    title = page.locator("#results .title").nth(1).inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#chosen")).to_have_text(title)
    expect(page.locator("#chosen")).to_be_focused()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#list') !== null"):
            break
    page.keyboard.press("ArrowDown")
    expect(page.locator("#list .pick").nth(1)).to_be_focused()


def test_a_published_track_enters_the_list(page: Page, page_stack: PageStack) -> None:
    """A track published from the terminal appears in the open list by itself, and flashes."""
    open_page(page, page_stack, track="page/004")
    expect(page.locator("#list .row")).to_have_count(20)
    newcomer = track(4) | {"track_id": "page/newcomer"}
    newcomer["metadata"] = newcomer["metadata"] | {"title": "Newcomer"}
    page_stack.publish(newcomer)
    expect(page.locator("#list .row.flash .title")).to_have_text(["Newcomer"])
    expect(page.locator("#freshness")).to_contain_text("The list has changed.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_accessible(page: Page, page_stack: PageStack, scheme: str, width: int) -> None:
    """Axe finds nothing serious, in both colour schemes, wide and narrow, and nothing leaves a narrow screen."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    open_page(page, page_stack, track="page/003", era="Baroque", compare="")
    expect(page.locator("#list .row").first).to_be_visible()
    expect(page.locator(".strategy").first).to_be_visible()
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
