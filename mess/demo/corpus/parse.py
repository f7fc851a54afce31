"""Reads one work with music21 and keeps what the embedding and the metadata need. The only music21 importer."""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from music21 import abcFormat, chord, converter, harmony, key, meter, note, stream, tempo

from mess.demo.corpus import sources
from mess.demo.corpus.raw import Failure, RawNotes, RawWork
from mess.incipits.beginnings import first_bars_of_humdrum, first_bars_of_musicxml

# Positions are kept to this many decimals: finer than any tuplet in the corpus, and it makes the cache small.
DECIMALS = 5
# A work that has had its time is told again after so long: Python drops an error that comes within a finalizer.
_AGAIN_SECONDS = 1.0


class WorkTimeoutError(Exception):
    """The work took longer to parse than the limit allows."""


class _TimeIsOver(BaseException):
    """Ends the work. No `Exception`, as music21 passes over many of these."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `WorkTimeoutError` in the body after `seconds`. Main thread of a POSIX process only."""

    def expire(_signal: int, _frame: Any) -> None:
        raise _TimeIsOver

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeIsOver:
        raise WorkTimeoutError(f"no result after {seconds:g} s") from None
    finally:
        signal.signal(signal.SIGALRM, previous)


def read_text(path: Path) -> str:
    """Read an ABC or Humdrum file: UTF-8, or Latin-1 as the older ones are."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_opening(
    path: Path, source: sources.SourceFile, track_id: str, tune: sources.Tune | None, limit: float
) -> RawWork:
    """Parse a work's beginning, some sixteen bars of a long score, for its notes and tempo alone.

    Raises:
        Exception: Whatever the parser raises for a malformed score; `WorkTimeoutError` after `limit` seconds.
    """
    with warnings.catch_warnings(), time_limit(limit):
        warnings.simplefilter("ignore")
        if tune is not None or path.suffix == ".abc":
            return _read_work(path, source, track_id, tune)
        if path.suffix == ".krn":
            score = converter.parse(
                first_bars_of_humdrum(read_text(path)), format="humdrum", forceSource=True
            )
        else:
            text = first_bars_of_musicxml(path.read_bytes())
            score = converter.parse(text, format="musicxml", forceSource=True)
        return _extract([score], track_id, source.path, None, [])


def read_file(root: Path, source: sources.SourceFile, limit: float) -> tuple[list[RawWork], list[Failure]]:
    """Parse every work of one corpus file; `limit` is in seconds for each work."""
    works: list[RawWork] = []
    failures: list[Failure] = []
    path = root / source.path
    if source.is_book:
        tunes = sources.split_tunes(read_text(path))
        ids = sources.work_ids(source, [t.number for t in tunes])
        jobs: list[tuple[str, sources.Tune | None]] = list(zip(ids, tunes, strict=True))
    else:
        jobs = [(sources.work_ids(source, [])[0], None)]
    for track_id, tune in jobs:
        try:
            with warnings.catch_warnings(), time_limit(limit):
                warnings.simplefilter("ignore")
                works.append(_read_work(path, source, track_id, tune))
        # The parser raises whatever a malformed score provokes; each is counted and named in the report.
        except Exception as exc:  # noqa: BLE001
            failures.append(Failure(track_id, f"{type(exc).__name__}: {exc}"[:200]))
    return works, failures


def _read_work(path: Path, source: sources.SourceFile, track_id: str, tune: sources.Tune | None) -> RawWork:
    if tune is not None:
        return _extract([_read_tune(tune)], track_id, source.path, tune.number, list(tune.header))
    if path.suffix == ".abc":
        # The voices of a motet or chanson, written as one tune each, are one work.
        voices = sources.split_tunes(read_text(path))
        scores = [_read_tune(voice) for voice in voices]
        return _extract(scores, track_id, source.path, None, list(voices[0].header))
    score = converter.parse(str(path), forceSource=True, storePickle=False)
    return _extract([score], track_id, source.path, None, _file_header(path, score))


def _read_tune(tune: sources.Tune) -> Any:
    # Only from this version of ABC on does the parser carry an accidental to the end of its bar, as these
    # books' writers all meant it.
    handler = abcFormat.ABCFile(abcVersion=(2, 1, 0)).readstr(tune.text)
    return abcFormat.translate.abcToStreamScore(handler)


def _file_header(path: Path, score: Any) -> list[tuple[str, str]]:
    if path.suffix == ".krn":
        return sources.read_references(read_text(path))
    return [
        (name, str(value)) for name, value in score.metadata.all() if name not in {"filePath", "software"}
    ]


def _extract(
    scores: list[Any], track_id: str, file: str, number: int | None, header: list[tuple[str, str]]
) -> RawWork:
    parts = [part for one in scores for part in (list(one.parts) or [one])]
    notes = RawNotes()
    for index, part in enumerate(parts):
        _add_part(notes, part, index)
    if not notes.midi:
        raise ValueError("no notes")
    top = parts[0]
    return RawWork(
        track_id=track_id,
        file=file,
        number=number,
        header=header,
        parts=[str(getattr(part, "partName", None) or "") for part in parts],
        metres=[
            (_quarters(t.getOffsetInHierarchy(top)), t.ratioString) for t in _all(top, meter.TimeSignature)
        ],
        keys=[_key(k, top) for k in _all(top, key.KeySignature)],
        tempos=[_tempo(t, top) for t in _all(top, tempo.TempoIndication)],
        notes=notes,
    )


def _all(part: Any, kind: type) -> list[Any]:
    return list(part.recurse().getElementsByClass(kind))


def _quarters(value: float | Fraction) -> float:
    # Rounding a Fraction gives a Fraction.
    return round(float(value), DECIMALS)


def _key(signature: Any, part: Any) -> tuple[float, int, str | None, str | None]:
    known = isinstance(signature, key.Key)
    offset = _quarters(signature.getOffsetInHierarchy(part))
    return (
        offset,
        signature.sharps or 0,
        signature.mode if known else None,
        signature.tonic.name if known else None,
    )


def _tempo(mark: Any, part: Any) -> tuple[float, float | None, str | None]:
    offset = _quarters(mark.getOffsetInHierarchy(part))
    if isinstance(mark, tempo.MetronomeMark):
        rate = mark.getQuarterBPM()
        return offset, None if rate is None else float(rate), mark.text
    return offset, None, getattr(mark, "text", None)


def _add_part(notes: RawNotes, part: Any, index: int) -> None:
    open_ties: dict[int, int] = {}
    measures = list(part.getElementsByClass(stream.Measure))
    if not measures:
        for element, onset in _sounding(part):
            _add(notes, element, index, (onset, 0.0, 0.0, 0.0), open_ties)
        return
    metre: Any = None
    short_before = 0.0
    for measure in measures:
        metre = measure.timeSignature or metre
        bar, beat = _metre_lengths(metre)
        filled = _quarters(measure.highestTime)
        pad = _quarters(measure.paddingLeft)
        # A strain that starts on a pickup splits a bar in two: its second half is counted from the bar's end.
        if not pad and short_before and bar and abs(short_before + filled - bar) < 1e-3:
            pad = bar - filled
        short_before = filled if bar and filled < bar - 1e-3 and not pad else 0.0
        for element, offset in _sounding(measure):
            onset = _quarters(measure.offset + offset)
            _add(
                notes, element, index, (onset, _quarters(offset) + pad if bar else 0.0, bar, beat), open_ties
            )


def _sounding(container: Any) -> list[tuple[Any, float]]:
    """Return (note or chord, offset in `container`), voices included, in order of time."""
    found = [(element, element.offset) for element in container.notes]
    for voice in container.voices:
        found += [(element, voice.offset + element.offset) for element in voice.notes]
    if isinstance(container, stream.Part | stream.Score) and not found:
        found = [(element, element.getOffsetInHierarchy(container)) for element in container.recurse().notes]
    return sorted(found, key=lambda pair: pair[1])


def _metre_lengths(metre: Any) -> tuple[float, float]:
    if metre is None:
        return 0.0, 0.0
    bar = _quarters(metre.barDuration.quarterLength)
    try:
        return bar, _quarters(metre.beatDuration.quarterLength)
    except meter.TimeSignatureException:
        return bar, 0.0


def _add(
    notes: RawNotes,
    element: Any,
    part: int,
    place: tuple[float, float, float, float],
    open_ties: dict[int, int],
) -> None:
    if element.duration.isGrace or isinstance(element, harmony.Harmony):
        return
    duration = _quarters(element.quarterLength)
    if duration <= 0:
        return
    onset, position, bar, beat = (_quarters(value) for value in place)
    for single in element.notes if isinstance(element, chord.ChordBase) else [element]:
        if not isinstance(single, note.Note):
            continue
        midi = round(single.pitch.ps)
        tie = single.tie.type if single.tie else None
        held = open_ties.get(midi)
        continues = tie in {"stop", "continue"} and held is not None
        if continues and held is not None and abs(notes.onset[held] + notes.duration[held] - onset) < 1e-3:
            notes.duration[held] = _quarters(notes.duration[held] + duration)
        else:
            held = len(notes.midi)
            for column, value in (
                (notes.onset, onset),
                (notes.duration, duration),
                (notes.position, position),
                (notes.bar, bar),
                (notes.beat, beat),
            ):
                column.append(value)
            notes.midi.append(midi)
            notes.part.append(part)
        if tie in {"start", "continue"}:
            open_ties[midi] = held
        else:
            open_ties.pop(midi, None)
