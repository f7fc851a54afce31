"""From checkpoints to the committed files: features, metadata, vectors, manifest."""

import gzip
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mess.demo import catalogue
from mess.demo.corpus.raw import Failure, RawWork
from tools.demo_catalogue.embedding import WEIGHTS, embed, quantise
from tools.demo_catalogue.features import BLOCKS, compute_features
from tools.demo_catalogue.notes import Floats, Notes

# A fragment of a few notes has no distribution to speak of.
FEWEST_NOTES = 12


@dataclass(frozen=True)
class WorkSelection:
    """The works that go in, in order of track id, and those left out with the reason."""

    works: list[RawWork]
    left_out: list[Failure]


def select(works: list[RawWork]) -> WorkSelection:
    """Leave out fragments and exact repeats (the same notes under the same title in the same folder).

    A tune that two files of a book transcribe differently keeps both, the second with `-2` after its id.
    """
    chosen: list[RawWork] = []
    left_out: list[Failure] = []
    seen: dict[tuple[str, str, bytes], str] = {}
    for work in sorted(works, key=lambda w: (w.track_id, w.file)):
        title = " ".join(value for name, value in work.header if name in {"T", "OPR", "OTL", "movementName"})
        notes = orjson.dumps([work.notes.onset, work.notes.duration, work.notes.midi, work.notes.part])
        key = (work.file.split("/")[0], title, hashlib.sha256(notes).digest())
        if len(work.notes.midi) < FEWEST_NOTES:
            left_out.append(Failure(work.track_id, f"a fragment of {len(work.notes.midi)} notes"))
        elif key in seen:
            left_out.append(Failure(work.track_id, f"the same title and notes as {seen[key]}"))
        else:
            seen[key] = work.track_id
            chosen.append(work)
    return WorkSelection(_with_unique_ids(chosen), left_out)


def _with_unique_ids(works: list[RawWork]) -> list[RawWork]:
    used: set[str] = set()
    named = []
    for work in works:
        name, count = work.track_id, 1
        while name in used:
            count += 1
            name = f"{work.track_id}-{count}"
        used.add(name)
        named.append(replace(work, track_id=name))
    return named


def feature_matrix(works: list[RawWork]) -> Floats:
    """Compute the features of all works, shape (n, d)."""
    return np.array([compute_features(Notes.from_raw(work.notes)) for work in works])


def write(
    out: Path, features: Floats, tracks: list[tuple[str, dict[str, Any]]], version: str
) -> dict[str, int]:
    """Write the catalogue's files into `out`; the same input gives the same bytes. Returns the files' sizes."""
    out.mkdir(parents=True, exist_ok=True)
    stored = quantise(embed(features, WEIGHTS))
    if not stored.codes.any(axis=1).all():
        raise ValueError("a vector is zero once it is stored in bytes")
    np.savez_compressed(out / catalogue.VECTORS, codes=stored.codes, scale=stored.scale)
    lines = [orjson.dumps({"track_id": track_id, "metadata": facts}) for track_id, facts in tracks]
    (out / catalogue.TRACKS).write_bytes(gzip.compress(b"\n".join(lines), compresslevel=9, mtime=0))
    names = (catalogue.VECTORS, catalogue.TRACKS)
    manifest = {
        "format": catalogue.FORMAT,
        "music21": version,
        "tracks": len(tracks),
        "blocks": [{"name": b.name, "size": b.size, "weight": WEIGHTS[b.name]} for b in BLOCKS],
        "files": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names},
    }
    (out / catalogue.MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    return {name: (out / name).stat().st_size for name in (*names, catalogue.MANIFEST)}
