"""The map of the demo catalogue: how true it is to the vectors, beside PCA and UMAP on the raw vectors; and frames a second.

Trustworthiness and continuity (Venna and Kaski 2001) with 15 neighbours, on a sample of tracks: whether near tracks on the map
are near in truth, and whether near tracks in truth are near on the map.

    python -m benchmarks.map_layout        # the two figures
    python -m benchmarks.map_layout URL    # frames a second of the page at URL with 15,000 and 200,000 points, in Chromium
"""

import sys
import time
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from mess.demo import catalogue
from streams.engine.map_layout import NEIGHBOURS, PrincipalPlane, lay_out, turned_onto

SAMPLE = 4_000
SECONDS = 4.0

_PAN = """async ([seconds]) => {
  const canvas = document.querySelector("#map");
  const box = canvas.getBoundingClientRect();
  const send = (type, x) => canvas.dispatchEvent(new PointerEvent(type, {pointerId: 7, clientX: box.left + x, clientY: box.top + 200}));
  canvas.setPointerCapture = () => {};
  send("pointerdown", 300);
  let frames = 0, worst = 0, last = performance.now();
  const until = last + seconds * 1000;
  while (last < until) {
    send("pointermove", 300 + 200 * Math.sin(frames / 20));
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    worst = Math.max(worst, now - last);
    last = now;
    frames++;
  }
  send("pointerup", 300);
  return [frames / seconds, worst];
}"""


def _lists(
    vectors: npt.NDArray[np.float32], width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    near = np.empty((len(vectors), width), np.int64)
    scores = np.empty((len(vectors), width), np.float32)
    for start in range(0, len(vectors), 1_000):
        product = vectors[start : start + 1_000] @ vectors.T
        product[np.arange(len(product)), np.arange(start, start + len(product))] = -2
        best = np.argpartition(-product, width, axis=1)[:, :width]
        order = np.argsort(-np.take_along_axis(product, best, axis=1), axis=1)
        near[start : start + 1_000] = np.take_along_axis(best, order, axis=1)
        scores[start : start + 1_000] = np.take_along_axis(product, near[start : start + 1_000], axis=1)
    return near, scores


def quality(size: int) -> None:
    """Print a row for each way to lay the demo out."""
    from sklearn.manifold import trustworthiness  # type: ignore[import-untyped]  # noqa: PLC0415
    from umap import UMAP  # noqa: PLC0415

    vectors = catalogue.load_demo_catalogue().embeddings
    near, scores = _lists(vectors, NEIGHBOURS - 1)
    sample = np.random.default_rng(1).choice(len(vectors), size, replace=False)
    plane = PrincipalPlane(vectors[::3]).places(vectors)

    def told(name: str, places: npt.NDArray[Any], seconds: float) -> None:
        trust = trustworthiness(vectors[sample], places[sample], n_neighbors=15)
        continuity = trustworthiness(places[sample], vectors[sample], n_neighbors=15)
        print(f"| {name} | {trust:.3f} | {continuity:.3f} | {seconds:.0f} |", flush=True)

    print("| layout | trustworthiness | continuity | processor seconds |\n|---|---|---|---|")
    told("PCA", plane, 0)
    began = time.process_time()
    ours = lay_out(near, scores, plane, again=False)
    told("from the neighbour lists", ours, time.process_time() - began)
    began = time.process_time()
    again = turned_onto(lay_out(near, scores, ours, again=True), ours, np.ones(len(ours), np.bool_))
    told("refreshed", again, time.process_time() - began)
    moved = np.linalg.norm(again - ours, axis=1) / np.ptp(ours, axis=0).max()
    print(
        f"a refresh moves a track by {np.median(moved):.2%} of the map's side at the median, {np.quantile(moved, 0.99):.2%} at most for 99 of 100"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        raw = UMAP(metric="cosine", random_state=1).fit_transform(vectors)
        told("UMAP on the raw vectors", raw, time.process_time() - began)


def frames(url: str) -> None:
    """Print frames a second while the map is dragged, with points that the browser is handed instead of the API's."""
    from tests.support.browser import running_chromium  # noqa: PLC0415

    random = np.random.default_rng(1)
    print("| points | frames a second | longest frame, ms |\n|---|---|---|")
    with running_chromium() as browser:
        for count in (15_000, 200_000):
            middles = random.normal(size=(40, 2)) * 5
            places = middles[random.integers(40, size=count)] + random.normal(size=(count, 2))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            document = {
                "ids": [f"t/{number}" for number in range(count)],
                "x": places[:, 0].tolist(),
                "y": places[:, 1].tolist(),
                "values": random.integers(12, size=count).tolist(),
                "names": [f"value {number}" for number in range(12)],
                "next": count,
                "more": False,
            }
            body = orjson.dumps(document)
            empty = orjson.dumps(document | {"ids": [], "x": [], "y": [], "values": []})
            page.route(
                "**/map?*",
                lambda route, body=body, empty=empty: route.fulfill(
                    body=body if "after=0" in route.request.url else empty, content_type="application/json"
                ),
            )
            page.goto(f"{url}/?view=map")
            page.wait_for_function(f"document.querySelector('#map-told').textContent.startsWith('{count:,}')")
            page.wait_for_timeout(500)
            rate, worst = page.evaluate(_PAN, [SECONDS])
            print(f"| {count:,} | {rate:.0f} | {worst:.0f} |", flush=True)
            page.close()


def main(*, quick: bool = False) -> None:
    """Print how true the layouts are."""
    quality(1_500 if quick else SAMPLE)


if __name__ == "__main__":
    frames(sys.argv[1]) if len(sys.argv) > 1 else main()
