"""Works heard and seen, and two of them beside each other, in Chromium."""

import io
import wave

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.page.conftest import PENDING, PREVIEW, SLOW, PageStack, scale
from tests.support.accessibility import serious_findings

pytestmark = pytest.mark.e2e

# What the audio graph is told to sound: start, frequency.
_LISTEN = """
window.sounded = [];
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (when) { window.sounded.push([when, this.frequency.value]); start.call(this, when); };
"""


def open_work(page: Page, stack: PageStack, **query: str) -> None:
    """Open the page, listening to its audio graph."""
    page.add_init_script(_LISTEN)
    page.goto(stack.address(**query))
    expect(page.locator("#seed .roll")).to_have_attribute("data-drawn", "ready")


def test_a_work_is_heard_and_its_cursor_moves(page: Page, page_stack: PageStack) -> None:
    """The audio graph gets every note at its time and pitch, the roll shows the cursor, and a second press stops."""
    open_work(page, page_stack, track=SLOW)
    still = page.locator("#seed canvas").screenshot()
    page.click("#seed .play")
    expect(page.locator("#seed .play")).to_have_attribute("aria-pressed", "true")
    sounded = page.evaluate("window.sounded")
    notes = scale(5)[0]
    assert len(sounded) == len(notes) // 3
    first = sounded[0][0]
    for (when, frequency), onset, pitch in zip(sounded, notes[::3], notes[2::3], strict=True):
        assert when - first == pytest.approx(onset / 1000, abs=1e-3)
        assert frequency == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=1e-4)
    expect(page.locator("#seed canvas")).not_to_have_attribute("data-drawn", "none")
    # A busy machine draws few frames; the work lasts twelve seconds.
    while page.locator("#seed canvas").screenshot() == still:
        page.wait_for_timeout(50)
    page.click("#seed .play")
    expect(page.locator("#seed .play")).to_have_attribute("aria-pressed", "false")


def test_space_plays_and_stops(page: Page, page_stack: PageStack) -> None:
    """Space plays the row in focus and stops it; it neither chooses the work nor scrolls."""
    open_work(page, page_stack, track="page/003")
    row = page.locator("#list .row").first
    row.locator(".pick").focus()
    page.keyboard.press(" ")
    expect(row.locator(".play")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press(" ")
    expect(row.locator(".play")).to_have_attribute("aria-pressed", "false")
    assert "track=page%2F003" in page.url


def test_a_pending_work_is_waited_for(page: Page, page_stack: PageStack) -> None:
    """A work that is still to be derived plays as soon as it is there."""
    open_work(page, page_stack, track="page/003", q=PENDING)
    play = page.locator(f"#results .play[data-track='{PENDING}']")
    play.click()
    expect(play).to_have_class("play waiting")
    assert page_stack.incipits.next_work() == PENDING
    page_stack.incipits.write(PENDING, scale(1), None)
    expect(play).to_have_attribute("aria-pressed", "true")


def test_a_pair_from_both_sides(page: Page, page_stack: PageStack) -> None:
    """Two works: both rolls, one heard after the other, what they share, and the ranks from both sides."""
    open_work(page, page_stack, track="page/003")
    row = page.locator("#list .row").first
    title = row.locator(".title").inner_text()
    row.locator(".pair").click()
    expect(page.locator("#pair-title")).to_contain_text(title)
    expect(page.locator("#pair .places li")).to_have_count(2)
    expect(page.locator("#pair .places li").first).to_contain_text("rank 1")
    expect(page.locator("#pair tr", has_text="composer").last).to_contain_text("yes")
    expect(page.locator("#pair canvas[data-drawn=ready]")).to_have_count(2)
    page.click("#pair .actions button >> nth=0")
    expect(page.locator("#pair .play").nth(1)).to_have_attribute("aria-pressed", "true")
    assert len(page.evaluate("window.sounded")) == 2 * len(scale(3)[0]) // 3
    assert "pair=page" in page.url
    assert serious_findings(page) == []


def test_a_pair_says_in_what_it_is_alike(page: Page, page_stack: PageStack) -> None:
    """The cosine in each aspect, the most alike first, as the sentence beside it says."""
    open_work(page, page_stack, track="page/003", pair="page/007")
    lines = page.locator("#pair .aspects li")
    expect(lines).to_have_count(3)
    names, cosines = page.locator("#pair .aspects .name"), page.locator("#pair .aspects .cosine")
    shown = [float(each) for each in cosines.all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    most, least = names.first.inner_text(), names.last.inner_text()
    said = f"most alike in {most} ({shown[0]:.2f}), least in {least} ({shown[-1]:.2f})"
    expect(page.locator("#pair .places li").first).to_contain_text(said)
    assert serious_findings(page) == []


def test_a_list_by_other_weights_is_a_url(page: Page, page_stack: PageStack) -> None:
    """Weights are a condition like others: a chip, and items that say by what they were weighed."""
    open_work(page, page_stack, track="page/003", weights="rhythm:1,harmony:-0.5")
    expect(page.locator("#list .row").first).to_contain_text("weighted by rhythm 0.667, harmony -0.333")
    expect(page.locator("#conditions .chip")).to_contain_text("rhythm:1,harmony:-0.5")
    page.goto(page_stack.address(track="page/003", weights="tempo"))
    expect(page.locator("#freshness")).to_contain_text("this catalogue has no aspect tempo")


def test_why_not(page: Page, page_stack: PageStack) -> None:
    """Of a work that one expected, the pair says what kept it out."""
    open_work(page, page_stack, track="page/003", pair="page/004", composer="Haydn", at_least="0")
    expect(page.locator("#pair .places li").first).to_contain_text("not ranked")
    expect(page.locator("#pair .places li").first).to_contain_text("composer")


def test_a_catalogues_own_preview_is_played(page: Page, page_stack: PageStack) -> None:
    """A track with `preview_url` plays it by an audio element; one that cannot be loaded is said so."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(8_000)
        target.writeframes(bytes(16_000))
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(body=sound.getvalue(), content_type="audio/wav")

    page.route("https://previews.test/**", answer)
    open_work(page, page_stack, track="page/003", q=PREVIEW)
    play = page.locator(f"#results .play[data-track='{PREVIEW}']")
    play.click()
    expect(play).to_have_attribute("aria-pressed", "true")
    assert asked == ["https://previews.test/one.wav"]
    expect(play).to_have_attribute("aria-pressed", "false")
    page.unroute("https://previews.test/**")
    page.route("https://previews.test/**", lambda route: route.abort())
    play.click()
    expect(page.locator("#told")).to_contain_text("preview could not be loaded")
