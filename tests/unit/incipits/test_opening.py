"""The beginnings of scores, and their first seconds as notes."""

import io
import zipfile

import pytest

from mess.demo.corpus.raw import RawNotes, RawWork
from mess.incipits.beginnings import first_bars_of_humdrum, first_bars_of_musicxml
from mess.incipits.opening import opening_parts, quarters_a_minute

pytestmark = pytest.mark.unit


def _work(beat: float = 1.0, tempos: list[tuple[float, float | None, str | None]] | None = None) -> RawWork:
    """Two parts of quarter notes that begin after a rest of two quarters."""
    notes = RawNotes()
    for part in (0, 1):
        for number in range(40):
            notes.onset.append(2.0 + number)
            notes.duration.append(1.0)
            notes.midi.append(60 + number % 12 - 12 * part)
            notes.part.append(part)
            notes.position.append(0.0)
            notes.bar.append(4.0)
            notes.beat.append(beat)
    return RawWork("x", "x.krn", None, [], [], [], [], tempos or [], notes)


def test_the_first_ten_seconds_of_every_part() -> None:
    """Notes begin at once, in milliseconds, part by part, and none begins after ten seconds."""
    upper, lower = opening_parts(_work(tempos=[(0.0, 120.0, None)]))
    assert upper[:6] == [0, 500, 60, 500, 500, 61]
    assert lower[2] == 48
    assert len(upper) == len(lower) == 3 * 20
    assert max(upper[::3]) < 10_000


def test_a_long_note_does_not_sound_for_ever() -> None:
    """What begins before the end sounds out for a moment alone."""
    work = _work(tempos=[(0.0, 60.0, None)])
    work.notes.duration[0] = 100.0
    assert opening_parts(work)[0][1] == 11_500


@pytest.mark.parametrize(
    ("beat", "tempos", "expected"),
    [
        (1.0, [], 96.0),
        (1.5, [], 144.0),
        (0.0, [], 96.0),
        (4.0, [], 320.0),
        (1.0, [(0.0, None, "Allegro"), (0.0, 88.0, None)], 88.0),
        (1.0, [(8.0, 88.0, None)], 96.0),
        (1.0, [(0.0, 2.0, None)], 30.0),
    ],
)
def test_tempo(beat: float, tempos: list[tuple[float, float | None, str | None]], expected: float) -> None:
    """A tempo that is named at the start holds, within reason; else a beat is neither fast nor slow."""
    assert quarters_a_minute(_work(beat, tempos)) == expected


def test_humdrum_is_cut_at_a_bar_line_and_ended() -> None:
    """The spines of a cut file end as they should; a short file stays as it is."""
    text = "**kern\t**kern\n" + "".join(f"=\t=\n4{note}\t4{note}\n" for note in "cdef")
    cut = first_bars_of_humdrum(text, bars=2)
    assert cut.splitlines()[-2:] == ["=\t=", "*-\t*-"]
    assert cut.count("4") == 4
    assert first_bars_of_humdrum(text, bars=9) == text


@pytest.mark.parametrize("zipped", [False, True])
def test_musicxml_keeps_the_first_bars_of_each_part(zipped: bool) -> None:
    """Each part keeps its first measures, of a plain document and of a zipped one."""
    part = "<part id='P'>" + "".join(f"<measure number='{n}'/>" for n in range(9)) + "</part>"
    data = f"<score-partwise>{part}{part}</score-partwise>".encode()
    if zipped:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("META-INF/container.xml", '<c xmlns="x"><rootfile full-path="a/s.xml"/></c>')
            archive.writestr("a/s.xml", data)
        data = target.getvalue()
    assert first_bars_of_musicxml(data, bars=3).count("<measure") == 6
