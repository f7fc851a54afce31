"""Sizes that benchmarks are run at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
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
