"""Runs the parser over the corpus with checkpoints, so that a stopped build goes on where it was."""

import gzip
import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from mess.demo.corpus.raw import Failure, RawNotes, RawWork
from mess.demo.corpus.sources import SourceFile


def checkpoint_path(cache: Path, source: SourceFile) -> Path:
    """Return where what `source` gave is kept; the name survives any character in the corpus path."""
    return cache / f"{hashlib.blake2b(source.path.encode(), digest_size=12).hexdigest()}.json.gz"


def extract_one(root: Path, cache: Path, limit: float, source: SourceFile) -> str:
    """Parse one corpus file into its checkpoint unless it is there already; returns the file's path."""
    target = checkpoint_path(cache, source)
    if not target.exists():
        from mess.demo.corpus.parse import read_file  # noqa: PLC0415 (music21 takes a second to import)

        write_cache(target, *read_file(root, source, limit))
    return source.path


def extract_all(root: Path, cache: Path, files: list[SourceFile], jobs: int, limit: float) -> Iterator[str]:
    """Parse all `files`, yielding each path when its checkpoint is there.

    Args:
        root: The corpus folder.
        cache: Folder of checkpoints; made if missing.
        files: What to read.
        jobs: Processes; 1 stays in this one.
        limit: Seconds a work may take.
    """
    cache.mkdir(parents=True, exist_ok=True)
    work = partial(extract_one, root, cache, limit)
    if jobs == 1:
        yield from map(work, files)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for future in as_completed([pool.submit(work, source) for source in files]):
            yield future.result()


def read_checkpoints(cache: Path, files: list[SourceFile]) -> tuple[list[RawWork], list[Failure]]:
    """Gather what all `files` gave, in their order."""
    works: list[RawWork] = []
    failures: list[Failure] = []
    for source in files:
        some, failed = read_cache(checkpoint_path(cache, source))
        works += some
        failures += failed
    return works, failures


def write_cache(path: Path, works: list[RawWork], failures: list[Failure]) -> None:
    """Store what one corpus file gave; the rename makes a half-written checkpoint impossible."""
    body = orjson.dumps({"works": [asdict(w) for w in works], "failures": [asdict(f) for f in failures]})
    partial = path.with_suffix(".part")
    partial.write_bytes(gzip.compress(body, compresslevel=3))
    partial.rename(path)


def read_cache(path: Path) -> tuple[list[RawWork], list[Failure]]:
    """Read a checkpoint written by `write_cache`."""
    document: dict[str, Any] = orjson.loads(gzip.decompress(path.read_bytes()))
    works = [RawWork(**{**w, "notes": RawNotes(**w["notes"])}) for w in document["works"]]
    return works, [Failure(**f) for f in document["failures"]]
