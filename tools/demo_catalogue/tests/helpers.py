"""Works written out by hand."""

from mess.demo.corpus.raw import RawNotes, RawWork
from tools.demo_catalogue.notes import Notes


def line(
    pitches: list[int],
    durations: list[float] | float = 1.0,
    *,
    part: int = 0,
    bar: float = 4.0,
    beat: float = 1.0,
    start: float = 0.0,
) -> RawNotes:
    """One voice: pitches one after another from `start`, in bars of `bar` quarters (0 for no metre)."""
    lengths = durations if isinstance(durations, list) else [durations] * len(pitches)
    onsets = [start + sum(lengths[:i]) for i in range(len(pitches))]
    count = len(pitches)
    return RawNotes(
        onset=onsets,
        duration=lengths,
        midi=pitches,
        part=[part] * count,
        position=[onset % bar if bar else 0.0 for onset in onsets],
        bar=[bar] * count,
        beat=[beat] * count,
    )


def together(*voices: RawNotes) -> RawNotes:
    """Several voices as one work."""
    columns = ("onset", "duration", "midi", "part", "position", "bar", "beat")
    return RawNotes(**{name: [v for voice in voices for v in getattr(voice, name)] for name in columns})


def notes(*voices: RawNotes) -> Notes:
    """The voices as the feature blocks take them."""
    return Notes.from_raw(together(*voices))


def work(
    track_id: str = "book/1",
    file: str = "oneills1850/0001-0050.abc",
    header: list[tuple[str, str]] | None = None,
    raw: RawNotes | None = None,
    number: int | None = 1,
) -> RawWork:
    """A parsed work; sixteen notes of a C major scale up and down unless told otherwise."""
    scale = [60, 62, 64, 65, 67, 69, 71, 72]
    return RawWork(
        track_id=track_id,
        file=file,
        number=number,
        header=header if header is not None else [("X", "1"), ("T", "A Tune"), ("M", "C"), ("K", "C")],
        parts=[""],
        metres=[(0.0, "4/4")],
        keys=[(0.0, 0, "major", "C")],
        tempos=[],
        notes=raw or line(scale + scale[::-1]),
    )
