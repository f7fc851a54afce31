"""A real Chromium for tests of the page, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """The browser's path; without one its tests are skipped, saying so, and fail in CI."""
    named = os.environ.get("MESS_TEST_BROWSER")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("there is no Chromium: install it, or name one in MESS_TEST_BROWSER")
        pytest.skip(
            "THE PAGE IS NOT TESTED: no Chromium found; `apt-get install chromium`, or set MESS_TEST_BROWSER"
        )
    return found


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """A headless browser around a block."""
    path = find_chromium()
    with sync_playwright() as playwright:
        # Containers and root have no sandbox; it opens pages of this machine alone.
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        try:
            yield browser
        finally:
            browser.close()
