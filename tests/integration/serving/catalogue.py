"""A catalogue of real-looking tracks with exact neighbour lists, written straight into Postgres."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np
import orjson

from store.columns import METADATA_FIELDS
from store.rows import metadata_row
from store.tracks import TrackRow, upsert_tracks
from streams.contracts import track_key
from tests.support.metadata import ABSENT

COMPOSERS = (
    ("Bach", "Johann Sebastian Bach", "Baroque", ("chorale", "fugue", "prelude")),
    ("Palestrina", "Giovanni Pierluigi da Palestrina", "Renaissance", ("motet", "mass movement")),
    ("Monteverdi", "Claudio Monteverdi", "Renaissance", ("madrigal",)),
    ("Haydn", "Joseph Haydn", "Classical", ("string quartet",)),
    ("Dvořák", "Antonín Dvořák", "Romantic", ("string quartet", "dance")),
    (None, None, None, ("reel", "jig", "hornpipe")),
)
KEYS = ("C major", "G major", "D minor", "A minor", "E♭ major")
TAGS = ("vocal", "sacred", "dance", "chamber", "keyboard")
START = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
PARTITIONS = 8

# Ids that a careless router, decoder or quoter takes for something else.
AWKWARD_IDS = (
    "a/b/c",
    "a/metadata",
    "metadata",
    "what?",
    "c#1",
    "100%",
    "%2F",
    "a%2Fb",
    "a+b",
    "with space",
    "Dvořák: Žalm 23",
    "音楽/三味線",
    "🎻",
    "..",
    "a/../b",
    "a//b",
    "/leading",
    "trailing/",
    'it\'s "quoted"; \\ &c',
    "全角\u3000空白",
    "a\u00a0b",
    "👩\u200d🎤",
    "a\u200cb",
    " \u2003 ",
    "e\u0301 \ue000 \U0001fae9",
)


@dataclass(frozen=True)
class Track:
    """One track as it is stored: `vector` is (d,) float32 of unit length."""

    track_id: str
    metadata: dict[str, Any]
    vector: np.ndarray
    partition: int
    offset: int

    @property
    def key(self) -> int:
        return track_key(self.track_id)

    @property
    def row(self) -> tuple[Hashable, ...]:
        return metadata_row(self.metadata.get(name, ABSENT.get(name)) for name in METADATA_FIELDS)


@dataclass(frozen=True)
class ServedCatalogue:
    """Tracks with their exact lists: `neighbours[i]` are positions in `tracks`, most similar first."""

    tracks: list[Track]
    neighbours: np.ndarray
    scores: np.ndarray
    by_id: dict[str, int] = field(default_factory=dict)

    def expected(self, track_id: str, count: int) -> list[tuple[str, float]]:
        """The first `count` neighbours of a track, with their similarities."""
        row = self.by_id[track_id]
        pairs = zip(self.neighbours[row, :count], self.scores[row, :count], strict=True)
        return [(self.tracks[column].track_id, float(score)) for column, score in pairs]


def _metadata(number: int, random: np.random.Generator) -> dict[str, Any]:
    composer, full, era, forms = COMPOSERS[random.integers(len(COMPOSERS))]
    form = forms[random.integers(len(forms))]
    return {
        "title": f"{form.capitalize()} no. {number}",
        "composer": composer,
        "composer_full": full,
        "opus": f"BWV {number}" if composer == "Bach" else None,
        "era": era,
        "form": form,
        "key_signature": KEYS[random.integers(len(KEYS))],
        "year_composed": int(random.integers(1500, 1900)) if composer else None,
        "dataset_source": "test",
        "tags": [TAGS[index] for index in sorted(set(random.integers(len(TAGS), size=2)))],
        "extra": {"filename": f"{number:05}.mid"} if number % 2 else {},
    }


def make_catalogue(
    size: int, *, dimension: int = 32, seed: int = 7, ids: tuple[str, ...] = ()
) -> ServedCatalogue:
    """Random unit vectors, real-looking metadata, and each track's exact 50 nearest by brute force."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((size, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tracks = [
        Track(
            ids[number] if number < len(ids) else f"test/{number:05}",
            _metadata(number, random),
            vectors[number],
            number % PARTITIONS,
            number // PARTITIONS,
        )
        for number in range(size)
    ]
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    count = min(50, size - 1)
    nearest = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similarities, nearest, axis=1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, axis=1)
    scores = np.take_along_axis(similarities, nearest, axis=1)
    return ServedCatalogue(tracks, nearest, scores, {track.track_id: row for row, track in enumerate(tracks)})


async def write_catalogue(connection: asyncpg.Connection, catalogue: ServedCatalogue) -> None:
    """Write tracks, lists, and the offsets of a worker that has absorbed everything."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda raw: orjson.loads(raw[1:]),
    )
    async with connection.transaction():
        await upsert_tracks(
            connection,  # type: ignore[arg-type]  # the store takes its pool's
            [
                TrackRow(
                    track.track_id,
                    track.key,
                    tuple(track.metadata.get(name, ABSENT.get(name)) for name in METADATA_FIELDS),
                    track.vector.astype("<f4").tobytes(),
                    track.partition,
                    track.offset,
                    START + timedelta(seconds=row),
                )
                for row, track in enumerate(catalogue.tracks)
            ],
        )
    keys = np.array([track.key for track in catalogue.tracks])
    await connection.copy_records_to_table(
        "neighbour_lists",
        records=[
            (
                track.key,
                keys[catalogue.neighbours[row]].tolist(),
                catalogue.scores[row].tolist(),
                row + 1,
                track.partition,
                track.offset,
                START + timedelta(seconds=row),
                START + timedelta(seconds=row, milliseconds=250),
            )
            for row, track in enumerate(catalogue.tracks)
        ],
    )
    await write_offsets(connection, catalogue)


async def write_offsets(connection: asyncpg.Connection, catalogue: ServedCatalogue) -> None:
    """Record that every event of the catalogue has been consumed, and absorbed by every list."""
    size = len(catalogue.tracks)
    ends = [len(range(partition, size, PARTITIONS)) for partition in range(PARTITIONS)]
    await connection.executemany(
        "INSERT INTO ingest_partitions (partition, epoch, owner, consumed_offset) VALUES ($1, 1, 'test', $2)",
        list(enumerate(ends)),
    )
    await connection.executemany(
        "INSERT INTO owner_progress VALUES ($1, $2)", [(owner, ends) for owner in range(PARTITIONS)]
    )
    await connection.execute("INSERT INTO catalogue (dimension) VALUES ($1)", len(catalogue.tracks[0].vector))
