"""Questions of a history: each request is answered by its space, and weighted ones by brute force."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx
import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.contracts import RecommendationReply
from streams.kafka.topics import RECOMMENDATION_REPLIES, RECOMMENDATION_REQUESTS
from streams.maintenance.serving import LOOK_SECONDS
from streams.recommender.held_requests import HELD_SECONDS
from streams.strategies.aspects import Layout
from tests.faults.beside import Beside
from tests.support.worker import read_topic

# Tracks that are asked about by weights, of each generation with aspects.
_ASKED = 12
_TOP_K = 20
# What a worker may say of a track that it does not have yet, of a space that has yet to serve, or of itself.
_PASSING = {"track-not-found", "unknown-space", "store-unavailable", "search-unavailable"}


@dataclass
class SpaceRequests:
    """Requests on Kafka in the course of a history: each is to have a reply of its space.

    Excused are those that had waited for longer than workers hold one when a generation began to serve: all workers of the one
    before had been dead for so long.

    Attributes:
        asked: By request id that was delivered, the space.
        switched: When generations have begun to serve.
    """

    producer: AIOKafkaProducer
    rng: np.random.Generator
    asked: dict[str, str] = field(default_factory=dict)
    switched: list[float] = field(default_factory=list)
    _times: dict[str, float] = field(default_factory=dict)

    async def ask(self, track_id: str, space: str) -> None:
        """Publish a request, without a timeout."""
        request_id = f"r-{len(self.asked)}-{int(self.rng.integers(1 << 40))}"
        value = {"request_id": request_id, "track_id": track_id, "space": space, "strategy": "similarity"}
        try:
            await self.producer.send_and_wait(
                RECOMMENDATION_REQUESTS, json.dumps(value).encode(), request_id.encode()
            )
        except KafkaError:
            return  # nobody has been promised anything
        self.asked[request_id], self._times[request_id] = space, time.monotonic()

    def _promised(self) -> set[str]:
        last = max(self.switched, default=0.0)
        return {name for name, asked in self._times.items() if asked > last - HELD_SECONDS + LOOK_SECONDS}

    async def faults(self, servers: str, patience: float) -> list[str]:
        """Requests without a reply, or with one of another space, in words; waits for replies that are on their way."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            replies = [
                RecommendationReply.model_validate_json(record.value or b"")
                for record in await read_topic(servers, RECOMMENDATION_REPLIES)
            ]
            missing = self._promised() - {reply.request_id for reply in replies}
            if not missing or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.5)
        found = [f"request {name} of {self.asked[name]} has no reply" for name in sorted(missing)]
        for reply in replies:
            if reply.request_id not in self.asked:
                continue
            if reply.status == "ok" and reply.space != self.asked[reply.request_id]:
                found.append(f"request {reply.request_id} has an answer of the space {reply.space}")
            if reply.error is not None and reply.error.type.rpartition(":")[2] not in _PASSING:
                found.append(f"request {reply.request_id} has the problem {reply.error.type}")
        return found


async def wrong_weighted_answers(generation: Beside) -> list[str]:
    """Questions by other weights whose answer is not that of brute force over a generation's vectors, in words."""
    layout = generation.layout
    if layout is None:
        return []
    connection = await asyncpg.connect(generation.url)
    try:
        rows = await connection.fetch("SELECT track_id, embedding FROM tracks ORDER BY track_id")
        worker = await connection.fetchrow(
            "SELECT questions_url, questions_token FROM worker_lives"
            " WHERE ended_at IS NULL AND questions_url IS NOT NULL ORDER BY id DESC LIMIT 1"
        )
    finally:
        await connection.close()
    if worker is None or len(rows) < 2:
        return [
            f"{generation.name} has {len(rows)} tracks, and {'a' if worker else 'no'} worker that answers"
        ]
    names = [row["track_id"] for row in rows]
    vectors = np.array([np.frombuffer(row["embedding"], dtype="<f4") for row in rows], dtype=np.float64)
    found = []
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for at in generation.rng.choice(len(names), min(_ASKED, len(names)), replace=False).tolist():
            weights = {name: round(float(generation.rng.uniform(-1, 2)), 3) for name in layout.names}
            asked = {
                "request_id": f"weighted-{at}",
                "track_id": names[at],
                "space": generation.name.space,
                "weights": weights,
                "strategy": "similarity",
                "top_k": _TOP_K,
            }
            answer = await http.post(
                worker["questions_url"],
                json=asked,
                headers={"authorization": f"Bearer {worker['questions_token']}"},
            )
            with _telling(found, f"{generation.name} of {names[at]} by {weights}"):
                reply = RecommendationReply.model_validate_json(answer.content)
                _check(reply, names, _weighted(layout, vectors, at, weights), at)
    return found


@contextmanager
def _telling(found: list[str], what: str) -> Iterator[None]:
    try:
        yield
    except (AssertionError, ValueError) as error:
        found.append(f"a weighted answer of {what} is wrong: {error}")


def _weighted(layout: Layout, vectors: np.ndarray, at: int, weights: dict[str, float]) -> np.ndarray:
    """The mean of the aspects' cosines with one track by weight, of every track."""
    total = sum(abs(weight) for weight in weights.values())
    means = np.zeros(len(vectors))
    for name, where in layout.parts.items():
        part = vectors[:, where]
        part = part / np.linalg.norm(part, axis=1, keepdims=True)
        means += weights[name] / total * (part @ part[at])
    return means


def _check(reply: RecommendationReply, names: list[str], means: np.ndarray, at: int) -> None:
    assert reply.error is None, reply.error
    items = reply.recommendations or []
    others = np.delete(means, at)
    best = np.sort(others)[::-1][:_TOP_K]
    scores = np.array([item.similarity_score for item in items])
    assert scores.shape == best.shape, f"{len(scores)} of {len(best)}"
    # Ties may be in any order: each score must be the track's own, and the list as good as any.
    assert np.allclose(scores, best, atol=3e-6), f"{scores.tolist()} and not {best.tolist()}"
    places = {name: place for place, name in enumerate(names)}
    own = np.array([means[places[item.track_id]] for item in items])
    assert np.allclose(scores, own, atol=3e-6), f"{scores.tolist()} of tracks with {own.tolist()}"
