"""A second space, which readers of the page can choose."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.serving.catalogue import AWKWARD_IDS, ServedCatalogue, make_catalogue
from tests.integration.serving.conftest import (  # noqa: F401 -- fixtures
    SIZE,
    Database,
    catalogue,
    database,
    filled_template,
)
from tests.integration.serving.process import running_api
from tests.integration.serving.two_generations import add_generation, promote

pytestmark = pytest.mark.e2e

TRACK = "test/00123"


@pytest.fixture
def melody(database: Database) -> ServedCatalogue:  # noqa: F811 -- the fixture
    """A second space over the same tracks, with lists of its own."""
    other = make_catalogue(SIZE, seed=21, ids=AWKWARD_IDS)

    async def fill() -> None:
        await promote(database, await add_generation(database, "melody", other))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, fill()).result()
    return other


@contextmanager
def _running(url: str) -> Iterator[str]:
    """An API in a loop of another thread, as the browser has the one of this; yields where it is."""
    found: concurrent.futures.Future[str] = concurrent.futures.Future()
    ended = threading.Event()

    async def run() -> None:
        async with running_api(url, MESS_API_ACCESS_LOG="false") as running:
            found.set_result(await running.url())
            await asyncio.to_thread(ended.wait)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, run())
        try:
            yield found.result(30)
        finally:
            ended.set()
            done.result(30)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page that fails its test on any error of a script."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    expect.set_options(timeout=15_000)
    yield opened
    context.close()
    assert not wrong


def test_a_space_can_be_chosen_where_several_serve(
    database: Database,  # noqa: F811 -- the fixture
    catalogue: ServedCatalogue,  # noqa: F811 -- the fixture
    melody: ServedCatalogue,
    page: Page,
) -> None:
    """The list becomes that of the other space, and so does the address, which can be sent and gone back from."""
    first, second = (each.expected(TRACK, 1)[0][0] for each in (catalogue, melody))
    assert first != second
    chosen = page.locator("#list .row").first
    with _running(database.api_url) as url:
        page.goto(f"{url}/?track={quote(TRACK, safe='')}")
        expect(chosen).to_have_attribute("data-track", first)
        expect(page.get_by_label("Similar in")).to_have_value("default")
        page.get_by_label("Similar in").select_option("melody")
        expect(chosen).to_have_attribute("data-track", second)
        expect(page).to_have_url(f"{url}/?space=melody&track={quote(TRACK, safe='')}")
        page.reload()
        expect(chosen).to_have_attribute("data-track", second)
        expect(page.locator("#freshness")).to_contain_text("List of")
        page.go_back()
        expect(chosen).to_have_attribute("data-track", first)
        page.goto(f"{url}/?space=mood&track={quote(TRACK, safe='')}")
        expect(page.locator("#freshness")).to_contain_text("No generation of space 'mood' serves")
        page.get_by_label("Similar in").select_option("default")
        expect(chosen).to_have_attribute("data-track", first)


def test_nothing_is_offered_where_one_space_serves(database: Database, page: Page) -> None:  # noqa: F811 -- the fixture
    """Who has one space need not know of others."""
    with _running(database.api_url) as url:
        with page.expect_response("**/spaces"):
            page.goto(f"{url}/?track={quote(TRACK, safe='')}")
        expect(page.locator("#list .row").first).to_be_visible()
        expect(page.get_by_label("Similar in")).to_be_hidden()
