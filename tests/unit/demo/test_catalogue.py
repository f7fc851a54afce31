"""The committed catalogue, and what happens when its data is damaged."""

import gzip
import hashlib
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import orjson
import pytest

from mess.demo import catalogue
from mess.demo.catalogue import CatalogueError, DemoCatalogue
from streams.contracts import TrackMetadata

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def demo() -> DemoCatalogue:
    """The committed catalogue, read once."""
    return catalogue.load_demo_catalogue()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the data to damage."""
    return Path(shutil.copytree(catalogue.DATA_DIR, tmp_path / "data"))


def test_it_holds_the_corpus(demo: DemoCatalogue) -> None:
    """More than 14,000 works in at most 8 MB."""
    assert len(demo) > 14_000
    assert demo.embeddings.shape == (len(demo), sum(block.size for block in demo.blocks))
    assert sum(path.stat().st_size for path in catalogue.DATA_DIR.iterdir()) <= 8e6


def test_the_embeddings_are_unit_vectors(demo: DemoCatalogue) -> None:
    """Finite, float32, of length 1: no zero vector among them."""
    assert demo.embeddings.dtype == np.float32
    assert np.isfinite(demo.embeddings).all()
    np.testing.assert_allclose(np.linalg.norm(demo.embeddings, axis=1), 1, atol=1e-5)


def test_ids_are_unique_and_printable(demo: DemoCatalogue) -> None:
    """Each id names one work and can stand in a URL and a log line."""
    ids = [track.track_id for track in demo.tracks]
    assert len(set(ids)) == len(ids)
    assert all(name.isprintable() and name == name.strip() and " " not in name for name in ids)


def test_the_metadata_is_what_a_track_event_takes(demo: DemoCatalogue) -> None:
    """Every work's metadata is valid; facts without a key of their own are kept as extra."""
    for track in demo.tracks:
        known = TrackMetadata.model_validate(track.metadata)
        assert known.title
        assert known.album == known.extra["collection"]
        assert known.dataset_source == "music21-corpus"


def test_every_title_is_readable(demo: DemoCatalogue) -> None:
    """No control characters, no replacement characters, nothing that ends in a file's ending."""
    for track in demo.tracks:
        title = track.metadata["title"]
        assert not any(
            unicodedata.category(letter) in {"Cc", "Co", "Cn"} or letter == "\ufffd" for letter in title
        )
        assert not title.lower().endswith((".mxl", ".xml", ".krn", ".abc")), track.track_id


@pytest.mark.parametrize(
    ("track_id", "facts"),
    [
        ("bach/bwv66.6", {"title": "Christ ist erstanden", "key_signature": "F# minor", "form": "chorale"}),
        ("palestrina/Agnus_00", {"composer": "Palestrina", "form": "mass movement", "key_signature": "G mixolydian"}),
        ("oneills1850/1603", {"title": "The Harvest Home", "form": "hornpipe", "region": "Ireland"}),
        ("essen/han1-1", {"title": "Renmin gongshe shizai hao", "region": "Shaanxi, China"}),
        ("joplin/maple_leaf_rag", {"composer_full": "Scott Joplin", "year_composed": 1899, "instrument": "piano"}),
    ],
)  # fmt: skip
def test_famous_works_are_there(demo: DemoCatalogue, track_id: str, facts: dict[str, object]) -> None:
    """Known works under their stable ids, with their known facts."""
    metadata = next(track.metadata for track in demo.tracks if track.track_id == track_id)
    assert {key: metadata.get(key) for key in facts} == facts


def test_aspects_are_whole_blocks_in_order(demo: DemoCatalogue) -> None:
    """Each block is in one aspect, its columns beside each other; each part has the root of its weight for length."""
    assert sorted(demo.layout.names) == sorted(catalogue.ASPECTS)
    assert sorted(sum(catalogue.ASPECTS.values(), ())) == sorted(block.name for block in demo.blocks)
    in_order = [name for aspect in demo.layout.names for name in catalogue.ASPECTS[aspect]]
    assert [block.name for block in demo.blocks] == in_order
    for aspect, part in zip(demo.layout.aspects, demo.layout.split(demo.embeddings.T).values(), strict=True):
        np.testing.assert_allclose(np.linalg.norm(part, axis=0) ** 2, aspect.weight, atol=1e-5)
    with np.load(catalogue.DATA_DIR / catalogue.VECTORS) as arrays:
        raw = arrays["codes"][7] * arrays["scale"]
    stored = orjson.loads((catalogue.DATA_DIR / catalogue.MANIFEST).read_bytes())["blocks"]
    starts = dict(
        zip([b["name"] for b in stored], np.cumsum([0, *(b["size"] for b in stored)]), strict=False)
    )
    melody = np.concatenate(
        [
            raw[starts[b.name] : starts[b.name] + b.size]
            for b in demo.blocks
            if b.name in catalogue.ASPECTS["melody"]
        ]
    )
    part = demo.layout.split(demo.embeddings[7])["melody"]
    np.testing.assert_allclose(part / np.linalg.norm(part), melody / np.linalg.norm(melody), atol=1e-6)


@pytest.mark.parametrize("name", [catalogue.MANIFEST, catalogue.VECTORS, catalogue.TRACKS])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    """The error says which file cannot be read."""
    (copy / name).unlink()
    with pytest.raises(CatalogueError, match=name):
        catalogue.load_demo_catalogue(copy)


@pytest.mark.parametrize("name", [catalogue.VECTORS, catalogue.TRACKS])
def test_one_changed_byte_is_noticed(copy: Path, name: str) -> None:
    """The checksum tells, whatever the byte was."""
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(CatalogueError, match=f"{name}: damaged"):
        catalogue.load_demo_catalogue(copy)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"format": 99}'])
def test_a_manifest_that_is_none_is_refused(copy: Path, body: bytes) -> None:
    """Empty, cut short, of another shape or another format."""
    (copy / catalogue.MANIFEST).write_bytes(body)
    with pytest.raises(CatalogueError, match=catalogue.MANIFEST):
        catalogue.load_demo_catalogue(copy)


def replace_file(data_dir: Path, name: str, body: bytes) -> None:
    """Put another file in place and make the manifest vouch for it."""
    (data_dir / name).write_bytes(body)
    manifest = orjson.loads((data_dir / catalogue.MANIFEST).read_bytes())
    manifest["files"][name] = hashlib.sha256(body).hexdigest()
    (data_dir / catalogue.MANIFEST).write_bytes(orjson.dumps(manifest))


def test_fewer_tracks_than_vectors_are_refused(copy: Path) -> None:
    """A manifest that vouches for the wrong files is caught by the counts."""
    lines = gzip.decompress((copy / catalogue.TRACKS).read_bytes()).splitlines()
    replace_file(copy, catalogue.TRACKS, gzip.compress(b"\n".join(lines[:-1])))
    with pytest.raises(CatalogueError, match="manifest says"):
        catalogue.load_demo_catalogue(copy)


@pytest.mark.parametrize("name", [catalogue.VECTORS, catalogue.TRACKS])
def test_a_file_of_another_kind_is_refused(copy: Path, name: str) -> None:
    """Not an archive: one error of the catalogue's own, with the reason."""
    replace_file(copy, name, b"neither of these")
    with pytest.raises(CatalogueError, match="cannot be read"):
        catalogue.load_demo_catalogue(copy)


def test_a_zero_vector_is_refused(copy: Path) -> None:
    """A direction is what every work must have."""
    with np.load(copy / catalogue.VECTORS) as arrays:
        codes, scale = arrays["codes"].copy(), arrays["scale"]
    codes[5] = 0
    np.savez_compressed(copy / catalogue.VECTORS, codes=codes, scale=scale)
    replace_file(copy, catalogue.VECTORS, (copy / catalogue.VECTORS).read_bytes())
    with pytest.raises(CatalogueError, match="1 embeddings are zero"):
        catalogue.load_demo_catalogue(copy)
