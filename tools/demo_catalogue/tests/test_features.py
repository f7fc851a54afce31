"""Feature blocks on note sequences whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess.demo.corpus.raw import RawNotes
from tools.demo_catalogue import features
from tools.demo_catalogue.features import BLOCKS, DIMENSION, compute_features
from tools.demo_catalogue.notes import Floats, Notes
from tools.demo_catalogue.tests.helpers import line, notes, together
from tools.demo_catalogue.tonality import Tonality

pytestmark = pytest.mark.unit

C_MAJOR = Tonality(0, "major", 0.9, 0.3, 0.2)
TUNE = [60, 64, 67, 72, 71, 67, 65, 62, 64, 60, 67, 59, 60, 64, 62, 60]


def block_slices(vector: Floats) -> dict[str, Floats]:
    """A feature vector taken apart by block."""
    ends = np.cumsum([block.size for block in BLOCKS])
    return {
        block.name: vector[end - block.size : end] for block, end in zip(BLOCKS, ends.tolist(), strict=True)
    }


@given(st.integers(-11, 11))
def test_only_the_register_changes_under_transposition(shift: int) -> None:
    """A tune and its transposition differ in no block but the one for absolute pitch."""
    low = [48, 43, 48, 53, 55, 48, 43, 48]
    original = together(line(TUNE), line(low, 2.0, part=1))
    moved = together(line([p + shift for p in TUNE]), line([p + shift for p in low], 2.0, part=1))
    here = block_slices(compute_features(Notes.from_raw(original)))
    there = block_slices(compute_features(Notes.from_raw(moved)))
    for name in here.keys() - {"register"}:
        np.testing.assert_allclose(there[name], here[name], atol=1e-12, err_msg=name)


def test_every_block_gives_the_size_it_declares() -> None:
    """The vector's length is the sum of the blocks, within the range a catalogue's dimension should have."""
    tune = notes(line(TUNE))
    for block in BLOCKS:
        assert block.compute(tune, C_MAJOR).shape == (block.size,), block.name
    assert 96 <= DIMENSION <= 256


def test_interval_histogram_counts_steps_in_semitones() -> None:
    """Up two, up two, down four gives two thirds at +2 and one third at -4, as square roots."""
    histogram = features.interval_histogram(notes(line([60, 62, 64, 60])), C_MAJOR)
    expected = np.zeros(27)
    expected[13 + 2], expected[13 - 4] = np.sqrt(2 / 3), np.sqrt(1 / 3)
    np.testing.assert_allclose(histogram, expected)


def test_interval_histogram_gathers_what_is_wider_than_an_octave() -> None:
    """A leap of two octaves falls in the last bin, its return in the first."""
    histogram = features.interval_histogram(notes(line([60, 84, 60])), C_MAJOR)
    np.testing.assert_allclose(histogram[[0, 26]], np.sqrt([0.5, 0.5]))


def test_no_interval_runs_from_one_part_into_the_next() -> None:
    """Two parts of three notes give two intervals each, and none between the parts."""
    tune = notes(line([60, 62, 64]), line([40, 41, 42], part=1))
    np.testing.assert_array_equal(tune.intervals, [2, 2, 1, 1])


def test_bigrams_do_not_cross_parts() -> None:
    """Two parts of three notes have one pair of intervals each."""
    bigrams = features.interval_bigrams(notes(line([60, 62, 64]), line([60, 59, 58], part=1)), C_MAJOR)
    step_up_twice, step_down_twice = 3 * 5 + 3, 1 * 5 + 1
    np.testing.assert_allclose(bigrams[[step_up_twice, step_down_twice]], np.sqrt([0.5, 0.5]))
    assert np.count_nonzero(bigrams) == 2


def test_line_takes_the_highest_of_notes_struck_together() -> None:
    """A chord counts once in the melody, with its top note."""
    chord = together(line([60, 65]), line([64, 69]), line([67, 72]))
    np.testing.assert_array_equal(Notes.from_raw(chord).intervals, [5])


def test_contour_reads_directions_in_threes() -> None:
    """Up, up, down is the one triple of a four-interval-free line of four notes."""
    contour = features.contour_trigrams(notes(line([60, 62, 65, 64])), C_MAJOR)
    assert contour[2 * 9 + 2 * 3 + 0] == 1.0
    assert np.count_nonzero(contour) == 1


def test_degree_transitions_count_from_the_tonic() -> None:
    """In G, the notes G D G are tonic to dominant and back."""
    transitions = features.degree_transitions(notes(line([67, 74, 67])), Tonality(7, "major", 0.9, 0.3, 0.2))
    np.testing.assert_allclose(transitions[[0 * 7 + 4, 4 * 7 + 0]], np.sqrt([0.5, 0.5]))


def test_tonic_profile_is_weighted_by_duration() -> None:
    """A note three times as long weighs three times as much, counted from the tonic."""
    profile = features.tonic_profile(notes(line([62, 69], [3.0, 1.0])), Tonality(2, "major", 0.9, 0.3, 0.2))
    np.testing.assert_allclose(profile[[0, 7]] ** 2, [0.75, 0.25])


def test_metrical_positions_of_plain_quarters() -> None:
    """Quarters in 4/4 fall on every sixth of the bar's 24 divisions."""
    positions = features.metrical_positions(notes(line([60] * 8)), C_MAJOR)
    np.testing.assert_allclose(positions[[0, 6, 12, 18]], 0.5)
    assert np.count_nonzero(positions) == 4


def test_metrical_positions_of_a_jig() -> None:
    """Eighths in 6/8 fall on every fourth division."""
    positions = features.metrical_positions(notes(line([60] * 12, 0.5, bar=3.0, beat=1.5)), C_MAJOR)
    np.testing.assert_array_equal(np.flatnonzero(positions), [0, 4, 8, 12, 16, 20])


def test_a_work_without_metre_has_no_metrical_positions() -> None:
    """Without bars the positions don't apply, and the metre block says so."""
    free = notes(line(TUNE, bar=0.0, beat=0.0))
    assert np.isnan(features.metrical_positions(free, C_MAJOR)).all()
    metre = features.metre(free, C_MAJOR)
    assert metre[6] == 1.0
    assert np.isnan(metre[7])


@pytest.mark.parametrize(
    ("bar", "beat", "beats", "kind"),
    [
        (2.0, 1.0, 0, 4),
        (3.0, 1.0, 1, 4),
        (4.0, 1.0, 2, 4),
        (3.0, 1.5, 0, 5),
        (4.5, 1.5, 1, 5),
        (2.5, 0.0, 3, None),
    ],
    ids=["2/4", "3/4", "4/4", "6/8", "9/8", "5/8"],
)
def test_metre_tells_beats_and_their_division(bar: float, beat: float, beats: int, kind: int | None) -> None:
    """Duple, triple, quadruple or other; simple or compound, or neither where beats are uneven."""
    block = features.metre(notes(line([60] * 12, 0.5, bar=bar, beat=beat)), C_MAJOR)
    np.testing.assert_array_equal(np.flatnonzero(block[:4]), [beats])
    np.testing.assert_array_equal(np.flatnonzero(block[4:6]) + 4, [] if kind is None else [kind])
    assert block[7] == pytest.approx(np.log2(bar))


def test_note_values_are_relative_to_the_commonest() -> None:
    """Halving all note lengths changes nothing; one long note among short ones is seen as twice as long."""
    slow = features.note_values(notes(line([60, 62, 64, 65], [1.0, 1.0, 1.0, 2.0])), C_MAJOR)
    fast = features.note_values(notes(line([60, 62, 64, 65], [0.5, 0.5, 0.5, 1.0])), C_MAJOR)
    np.testing.assert_allclose(slow, fast)
    np.testing.assert_allclose(slow[[5, 7]] ** 2, [0.75, 0.25])


def test_beat_values_know_the_compound_beat() -> None:
    """Three eighths in 6/8 are thirds of the beat; three in 3/4 are halves."""
    third = features.beat_values(notes(line([60] * 6, 0.5, bar=3.0, beat=1.5)), C_MAJOR)
    half = features.beat_values(notes(line([60] * 6, 0.5, bar=3.0, beat=1.0)), C_MAJOR)
    assert third[features.RATIO_TO_BEAT.index(-1.585)] == 1.0
    assert half[features.RATIO_TO_BEAT.index(-1.0)] == 1.0


def test_texture_measures_time_with_several_notes() -> None:
    """Two parts, the second silent for half the time: 1.5 notes sound on average."""
    texture = features.texture(notes(line([60] * 4), line([48] * 2, part=1)), C_MAJOR)
    assert texture[0] == 1.0
    assert texture[1] == pytest.approx(1.5)
    np.testing.assert_allclose(texture[2:8], [0, 0.5, 0.5, 0, 0, 0])
    assert texture[8] == pytest.approx(4 / 6)


def test_harmonic_intervals_count_from_the_lowest_note() -> None:
    """A major triad gives a third and a fifth; a single line gives nothing."""
    triad = notes(line([48]), line([64], part=1), line([67], part=2))
    np.testing.assert_allclose(features.harmonic_intervals(triad, C_MAJOR)[[4, 7]], np.sqrt([0.5, 0.5]))
    assert not features.harmonic_intervals(notes(line(TUNE)), C_MAJOR).any()


def test_register_keeps_absolute_pitch() -> None:
    """Middle C and the C above are in different registers."""
    low = features.register(notes(line([60] * 4)), C_MAJOR)
    high = features.register(notes(line([72] * 4)), C_MAJOR)
    assert low.argmax() != high.argmax()


def test_repetition_sees_bars_that_came_before() -> None:
    """Of four bars, two repeat in notes and three in rhythm."""
    first, second = [60, 62, 64, 65], [67, 65, 64, 62]
    _, _, _, rhythms, pitches, *_ = features.repetition(notes(line(first + second + first + second)), C_MAJOR)
    assert rhythms == pytest.approx(3 / 4)
    assert pitches == pytest.approx(2 / 4)


def test_repetition_finds_no_copies_in_a_scale_of_growing_steps() -> None:
    """Intervals that never come back have no repeated n-grams."""
    growing = [40, 41, 43, 46, 50, 55, 61, 68]
    np.testing.assert_allclose(features.repetition(notes(line(growing)), C_MAJOR)[:3], 0)


def test_two_notes_are_enough_for_every_block() -> None:
    """The shortest melody gives numbers, not errors."""
    assert np.isfinite(compute_features(notes(line([60, 62])))).all()


def test_one_note_over_and_over_is_no_error() -> None:
    """A monotone has no spread, and that is all."""
    assert np.isfinite(compute_features(notes(line([60] * 16)))).all()


def test_a_work_without_notes_is_refused() -> None:
    """An empty work is an error, never an empty vector."""
    with pytest.raises(ValueError, match="without notes"):
        Notes.from_raw(RawNotes())
