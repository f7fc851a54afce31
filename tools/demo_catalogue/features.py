"""The symbolic features of a work, in named blocks. `docs/demo-catalogue.md` gives each formula and its source."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tools.demo_catalogue.notes import SAME_MOMENT, Floats, Ints, Notes
from tools.demo_catalogue.tonality import Tonality, estimate

Counts = Floats | Ints
# Semitones above the tonic to diatonic degree, 0 for the tonic.
DEGREE = np.array([0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6])
# Note values as powers of two of the unit; the values between are dotted (x1.5) and triplet (x2/3, x1/3) ones.
RATIO_TO_USUAL = (-3.0, -2.0, -1.585, -1.0, -0.585, 0.0, 0.585, 1.0, 1.585, 2.0, 3.0)
RATIO_TO_BEAT = (-3.0, -2.0, -1.585, -1.0, -0.585, -0.415, 0.0, 0.585, 1.0, 2.0)
RATIO_TO_LAST = (-2.0, -1.585, -1.0, -0.585, 0.0, 0.585, 1.0, 1.585, 2.0)
REGISTER_EDGES = (48, 55, 60, 65, 70, 75)
BAR_DIVISIONS = 24
LARGEST_INTERVAL = 12


@dataclass(frozen=True)
class Block:
    """One group of features: its name, how many numbers it gives, and how they are computed."""

    name: str
    size: int
    compute: Callable[[Notes, Tonality], Floats]


def pitch_class_profile(notes: Notes) -> Floats:
    """Share of sounding time of each pitch class from C, shape (12,)."""
    return _shares(np.bincount(notes.midi % 12, weights=notes.duration, minlength=12))


def _shares(counts: Counts) -> Floats:
    """Scale counts to sum 1; no counts at all stay zeros."""
    values = np.asarray(counts, float)
    total = values.sum()
    return values / total if total > 0 else values


def _nearest(values: Floats, centres: tuple[float, ...]) -> Floats:
    """Histogram of `values` over the nearest of `centres`, as shares."""
    if not len(values):
        return np.zeros(len(centres))
    nearest = np.abs(values[:, None] - np.asarray(centres)).argmin(axis=1)
    return _shares(np.bincount(nearest, minlength=len(centres)))


def tonic_profile(notes: Notes, key: Tonality) -> Floats:
    """Duration-weighted pitch-class profile rotated to the tonic; square roots, as all histograms below."""
    return np.sqrt(np.roll(pitch_class_profile(notes), -key.tonic))


def mode(_notes: Notes, key: Tonality) -> Floats:
    """Correlation with the major and minor ratings, their difference, and the clarity of the tonic."""
    return np.array([key.major, key.minor, key.major - key.minor, key.clarity])


def interval_histogram(notes: Notes, _key: Tonality) -> Floats:
    """Melodic intervals from an octave down to an octave up, with one bin beyond at each end."""
    edge = LARGEST_INTERVAL + 1
    clipped = np.clip(notes.intervals, -edge, edge) + edge
    return np.sqrt(_shares(np.bincount(clipped, minlength=2 * edge + 1)))


def interval_bigrams(notes: Notes, _key: Tonality) -> Floats:
    """Pairs of successive intervals in five classes: leap down, step down, repeat, step up, leap up."""
    classes = np.digitize(notes.intervals, (-2, 0, 1, 3))
    pairs = notes.within_part(classes, 2)
    return np.sqrt(_shares(np.bincount(pairs[:, 0] * 5 + pairs[:, 1], minlength=25)))


def contour_trigrams(notes: Notes, _key: Tonality) -> Floats:
    """Triples of successive directions (down, repeat, up), after Parsons."""
    triples = notes.within_part(np.sign(notes.intervals) + 1, 3)
    return np.sqrt(_shares(np.bincount(triples @ np.array([9, 3, 1]), minlength=27)))


def degree_transitions(notes: Notes, key: Tonality) -> Floats:
    """Which scale degree follows which in the lines: 7 by 7, chromatic notes with their neighbour degree."""
    degree = DEGREE[(notes.midi[notes.line] - key.tonic) % 12]
    same = np.diff(notes.line_part) == 0
    return np.sqrt(_shares(np.bincount((degree[:-1] * 7 + degree[1:])[same], minlength=49)))


def note_values(notes: Notes, _key: Tonality) -> Floats:
    """Note lengths against the work's most common length."""
    durations = notes.duration[notes.line]
    values, counts = np.unique(np.round(durations, 3), return_counts=True)
    usual = values[counts.argmax()]
    return np.sqrt(_nearest(np.log2(durations / usual), RATIO_TO_USUAL))


def beat_values(notes: Notes, _key: Tonality) -> Floats:
    """Note lengths against the beat; a quarter note where the metre has none."""
    beat = np.where(notes.beat > 0, notes.beat, 1.0)
    return np.sqrt(_nearest(np.log2(notes.duration / beat), RATIO_TO_BEAT))


def rhythm_bigrams(notes: Notes, _key: Tonality) -> Floats:
    """Ratio of each note's length to that of the note before it in its line."""
    log = np.log2(notes.duration[notes.line])
    return np.sqrt(_nearest(np.diff(log)[np.diff(notes.line_part) == 0], RATIO_TO_LAST))


def metrical_positions(notes: Notes, _key: Tonality) -> Floats:
    """Onsets over the bar in 24 equal divisions; NaN for a work without metre."""
    metred = notes.bar > 0
    if not metred.any():
        return np.full(BAR_DIVISIONS, np.nan)
    division = np.round(notes.position[metred] / notes.bar[metred] * BAR_DIVISIONS).astype(np.int64)
    return np.sqrt(_shares(np.bincount(division % BAR_DIVISIONS, minlength=BAR_DIVISIONS)))


def metre(notes: Notes, _key: Tonality) -> Floats:
    """Share of notes in duple, triple, quadruple, other, simple, compound and no metre; log2 of the bar in quarters."""
    metred = notes.bar > 0
    beats = np.round(notes.bar[metred] / np.where(notes.beat[metred] > 0, notes.beat[metred], np.inf))
    compound = np.abs(notes.beat[metred] / 1.5 % 1) < SAME_MOMENT
    even = notes.beat[metred] > 0
    counts = [
        (beats == 2).sum(),
        (beats == 3).sum(),
        (beats == 4).sum(),
        (~np.isin(beats, (2, 3, 4))).sum(),
        (even & ~compound).sum(),
        (even & compound).sum(),
        (~metred).sum(),
    ]
    bar = float(np.mean(np.log2(notes.bar[metred]))) if metred.any() else np.nan
    return np.append(np.asarray(counts) / len(notes.midi), bar)


def texture(notes: Notes, _key: Tonality) -> Floats:
    """Log of parts, mean notes sounding, time with 0, 1, 2, 3, 4 and more sounding, shared onsets, chord notes."""
    lengths, sounding = notes.spans
    total = max(float(lengths.sum()), SAME_MOMENT)
    shares = np.bincount(np.minimum(sounding, 5), weights=lengths, minlength=6) / total
    _, per_onset = np.unique(np.round(notes.onset / SAME_MOMENT), return_counts=True)
    together = per_onset[per_onset > 1].sum() / len(notes.midi)
    parts = np.log2(len(np.unique(notes.part)))
    return np.array([parts, float(lengths @ sounding) / total, *shares, together, 1 - notes.line.mean()])


def harmonic_intervals(notes: Notes, _key: Tonality) -> Floats:
    """Interval classes above the lowest note struck at each moment; zeros for a single line."""
    order = np.lexsort((notes.midi, np.round(notes.onset / SAME_MOMENT)))
    moment, midi = np.round(notes.onset[order] / SAME_MOMENT), notes.midi[order]
    first = np.concatenate([[True], np.diff(moment) > 0])
    above = midi - midi[first][np.cumsum(first) - 1]
    return np.sqrt(_shares(np.bincount(above[~first] % 12, minlength=12)))


def pitch_range(notes: Notes, _key: Tonality) -> Floats:
    """Spread of pitch: whole range, standard deviation, mean range and standard deviation of a part, widest part."""
    parts = [notes.midi[notes.part == part] for part in np.unique(notes.part)]
    ranges = [float(np.ptp(pitches)) for pitches in parts]
    spread = float(np.mean([pitches.std() for pitches in parts]))
    return np.array([np.ptp(notes.midi), notes.midi.std(), np.mean(ranges), spread, max(ranges)])


def register(notes: Notes, _key: Tonality) -> Floats:
    """Share of sounding time in seven registers from below C3 to above D#5. The one block that keeps absolute pitch."""
    shelf = np.digitize(notes.midi, REGISTER_EDGES)
    return np.sqrt(_shares(np.bincount(shelf, weights=notes.duration, minlength=len(REGISTER_EDGES) + 1)))


def density(notes: Notes, _key: Tonality) -> Floats:
    """Log2 of notes, of length, of notes a quarter for each part and of notes a bar for each part; rests in a part."""
    parts = len(np.unique(notes.part))
    length = max(notes.length, SAME_MOMENT)
    sounding = notes.duration[notes.line].sum() / (parts * length)
    bars = length / notes.bar[notes.bar > 0].mean() if (notes.bar > 0).any() else np.nan
    count = len(notes.midi)
    per_quarter = count / (parts * length)
    logs = np.log2([count, length, per_quarter, count / (parts * bars)])
    return np.append(logs, max(0.0, 1 - sounding))


def repetition(notes: Notes, _key: Tonality) -> Floats:
    """Repeated interval n-grams (3, 5, 8), bars whose rhythm and whose notes came before, and three entropies."""
    grams = [_repeated(notes.within_part(notes.intervals, n)) for n in (3, 5, 8)]
    durations = np.unique(np.round(notes.duration[notes.line], 3), return_counts=True)[1]
    spread = [
        _entropy(np.bincount(notes.midi % 12)),
        _entropy(np.unique(notes.intervals, return_counts=True)[1]),
        _entropy(durations),
    ]
    return np.array([*grams, *_repeated_bars(notes), *spread])


def _repeated(grams: Counts) -> float:
    return 1 - len(np.unique(grams, axis=0)) / len(grams) if len(grams) else 0.0


def _entropy(counts: Counts) -> float:
    shares = _shares(counts[counts > 0])
    return float(-(shares * np.log2(shares)).sum())


def _repeated_bars(notes: Notes) -> tuple[float, float]:
    """Share of the top part's bars whose rhythm, and whose rhythm and pitches, an earlier bar had."""
    top = notes.line & (notes.part == notes.part[0]) & (notes.bar > 0)
    if not top.any():
        return float("nan"), float("nan")
    place = np.round(notes.position[top] / SAME_MOMENT).astype(np.int64)
    start = np.round(notes.onset[top] / SAME_MOMENT).astype(np.int64) - place
    # Tuplets are rounded, so the same bar's start may differ by one or two of these small units.
    cuts = [0, *(np.flatnonzero(np.abs(np.diff(start)) > 5) + 1), len(start)]
    rhythms = [place[a:b].tobytes() for a, b in pairwise(cuts)]
    pitches = [place[a:b].tobytes() + notes.midi[top][a:b].tobytes() for a, b in pairwise(cuts)]
    return 1 - len(set(rhythms)) / len(rhythms), 1 - len(set(pitches)) / len(pitches)


BLOCKS = (
    Block("tonic_profile", 12, tonic_profile),
    Block("mode", 4, mode),
    Block("interval_histogram", 27, interval_histogram),
    Block("interval_bigrams", 25, interval_bigrams),
    Block("contour_trigrams", 27, contour_trigrams),
    Block("degree_transitions", 49, degree_transitions),
    Block("note_values", len(RATIO_TO_USUAL), note_values),
    Block("beat_values", len(RATIO_TO_BEAT), beat_values),
    Block("rhythm_bigrams", len(RATIO_TO_LAST), rhythm_bigrams),
    Block("metrical_positions", BAR_DIVISIONS, metrical_positions),
    Block("metre", 8, metre),
    Block("texture", 10, texture),
    Block("harmonic_intervals", 12, harmonic_intervals),
    Block("pitch_range", 5, pitch_range),
    Block("register", len(REGISTER_EDGES) + 1, register),
    Block("density", 5, density),
    Block("repetition", 8, repetition),
)
DIMENSION = sum(block.size for block in BLOCKS)


def compute_features(notes: Notes) -> Floats:
    """Return all blocks of a work one after another, shape (DIMENSION,), NaN where a feature doesn't apply."""
    key = estimate(pitch_class_profile(notes))
    return np.concatenate([block.compute(notes, key) for block in BLOCKS])
