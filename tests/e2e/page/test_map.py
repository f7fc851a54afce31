"""The map in Chromium: panned, zoomed, picked, coloured, searched, and alive."""

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import TRACKS, PageStack, track
from tests.support.accessibility import serious_findings

# The first layout compiles for a while, at the lowest priority.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_CANVAS = "#map"
# Where on the screen a track of the map is: asked of the page's own modules.
_COLOURS = """() => {
  const canvas = document.querySelector("#map");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Map();
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 3] === 255) {
      const key = `${data[at]},${data[at + 1]},${data[at + 2]}`;
      if (!seen.has(key)) seen.set(key, []);
      seen.get(key).push([(at / 4) % canvas.width, Math.floor(at / 4 / canvas.width)]);
    }
  return [...seen].map(([key, places]) => [key, places.length, places[Math.floor(places.length / 2)]]);
}"""


def open_map(page: Page, stack: PageStack, **query: str) -> None:
    """Open the map once it has been laid out and drawn."""
    page.goto(stack.address(view="map", **query))
    expect(page.locator("#map-told")).to_contain_text("works on the map", timeout=300_000)
    page.wait_for_timeout(300)


def test_pick_pan_and_zoom(page: Page, page_stack: PageStack) -> None:
    """A click on a point chooses its track; dragging and the wheel move the map and choose nothing."""
    open_map(page, page_stack, color="composer")
    expect(page.locator("#map-legend button")).to_have_count(4)
    before = page.locator(_CANVAS).screenshot()
    box = page.locator(_CANVAS).bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] + 40, steps=5)
    page.mouse.up()
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(200)
    assert page.locator(_CANVAS).screenshot() != before
    assert "track=" not in page.url
    page.click("#map-whole")
    page.wait_for_timeout(200)
    points = max(page.evaluate(_COLOURS), key=lambda found: found[1])
    page.mouse.click(box["x"] + points[2][0], box["y"] + points[2][1])
    expect(page.locator("#list .row").first).to_be_visible()
    assert "track=page" in page.url
    assert "view=map" in page.url


def test_keyboard_and_search(page: Page, page_stack: PageStack) -> None:
    """Arrows point at tracks, Enter chooses; what is searched for stands out; axe finds nothing serious."""
    open_map(page, page_stack)
    page.locator(_CANVAS).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#map-told")).to_contain_text("no.")
    said = page.locator("#map-told").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#chosen")).to_have_text(said.split(" · ")[0])
    page.fill("#search", "palestrina")
    expect(page.locator("#found")).to_contain_text("works")
    page.wait_for_timeout(500)
    bright = sum(count for _, count, _ in page.evaluate(_COLOURS))
    page.fill("#search", "")
    page.wait_for_timeout(800)
    assert sum(count for _, count, _ in page.evaluate(_COLOURS)) > 2 * bright
    page.fill("#map-field", "nonsense")
    page.keyboard.press("Tab")
    expect(page.locator("#map-told")).to_contain_text("is not a metadata field")
    page.set_viewport_size({"width": 360, "height": 740})
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_published_track_appears_on_the_map(page: Page, page_stack: PageStack) -> None:
    """A track published from the terminal is on the open map within seconds."""
    open_map(page, page_stack)
    count = int(page.locator("#map-told").inner_text().split()[0])
    assert count >= TRACKS
    page_stack.publish(track(8) | {"track_id": "page/on-the-map"})
    expect(page.locator("#map-told")).to_have_text(f"{count + 1} works on the map.", timeout=60_000)
