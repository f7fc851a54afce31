"""The demo catalogue: about 14,000 real works with an embedding and facts each, read from the package's data."""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

DATA_DIR: Final = Path(__file__).parent / "data"
MANIFEST: Final = "manifest.json"
VECTORS: Final = "vectors.npz"
TRACKS: Final = "tracks.jsonl.gz"
FORMAT: Final = 1


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
        embeddings: float32, shape (n, d), rows of unit length.
        tracks: n works, in the order of the rows.
        blocks: What the columns mean, in order.
        version: music21's version, whose corpus this is.
    """

    embeddings: NDArray[np.float32]
    tracks: list[DemoTrack]
    blocks: list[FeatureBlock]
    version: str

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
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise CatalogueError(f"{data_dir}: {int((lengths == 0).sum())} embeddings are zero vectors")
    return DemoCatalogue(vectors / lengths, tracks, blocks, version)


def iter_tracks(data_dir: Path = DATA_DIR) -> Iterator[tuple[str, NDArray[np.float32], dict[str, Any]]]:
    """Yield (track_id, embedding of shape (d,), metadata) of each work, in a fixed order.

    Raises:
        CatalogueError: As `load_demo_catalogue`.
    """
    catalogue = load_demo_catalogue(data_dir)
    for track, embedding in zip(catalogue.tracks, catalogue.embeddings, strict=True):
        yield track.track_id, embedding, track.metadata


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
