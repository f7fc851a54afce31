"""Sizes that benchmarks are run at."""

import os
from dataclasses import dataclass, replace

LARGE = 200_000


@dataclass(frozen=True, slots=True)
class CatalogueSize:
    """A catalogue.

    Attributes:
        tracks: Tracks in it when the measurement begins.
        dimension: Of the embeddings.
        events: Inserts that are timed.
        audited: Lists held against brute force at most.
    """

    tracks: int
    dimension: int
    events: int = 2_560
    audited: int = 20_000

    def __str__(self) -> str:
        return f"{self.tracks:,} x {self.dimension}"


def chosen_sizes() -> list[CatalogueSize]:
    """Sizes as MESS_BENCH_SIZES names them, `50000x768,100000x128`; none if it is not set."""
    given = os.environ.get("MESS_BENCH_SIZES")
    pairs = [part.lower().split("x") for part in given.split(",")] if given else []
    sizes = [CatalogueSize(int(tracks), int(dimension)) for tracks, dimension in pairs]
    # A list held against a million vectors takes as long as twenty against fifty thousand.
    return [replace(size, audited=2_000) if size.tracks > LARGE else size for size in sizes]
