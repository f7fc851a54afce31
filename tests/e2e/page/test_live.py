"""The pipeline at work, watched on the page in Chromium."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import PageStack, track
from tests.support.accessibility import serious_findings

pytestmark = pytest.mark.e2e


def test_what_is_published_is_seen_to_arrive(page: Page, page_stack: PageStack) -> None:
    """Checks and lines are there, and a published track's list is told of by itself; choosing it shows the list."""
    page.goto(page_stack.address(view="live"))
    expect(page.locator("#live-told")).to_contain_text("The pipeline is")
    expect(page.locator("#lines .line")).to_have_count(9)
    expect(page.locator("#workers tbody tr")).to_have_count(1)
    worker = page.locator("#workers tbody tr td").all_inner_texts()
    assert re.fullmatch(r"0(, \d)*", worker[0])
    assert re.fullmatch(r"\d+ (s|min|h)", worker[1])
    page_stack.publish({"track_id": "page/other model", "embedding": {"harmony": [1.0, 2.0]}})
    expect(page.locator("#workers tbody td").last).to_have_text("wrong_dimension 1", timeout=15_000)
    expect(page.locator("#checks tr", has_text="consumer lag")).to_contain_text("events behind")
    page_stack.publish(track(12) | {"track_id": "page/live"})
    row = page.locator("#changes .row", has_text="page/live")
    expect(row.first).to_contain_text("first-list")
    assert serious_findings(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    row.first.locator(".pick").click()
    expect(page.locator("#list .row")).to_have_count(20)
    expect(page.locator("#live-view")).to_be_hidden()
