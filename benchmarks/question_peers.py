"""What else one could ask: a FastAPI route over pgvector, hnswlib, qdrant-edge or lancedb, each with the demo catalogue.

`python -m benchmarks.question_peers NAME PORT [DSN or directory]`. Each answers `POST /recommend` with seeds, weights, eras and
a cap by composer as the API does, from metadata that is ready as JSON. None keeps lists, explains, or follows changes.
"""

import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from mess.demo import catalogue
from streams.strategies.text import NOBODY, plain_text

# hnswlib's and Qdrant's usual parameters, as in the other benchmarks.
LINKS, BUILD_WIDTH = 16, 200
# With less, one answer in twenty lacks a track.
LEAST_SEARCH_WIDTH = 800
# How many times as many are asked for as are wanted, and as before when these were too few.
SPARE, WIDER = 4, 4
CONNECTIONS = 8

Row = tuple[int, float]


class WeightedSeed(BaseModel):
    """Where to start."""

    track_id: str
    weight: float = 1.0


class EraFilter(BaseModel):
    """Any of these eras; none: any."""

    era: list[str] = []


class ComposerCap(BaseModel):
    """How many of one composer."""

    composer: int | None = None


class PeerQuestion(BaseModel):
    """The part of a question that every peer answers."""

    seeds: list[WeightedSeed]
    top_k: int = Field(default=50, ge=1, le=50)
    filters: EraFilter = EraFilter()
    caps: ComposerCap = ComposerCap()


class PeerCatalogue:
    """The demo catalogue as a peer's application has it at hand.

    Attributes:
        vectors: float32 (n, d), unit length.
        composers: What a cap counts each track as; None: nothing.
        eras: Of each track.
        fragments: Each track as JSON.
    """

    def __init__(self) -> None:
        demo = catalogue.load_demo_catalogue()
        self.vectors = demo.embeddings
        self.names = [track.track_id for track in demo.tracks]
        self.rows = {name: row for row, name in enumerate(self.names)}
        plain = [plain_text(track.metadata.get("composer")) for track in demo.tracks]
        self.composers = [None if name in NOBODY else name for name in plain]
        self.eras = [track.metadata.get("era") for track in demo.tracks]
        self.fragments = [
            orjson.dumps({"track_id": track.track_id, "metadata": track.metadata}) for track in demo.tracks
        ]

    def direction(self, question: PeerQuestion, vectors: np.ndarray) -> np.ndarray:
        """The weighted mean of the seeds' vectors, float32 (d,), unit length."""
        total = np.array([seed.weight for seed in question.seeds]) @ vectors.astype(np.float64)
        return np.asarray(total / np.linalg.norm(total), dtype=np.float32)

    def seeds(self, question: PeerQuestion) -> np.ndarray:
        """The rows of the seeds."""
        return np.array([self.rows[seed.track_id] for seed in question.seeds])

    def capped(self, found: Iterable[Row], question: PeerQuestion) -> list[Row]:
        """The best of what was found, best first, that are no seeds and keep to the cap."""
        left: dict[str, int] = {}
        seeds = {seed.track_id for seed in question.seeds}
        taken: list[Row] = []
        for row, score in found:
            composer = self.composers[row]
            if self.names[row] in seeds:
                continue
            if composer is not None and question.caps.composer is not None:
                if left.setdefault(composer, question.caps.composer) == 0:
                    continue
                left[composer] -= 1
            taken.append((row, score))
            if len(taken) == question.top_k:
                break
        return taken

    def widening(self, question: PeerQuestion, search: Callable[[int], list[Row]]) -> list[Row]:
        """Search for more and more until the list is full, or everything has been looked at."""
        width = SPARE * question.top_k
        while True:
            width = min(width, len(self.names))
            taken = self.capped(search(width), question)
            if len(taken) == question.top_k or width == len(self.names):
                return taken
            width *= WIDER

    def body(self, taken: list[Row]) -> bytes:
        """The answer."""
        items = [
            {"rank": rank, "score": round(score, 6), "track": orjson.Fragment(self.fragments[row])}
            for rank, (row, score) in enumerate(taken, start=1)
        ]
        return orjson.dumps({"recommendations": items})


class QuestionPeer(Protocol):
    """A way to find tracks."""

    async def open(self, tracks: PeerCatalogue, where: str) -> None:
        """Take in the catalogue."""

    async def find(self, question: PeerQuestion) -> list[Row]:
        """Rows and scores, best first."""


class HnswlibPeer:
    """hnswlib's graph, exact products of what it finds, and filters and caps in Python."""

    async def open(self, tracks: PeerCatalogue, where: str) -> None:
        """See `QuestionPeer`."""
        del where
        hnswlib = importlib.import_module("hnswlib")
        self._tracks = tracks
        count, dimension = tracks.vectors.shape
        self._index = hnswlib.Index(space="ip", dim=dimension)
        self._index.init_index(max_elements=count, M=LINKS, ef_construction=BUILD_WIDTH)
        self._index.add_items(tracks.vectors, np.arange(count))
        self._index.set_num_threads(1)
        names = dict.fromkeys(tracks.eras)
        self._numbers = {era: number for number, era in enumerate(names)}
        self._eras = np.array([self._numbers[era] for era in tracks.eras])

    async def find(self, question: PeerQuestion) -> list[Row]:
        """See `QuestionPeer`."""
        tracks = self._tracks
        vector = tracks.direction(question, tracks.vectors[tracks.seeds(question)])
        return tracks.widening(question, lambda width: self._search(vector, question, width))

    def _search(self, vector: np.ndarray, question: PeerQuestion, width: int) -> list[Row]:
        # A graph that is asked for a large part of the catalogue is slower than a product with all, and finds less.
        rows = np.arange(len(self._eras))
        if width * 4 < len(rows):
            self._index.set_ef(max(LEAST_SEARCH_WIDTH, 2 * width))
            (found,), _ = self._index.knn_query(vector, k=width)
            rows = found.astype(np.intp)
        if question.filters.era:
            wanted = [self._numbers[era] for era in question.filters.era if era in self._numbers]
            rows = rows[np.isin(self._eras[rows], wanted)]
        scores = self._tracks.vectors[rows] @ vector
        order = np.argsort(-scores, kind="stable")
        return list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))


_ANSWER = """
SELECT row, score FROM (
    SELECT row, composer, -(embedding <#> $1) AS score,
        row_number() OVER (PARTITION BY composer ORDER BY embedding <#> $1, row) AS place
    FROM peer_tracks
    WHERE (cardinality($2::text[]) = 0 OR era = ANY($2)) AND NOT row = ANY($3::int[])
) AS nearest
WHERE composer IS NULL OR $4::int IS NULL OR place <= $4
ORDER BY score DESC, row LIMIT $5
"""


class PgvectorPeer:
    """One exact statement of Postgres, which has filters and caps, too."""

    async def open(self, tracks: PeerCatalogue, where: str) -> None:
        """See `QuestionPeer`."""
        self._tracks = tracks
        dimension = tracks.vectors.shape[1]
        async with asyncpg.create_pool(where, min_size=1, max_size=1) as pool:
            await pool.execute("CREATE EXTENSION IF NOT EXISTS vector")
            await pool.execute("DROP TABLE IF EXISTS peer_tracks")
            await pool.execute(
                f"CREATE TABLE peer_tracks (row int PRIMARY KEY, era text, composer text, embedding vector({dimension}))"
            )
        self._pool = await asyncpg.create_pool(
            where, init=_know_vectors, min_size=CONNECTIONS, max_size=CONNECTIONS
        )
        records = zip(range(len(tracks.names)), tracks.eras, tracks.composers, tracks.vectors, strict=True)
        await self._pool.copy_records_to_table("peer_tracks", records=records)
        await self._pool.execute("CREATE INDEX ON peer_tracks (era)")
        await self._pool.execute("VACUUM ANALYZE peer_tracks")

    async def find(self, question: PeerQuestion) -> list[Row]:
        """See `QuestionPeer`."""
        tracks, rows = self._tracks, self._tracks.seeds(question).tolist()
        async with self._pool.acquire() as connection:
            found = dict(
                await connection.fetch(
                    "SELECT row, embedding FROM peer_tracks WHERE row = ANY($1::int[])", rows
                )
            )
            vector = tracks.direction(question, np.array([found[row] for row in rows]))
            cap, eras = question.caps.composer, question.filters.era
            answer = await connection.fetch(_ANSWER, vector, eras, rows, cap, question.top_k)
        return [(row, score) for row, score in answer]


async def _know_vectors(connection: asyncpg.Connection) -> None:
    def encode(vector: np.ndarray) -> bytes:
        return len(vector).to_bytes(2, "big") + bytes(2) + vector.astype(">f4").tobytes()

    def decode(written: bytes) -> np.ndarray:
        return np.frombuffer(written, dtype=">f4", offset=4)

    await connection.set_type_codec("vector", encoder=encode, decoder=decode, format="binary")


class QdrantEdgePeer:
    """Qdrant in the process: filters in its search, which is exact, and caps in Python."""

    async def open(self, tracks: PeerCatalogue, where: str) -> None:
        """See `QuestionPeer`."""
        edge = self._edge = importlib.import_module("qdrant_edge")
        self._tracks = tracks
        vectors = edge.EdgeVectorParams(size=tracks.vectors.shape[1], distance=edge.Distance.Dot)
        graph = edge.HnswIndexConfig(LINKS, BUILD_WIDTH, 10_000)
        self._shard = edge.EdgeShard.create(
            f"{where}/edge", edge.EdgeConfig(vectors=vectors, hnsw_config=graph)
        )
        points = [
            edge.Point(row, vector.tolist(), {"era": era})
            for row, (vector, era) in enumerate(zip(tracks.vectors, tracks.eras, strict=True))
        ]
        for start in range(0, len(points), 1_000):
            self._shard.update(edge.UpdateOperation.upsert_points(points[start : start + 1_000]))
        index = edge.UpdateOperation.create_field_index("era", edge.PayloadSchemaType.Keyword)
        self._shard.update(index)
        self._shard.optimize()

    async def find(self, question: PeerQuestion) -> list[Row]:
        """See `QuestionPeer`."""
        tracks = self._tracks
        vector = tracks.direction(question, tracks.vectors[tracks.seeds(question)]).tolist()
        return tracks.widening(question, lambda width: self._search(vector, question, width))

    def _search(self, vector: list[float], question: PeerQuestion, width: int) -> list[Row]:
        edge = self._edge
        eras = question.filters.era
        wanted = None
        if eras:
            wanted = edge.Filter(must=[edge.FieldCondition("era", match=edge.MatchAny(eras))])
        request = edge.SearchRequest(
            query=edge.Query.Nearest(vector), limit=width, filter=wanted, params=edge.SearchParams(exact=True)
        )
        return [(int(point.id), point.score) for point in self._shard.search(request)]


class LancePeer:
    """LanceDB in the process: filters before its search, which is exhaustive, and caps in Python."""

    async def open(self, tracks: PeerCatalogue, where: str) -> None:
        """See `QuestionPeer`."""
        lancedb, arrow = importlib.import_module("lancedb"), importlib.import_module("pyarrow")
        self._tracks = tracks
        count, dimension = tracks.vectors.shape
        flat = arrow.array(tracks.vectors.ravel(), type=arrow.float32())
        table = arrow.table(
            {
                "row": arrow.array(range(count), type=arrow.int32()),
                "era": arrow.array(tracks.eras),
                "vector": arrow.FixedSizeListArray.from_arrays(flat, dimension),
            }
        )
        connection = await lancedb.connect_async(f"{where}/lance")
        self._table = await connection.create_table("tracks", table)
        await self._table.create_index("era", config=lancedb.index.Bitmap())

    async def find(self, question: PeerQuestion) -> list[Row]:
        """See `QuestionPeer`."""
        tracks = self._tracks
        vector = tracks.direction(question, tracks.vectors[tracks.seeds(question)])
        width = SPARE * question.top_k
        while True:
            width = min(width, len(tracks.names))
            taken = tracks.capped(await self._search(vector, question, width), question)
            if len(taken) == question.top_k or width == len(tracks.names):
                return taken
            width *= WIDER

    async def _search(self, vector: np.ndarray, question: PeerQuestion, width: int) -> list[Row]:
        query = self._table.query().nearest_to(vector).distance_type("dot").select(["row", "_distance"])
        if question.filters.era:
            eras = ", ".join("'" + era.replace("'", "''") + "'" for era in question.filters.era)
            query = query.where(f"era IN ({eras})")
        found = await query.limit(width).to_arrow()
        scores = (1 - distance for distance in found["_distance"].to_pylist())
        return list(zip(found["row"].to_pylist(), scores, strict=True))


PEERS: dict[str, type[QuestionPeer]] = {
    "pgvector": PgvectorPeer,
    "hnswlib": HnswlibPeer,
    "qdrant-edge": QdrantEdgePeer,
    "lancedb": LancePeer,
}
# What each needs beside the pinned packages.
NEEDS = {"hnswlib": "hnswlib", "qdrant-edge": "qdrant_edge", "lancedb": "lancedb"}


def application(name: str, where: str) -> FastAPI:
    """A peer behind one route."""
    tracks, peer = PeerCatalogue(), PEERS[name]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await peer.open(tracks, where)
        yield {}

    app = FastAPI(lifespan=lifespan)

    @app.post("/recommend")
    async def recommend(question: PeerQuestion) -> Response:
        return Response(tracks.body(await peer.find(question)), media_type="application/json")

    return app


if __name__ == "__main__":
    place = sys.argv[3] if len(sys.argv) > 3 else str(Path.cwd())
    uvicorn.run(application(sys.argv[1], place), port=int(sys.argv[2]), access_log=False, log_level="warning")
