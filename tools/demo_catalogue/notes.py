"""A work's notes as arrays, with the views of them that the feature blocks share."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mess.demo.corpus.raw import RawNotes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Onsets closer than this many quarter lengths are the same moment; the parser rounds tuplets at 1e-5.
SAME_MOMENT = 1e-3


@dataclass(frozen=True)
class Notes:
    """Columns of `RawNotes` as arrays of length n, sorted by part, onset and falling pitch.

    Lengths and times are in quarter notes, `midi` in semitones.
    """

    onset: Floats
    duration: Floats
    midi: Ints
    part: Ints
    position: Floats
    bar: Floats
    beat: Floats

    @classmethod
    def from_raw(cls, raw: RawNotes) -> "Notes":
        """Sort the columns of `raw`.

        Raises:
            ValueError: There is no note.
        """
        if not raw.midi:
            raise ValueError("a work without notes has no features")
        onset, part = np.asarray(raw.onset, float), np.asarray(raw.part, np.int64)
        midi = np.asarray(raw.midi, np.int64)
        order = np.lexsort((-midi, np.round(onset / SAME_MOMENT), part))
        floats = [
            np.asarray(column, float)[order] for column in (raw.duration, raw.position, raw.bar, raw.beat)
        ]
        return cls(onset[order], floats[0], midi[order], part[order], *floats[1:])

    @cached_property
    def line(self) -> NDArray[np.bool_]:
        """Which notes belong to a melodic line: of notes struck together in a part, the highest (skyline)."""
        first = np.ones(len(self.midi), bool)
        together = np.abs(np.diff(self.onset)) < SAME_MOMENT
        first[1:] = ~(together & (np.diff(self.part) == 0))
        return first

    @cached_property
    def line_part(self) -> Ints:
        """Part of each note of the lines, in order."""
        return self.part[self.line]

    @cached_property
    def intervals(self) -> Ints:
        """Melodic intervals in semitones, line after line, never from one part's end to the next's start."""
        steps: Ints = np.diff(self.midi[self.line])[np.diff(self.line_part) == 0]
        return steps

    def within_part(self, values: Ints, n: int) -> Ints:
        """Return the n-grams of `values`, which run along the intervals, that stay in one part: shape (m, n)."""
        part = self.line_part[1:][np.diff(self.line_part) == 0]
        if len(values) < n:
            return np.empty((0, n), values.dtype)
        grams = np.lib.stride_tricks.sliding_window_view(values, n)
        unbroken: Ints = grams[part[: len(grams)] == part[n - 1 :]]
        return unbroken

    @cached_property
    def spans(self) -> tuple[Floats, Ints]:
        """Return (length, notes sounding) of each stretch of time between two events; both (m,)."""
        times = np.round(np.concatenate([self.onset, self.onset + self.duration]) / SAME_MOMENT)
        change = np.concatenate([np.ones(len(self.onset), np.int64), -np.ones(len(self.onset), np.int64)])
        moments, where = np.unique(times, return_inverse=True)
        sounding = np.cumsum(np.bincount(where, weights=change, minlength=len(moments)))
        return np.diff(moments) * SAME_MOMENT, np.round(sounding[:-1]).astype(np.int64)

    @cached_property
    def length(self) -> float:
        """Quarter lengths from the first onset to the last end."""
        return float((self.onset + self.duration).max() - self.onset.min())
