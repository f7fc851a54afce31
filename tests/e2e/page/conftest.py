"""A running stack with a small catalogue, and a browser that looks at it."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from mess_client import MessClient
from playwright.sync_api import Browser, Page, expect

from serving.incipits import IncipitFile
from tests.e2e.stack import PATIENCE_SECONDS, REPOSITORY, eventually
from tests.support.browser import find_chromium, running_chromium

ATTACK = "<img src=x onerror=\"document.title='caught'\">"
COMPOSERS = (
    ("Bach", "Baroque"),
    ("Dvořák", "Romantic"),
    ("Palestrina", "Renaissance"),
    ("Haydn", "Classical"),
)
FORMS = ("fugue", "chorale", "dance")
TRACKS = 90
PENDING, PREVIEW, SLOW = "page/001", "page/002", "page/005"
ASPECTS = {"harmony": 4, "melody": 5, "rhythm": 6}


def track(number: int) -> dict[str, Any]:
    """One synthetic event; those of one composer are near each other."""
    source = random.Random(number)
    composer, era = COMPOSERS[number % len(COMPOSERS)]
    parts = {
        name: [source.gauss(0, 0.4) + (3 if place == number % len(COMPOSERS) else 0) for place in range(size)]
        for name, size in ASPECTS.items()
    }
    form = FORMS[number % len(FORMS)]
    preview = {"preview_url": "https://previews.test/one.wav"} if f"page/{number:03}" == PREVIEW else {}
    title = f"{form.capitalize()} no. {number}" if number else ATTACK
    return {
        "track_id": f"page/{number:03}",
        "embedding": parts,
        "metadata": {
            "title": title,
            "composer": composer,
            "era": era,
            "form": form,
            "opus": f"Op.{number},No.2",
            "year_composed": 1600 + number,
            **preview,
        },
    }


def scale(number: int) -> list[list[int]]:
    """A synthetic incipit: a scale of eight notes in one part, slow in one work."""
    length = 1_500 if f"page/{number:03}" == SLOW else 150
    return [[value for step in range(8) for value in (step * length, 140, 60 + number % 5 + step)]]


@dataclass(frozen=True)
class PageStack:
    """A running stack: where its page is, and how to publish to it."""

    url: str
    data_dir: Path
    incipits: IncipitFile

    def publish(self, *events: dict[str, Any]) -> None:
        """Publish track events as a user would, from the terminal."""
        lines = b"\n".join(orjson.dumps(event) for event in events)
        subprocess.run(
            [sys.executable, "-m", "mess", "publish", "-", "--data-dir", str(self.data_dir)],
            input=lines,
            check=True,
            capture_output=True,
            cwd=REPOSITORY,
            timeout=PATIENCE_SECONDS,
        )

    def address(self, **query: str) -> str:
        """The page's URL with these parameters."""
        return f"{self.url}/?{urlencode(query)}" if query else f"{self.url}/"


@pytest.fixture(scope="package")
def page_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageStack]:
    """`mess up` on an own data directory, with 90 synthetic tracks."""
    find_chromium()
    data_dir = tmp_path_factory.mktemp("page") / "data"
    broker = os.environ.get("MESS_TEST_BROKER", "auto")
    command = ["up", "--no-demo", "--port=0", f"--broker={broker}", f"--data-dir={data_dir}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESS_")}
    incipits = IncipitFile(data_dir.parent / "incipits.sqlite")
    incipits.create(f"page/{number:03}" for number in range(TRACKS))
    for number in range(2, TRACKS):
        incipits.write(f"page/{number:03}", scale(number), None)
    environment["MESS_API_INCIPITS"] = str(data_dir.parent / "incipits.sqlite")
    with (data_dir.parent / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mess", *command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=REPOSITORY,
            env=environment,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready "), (data_dir.parent / "up.log").read_text()
            stack = PageStack(line.split()[1], data_dir, incipits)
            stack.publish(*(track(number) for number in range(TRACKS)))
            with MessClient(stack.url, trust_env=False) as client:
                full = {"lists": TRACKS, "full_lists": TRACKS}

                def settled() -> bool:
                    lists = client.health(detailed=True).checks["lists"]
                    return full.items() <= lists.model_dump().items()

                eventually(settled, "every track has its list")
            yield stack
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for this folder: while it is open Playwright keeps a loop running, beside which none of asyncio's runs."""
    with running_chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, page_stack: PageStack) -> Iterator[Page]:
    """An empty page that fails its test on any error of a script and on anything that the policy forbids."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    expect.set_options(timeout=15_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))

    def heard(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    opened.on("console", heard)
    yield opened
    context.close()
    assert not wrong, wrong
