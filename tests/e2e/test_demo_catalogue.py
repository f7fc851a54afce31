"""The demo catalogue through the whole pipeline, as a newcomer meets it."""

import re

import asyncpg
import httpx
import numpy as np
import orjson
import pytest

from mess.demo import catalogue
from tests.e2e.stack import REPOSITORY, Clone, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LIST_SIZE = 50


async def stored(database_url: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors float32 (n, d), and for each track the rows (n, 50) and scores float32 (n, 50) of its list."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT t.key, t.embedding, l.neighbours, l.scores FROM tracks t JOIN neighbour_lists l USING (key)"
        )
    finally:
        await connection.close()
    row_of = {row["key"]: number for number, row in enumerate(rows)}
    neighbours = [[row_of[key] for key in row["neighbours"]] for row in rows]
    assert {len(each) for each in neighbours} == {LIST_SIZE}
    vectors = np.array([np.frombuffer(row["embedding"], dtype="<f4") for row in rows])
    return vectors, np.array(neighbours), np.array([row["scores"] for row in rows], dtype=np.float32)


def recall(vectors: np.ndarray, neighbours: np.ndarray, scores: np.ndarray) -> float:
    """Recall@50 against brute force. Of tracks equally similar at the end of a list, any counts."""
    wide = vectors.astype(np.float64)
    hits = 0
    for start in range(0, len(wide), 512):
        block = (wide[start : start + 512] @ wide.T).astype(np.float32)
        own = np.arange(start, start + len(block))
        mine = neighbours[own]
        assert not (mine == own[:, None]).any(), "a track is in its own list"
        assert (np.sort(mine)[:, 1:] != np.sort(mine)[:, :-1]).all(), "a track is twice in a list"
        found = np.take_along_axis(block, mine, axis=1)
        # A sum in another order may round to the next float32.
        np.testing.assert_allclose(scores[own], found, rtol=0, atol=1e-7)
        block[np.arange(len(block)), own] = -np.inf
        last = np.partition(block, -LIST_SIZE, axis=1)[:, -LIST_SIZE]
        hits += int((found >= last[:, None] - np.float32(1e-7)).sum())
    return hits / neighbours.size


def shown_in_readme() -> list[list[object]]:
    """What the README says that the demo answers."""
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    return [orjson.loads(line) for line in lines if re.match(r'\[\d,"bach/', line)]


async def test_every_work_of_the_demo_has_the_list_of_brute_force(clone: Clone) -> None:
    """`mess up` alone leads to 14,765 works with lists of 50, recall 1.0, and to what the README shows."""
    with clone.up("--port=0") as up:
        eventually(lambda: "works have their 50 neighbours" in up.said(), "all works have lists", within=200)
        works = len(catalogue.load_demo_catalogue())
        assert up.client.tracks_page(limit=1).total == works
        vectors, neighbours, scores = await stored(up.database_url)
        assert len(vectors) == works
        assert recall(vectors, neighbours, scores) == 1.0

        example = re.search(r"curl '([^']+)'", up.said())
        assert example is not None, up.said()
        async with httpx.AsyncClient(trust_env=False, timeout=10) as plain:
            assert len((await plain.get(example[1])).json()["recommendations"]) == 5
        bach = [each.composer for each in up.client.recommend("bach/bwv66.6", top_k=10).recommendations]
        assert bach.count("Bach") >= 8, bach
        assert shown_in_readme() == [
            [each.rank, each.track_id, each.score, each.title, each.explanation]
            for each in up.client.recommend("bach/bwv66.6", top_k=3).recommendations
        ]
        assert up.interrupt() == 0
