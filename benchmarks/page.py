"""The page in Chromium: first paint, what it weighs, frames a second of the map, and search at 15,000 and 1M tracks.

Frames are counted while the map is dragged, beside those of an empty page that asks for frames alone. Searches are HTTP
requests to one API process that go through Postgres.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
from playwright.sync_api import Request, Route, expect
from pydantic import SecretStr

from benchmarks import filling, machine, processes, report
from benchmarks.reads import ServerUnderLoad, listening_server
from mess.demo import catalogue
from mess.stack.ports import pick_free
from store import tracks
from store.columns import METADATA_FIELDS
from store.pool import open_pool, transaction
from store.settings import StoreSettings
from store.tracks import TrackRow
from streams.contracts import TrackMetadata, track_key
from tests.support.browser import running_chromium

SECONDS = 4.0
# As people write them: whole words, parts, punctuation, a typo, words that no one work has together, nothing.
SEARCHES = (
    "bach fugue",
    "op 27",
    "k 331",
    "beethoven",
    "morris",
    "bahc",
    "reel in",
    "gounod",
    "mozart jig tango",
    "qqqqq",
)
ROUNDS = 20
VISITS = 7

_DRAG = """async ([seconds, drag]) => {
  const canvas = document.querySelector("#map");
  const box = canvas.getBoundingClientRect();
  const send = (type, x) => canvas.dispatchEvent(new PointerEvent(type, {pointerId: 7, clientX: box.left + x, clientY: box.top + 200}));
  canvas.setPointerCapture = () => {};
  if (drag) send("pointerdown", 300);
  let frames = 0, worst = 0, last = performance.now();
  const until = last + seconds * 1000;
  while (last < until) {
    if (drag) send("pointermove", 300 + 200 * Math.sin(frames / 20));
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    worst = Math.max(worst, now - last);
    last = now;
    frames++;
  }
  if (drag) send("pointerup", 300);
  return [frames / seconds, worst];
}"""
_VISIT = r"""() => {
  const painted = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  const parts = [performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")];
  const files = parts.filter(({name}) => /^\/$|\/page\//.test(new URL(name).pathname));
  return [painted, files.length, files.reduce((sum, {transferSize}) => sum + transferSize, 0)];
}"""


def _show_visits(url: str) -> None:
    with running_chromium() as browser:
        visits = []
        for _ in range(VISITS):  # each in a context of its own, which has nothing kept
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.goto(url, wait_until="networkidle")
            visits.append(page.evaluate(_VISIT))
            context.close()
    painted = sorted(visit[0] for visit in visits)
    table = report.make_table("The first visit", "", "")
    table.add_row("first paint, ms: median, worst", f"{statistics.median(painted):.0f}, {painted[-1]:.0f}")
    table.add_row("files", str(visits[0][1]))
    table.add_row("transferred, kB", f"{visits[0][2] / 1e3:.0f}")
    report.print_table(table)


def _drawn_points(count: int) -> tuple[bytes, bytes]:
    """A map of `count` points, and one without."""
    random = np.random.default_rng(1)
    middles = random.normal(size=(40, 2)) * 5
    places = middles[random.integers(40, size=count)] + random.normal(size=(count, 2))
    document: dict[str, Any] = {
        "ids": [f"t/{number}" for number in range(count)],
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "values": random.integers(12, size=count).tolist(),
        "names": [f"value {number}" for number in range(12)],
        "next": count,
        "more": False,
    }
    nothing = document | {"ids": [], "x": [], "y": [], "values": []}
    return orjson.dumps(document), orjson.dumps(nothing)


def _answer_with(body: bytes, nothing: bytes) -> Callable[[Route, Request], None]:
    def answer(route: Route, request: Request) -> None:
        route.fulfill(body=body if "after=0" in request.url else nothing, content_type="application/json")

    return answer


def _show_frames(url: str) -> None:
    table = report.make_table(
        f"The map, dragged for {SECONDS:g} s at 1280 x 900, load {machine.load_average()}",
        "points",
        "frames/s",
        "longest frame, ms",
        "frames/s at rest",
    )
    with running_chromium() as browser:
        for count in (15_000, 200_000):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.route("**/map?*", _answer_with(*_drawn_points(count)))
            page.goto(f"{url}/?view=map")
            expect(page.locator("#map-told")).to_contain_text(f"{count:,}", timeout=60_000)
            page.wait_for_timeout(500)
            rested, _ = page.evaluate(_DRAG, [SECONDS, False])
            rate, worst = page.evaluate(_DRAG, [SECONDS, True])
            table.add_row(f"{count:,}", f"{rate:.0f}", f"{worst:.0f}", f"{rested:.0f}")
            page.close()
    report.print_table(table, "Without a graphics processor: Chromium draws on the processor's cores.")


async def _grow(database_url: str, count: int) -> None:
    """Add tracks named as the demo's until there are `count`: each of its works in other keys and numbers."""
    demo = catalogue.load_demo_catalogue()
    blob = np.ones(demo.embeddings.shape[1], dtype="<f4").tobytes()
    settings = StoreSettings(database_url=SecretStr(database_url), command_timeout=600)
    async with await open_pool(settings, application_name="benchmark") as pool:
        have = await pool.fetchval("SELECT count(*) FROM tracks")
        for start in range(have, count, 10_000):
            rows = [_variation(demo, number, blob) for number in range(start, min(start + 10_000, count))]
            async with transaction(pool) as connection:
                await tracks.upsert_tracks(connection, rows)
            if start // 10_000 % 10 == 0:
                report.progress(f"{start:,} tracks")
        await pool.execute("VACUUM ANALYZE tracks")
        await pool.execute("VACUUM ANALYZE search_words")


def _variation(demo: catalogue.DemoCatalogue, number: int, blob: bytes) -> TrackRow:
    work = demo.tracks[number % len(demo.tracks)]
    metadata = TrackMetadata.model_validate(
        work.metadata
        | {"title": f"{work.metadata.get('title', 'Untitled')} {number}", "opus": f"op. {number % 997}"}
    )
    values = tuple(
        list(value) if isinstance(value, tuple) else value
        for value in (getattr(metadata, field) for field in METADATA_FIELDS)
    )
    name = f"variation/{number}"
    return TrackRow(name, track_key(name), values, blob, 0, number, datetime.now(UTC))


def _show_searches(api: ServerUnderLoad, count: int) -> None:
    table = report.make_table(
        f"Search among {count:,} tracks, load {machine.load_average()}", "words", "hits", "p50 ms", "worst ms"
    )
    for words in SEARCHES:
        url = f"http://127.0.0.1:{api.port}/tracks?search={quote(words)}&limit=25"
        seconds = []
        hits = 0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            with urllib.request.urlopen(url, timeout=60) as reply:
                hits = len(orjson.loads(reply.read())["tracks"])
            seconds.append(time.perf_counter() - began)
        p50, _, _ = np.percentile(np.array(seconds) * 1000, [50, 90, 99])
        table.add_row(words, str(hits), f"{p50:.1f}", f"{max(seconds) * 1000:.1f}")
    report.print_table(table)


def main(*, quick: bool = False) -> None:
    """Run it and print the tables."""
    many = 100_000 if quick else 1_000_000
    with (
        tempfile.TemporaryDirectory(prefix="mess-bench-") as directory,
        processes.services("--broker=none", "--data-dir", f"{directory}/services") as facts,
    ):
        names = filling.fill(facts["database_url"], 15_000)
        (port,) = pick_free(1)
        with listening_server(
            [sys.executable, "-m", "mess", "api"],
            port,
            Path(directory) / "api.log",
            MESS_API_PORT=str(port),
            MESS_DATABASE_URL=facts["api_database_url"],
            MESS_API_STORE_TIMEOUT="60",
        ) as api:
            url = f"http://127.0.0.1:{port}"
            _show_visits(url)
            _show_frames(url)
            _show_searches(api, len(names))
            asyncio.run(_grow(facts["database_url"], many))
            _show_searches(api, many)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
