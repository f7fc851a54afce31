"""The intermediate form of a work: its notes and header facts, free of the parser's types."""

from dataclasses import dataclass, field


@dataclass
class RawNotes:
    """Sounding notes in columns of equal length, ties merged, grace notes left out.

    `onset`, `duration`, `position` and `bar` are in quarter lengths; `position` is the onset within its bar, a
    pickup counted from the bar's end; `bar` and `beat` are the nominal lengths in force (0 where there is no
    metre, and `beat` 0 also where the metre has no even beat); `midi` is the pitch number; `part` counts from 0,
    as scored.
    """

    onset: list[float] = field(default_factory=list)
    duration: list[float] = field(default_factory=list)
    midi: list[int] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    position: list[float] = field(default_factory=list)
    bar: list[float] = field(default_factory=list)
    beat: list[float] = field(default_factory=list)


@dataclass
class RawWork:
    """One parsed work: where it is from, what its header says, and its notes.

    `metres` are (offset, "6/8"), `keys` (offset, sharps, mode or None, tonic or None), `tempos` (offset,
    quarters a minute or None, words or None), each in order of appearance in the top part.
    """

    track_id: str
    file: str
    number: int | None
    header: list[tuple[str, str]]
    parts: list[str]
    metres: list[tuple[float, str]]
    keys: list[tuple[float, int, str | None, str | None]]
    tempos: list[tuple[float, float | None, str | None]]
    notes: RawNotes


@dataclass
class Failure:
    """A work that could not be read, and the reason."""

    track_id: str
    reason: str
