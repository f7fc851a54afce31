"""The demo catalogue: about 14,000 real works with an embedding and facts each, read from the package's data."""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from mess.demo.weights import WEIGHTS
from streams.strategies.aspects import Layout, parse_weights

DATA_DIR: Final = Path(__file__).parent / "data"
MANIFEST: Final = "manifest.json"
VECTORS: Final = "vectors.npz"
TRACKS: Final = "tracks.jsonl.gz"
FORMAT: Final = 1

# The blocks of features that make up each aspect: see docs/demo-catalogue.md.
ASPECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "harmony": ("tonic_profile", "mode", "harmonic_intervals"),
    "melody": ("interval_histogram", "interval_bigrams", "contour_trigrams", "degree_transitions"),
    "rhythm": ("note_values", "beat_values", "rhythm_bigrams", "metrical_positions", "metre"),
    "texture": ("texture", "pitch_range", "register", "density", "repetition"),
}


class CatalogueError(Exception):
    """The demo catalogue's data is missing or damaged; reinstall the package or rebuild it."""


@dataclass(frozen=True)
class DemoTrack:
    """One work: its id, and metadata in the keys of a track event (unknown keys are extra facts)."""

    track_id: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class FeatureBlock:
    """A group of embedding columns: its name, how many columns it has, and its weight in the cosine."""

    name: str
    size: int
    weight: float


@dataclass(frozen=True)
class DemoCatalogue:
    """The whole catalogue.

    Attributes:
        embeddings: float32, shape (n, d): the vectors that a catalogue of these aspects and weights holds.
        tracks: n works, in the order of the rows.
        blocks: What the columns mean, in order.
        version: music21's version, whose corpus this is.
        layout: The aspects that the columns belong to.
    """

    embeddings: NDArray[np.float32]
    tracks: list[DemoTrack]
    blocks: list[FeatureBlock]
    version: str
    layout: Layout

    def __len__(self) -> int:
        return len(self.tracks)


def load_demo_catalogue(data_dir: Path = DATA_DIR) -> DemoCatalogue:
    """Read the catalogue and check it against its manifest.

    Raises:
        CatalogueError: A file is missing, is not what the manifest says, or cannot be read.
    """
    manifest = _manifest(data_dir)
    try:
        with np.load(io.BytesIO(_checked(data_dir, manifest, VECTORS)), allow_pickle=False) as arrays:
            vectors = arrays["codes"].astype(np.float32) * arrays["scale"]
        lines = gzip.decompress(_checked(data_dir, manifest, TRACKS)).splitlines()
        rows = [orjson.loads(line) for line in lines]
        tracks = [DemoTrack(row["track_id"], row["metadata"]) for row in rows]
        blocks = [FeatureBlock(**block) for block in manifest["blocks"]]
        expected, version = (int(manifest["tracks"]), sum(b.size for b in blocks)), str(manifest["music21"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, zipfile.BadZipFile) as exc:
        raise CatalogueError(f"{data_dir}: the demo catalogue cannot be read: {exc}") from exc
    if vectors.shape != expected or len(tracks) != expected[0]:
        raise CatalogueError(
            f"{data_dir}: {vectors.shape} vectors and {len(tracks)} tracks, but the manifest says {expected}"
        )
    ordered, layout, columns = _by_aspect(blocks)
    vectors = _weighed(vectors[:, columns], layout)
    if zero := int((~vectors.any(axis=1)).sum()):
        raise CatalogueError(f"{data_dir}: {zero} embeddings are zero vectors")
    return DemoCatalogue(vectors, tracks, ordered, version, layout)


def _by_aspect(blocks: list[FeatureBlock]) -> tuple[list[FeatureBlock], Layout, NDArray[np.int64]]:
    """The blocks in the order of the aspects, their layout, and the columns in that order."""
    known = [block for name in sorted(ASPECTS) for block in blocks if block.name in ASPECTS[name]]
    sizes = {
        name: sum(block.size for block in blocks if block.name in members)
        for name, members in ASPECTS.items()
    }
    starts = dict(
        zip((block.name for block in blocks), np.cumsum([0, *(b.size for b in blocks)]), strict=False)
    )
    columns = np.concatenate([starts[block.name] + np.arange(block.size) for block in known])
    return known, Layout.of_sizes(sizes, parse_weights(WEIGHTS)), columns


def _weighed(vectors: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """The vectors of works, each part scaled to the root of its weight; a part of zeros stays so."""
    weighed = vectors.astype(np.float64)
    for aspect, where in zip(layout.aspects, layout.parts.values(), strict=True):
        lengths = np.linalg.norm(weighed[:, where], axis=1, keepdims=True)
        weighed[:, where] *= np.sqrt(aspect.weight) / np.where(lengths > 0, lengths, 1)
    return weighed.astype(np.float32)


def _manifest(data_dir: Path) -> dict[str, Any]:
    path = data_dir / MANIFEST
    try:
        manifest = orjson.loads(path.read_bytes())
    except OSError as exc:
        raise CatalogueError(f"{path}: the demo catalogue's manifest cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise CatalogueError(f"{path}: not JSON: {exc}") from exc
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CatalogueError(f"{path}: not a manifest of format {FORMAT}")
    return manifest


def _checked(data_dir: Path, manifest: dict[str, Any], name: str) -> bytes:
    path = data_dir / name
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise CatalogueError(f"{path}: cannot be read: {exc.strerror}") from exc
    if hashlib.sha256(data).hexdigest() != manifest["files"][name]:
        raise CatalogueError(f"{path}: damaged: its checksum isn't the manifest's")
    return data
