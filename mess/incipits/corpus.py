"""Where each work of the demo catalogue stands in music21's corpus."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mess.demo.corpus import sources
from mess.demo.corpus.parse import read_opening, read_text
from mess.incipits.opening import opening_parts


class _Where(NamedTuple):
    source: sources.SourceFile
    tune: int | None


@lru_cache(maxsize=4)
def _tunes(path: Path) -> list[sources.Tune]:
    return sources.split_tunes(read_text(path))


class Corpus:
    """The corpus of the installed package, indexed by the ids of the catalogue."""

    def __init__(self) -> None:
        package = find_spec("music21")
        assert package is not None
        assert package.origin is not None
        self._root = Path(package.origin).parent / "corpus"
        self._works: dict[str, _Where] = {}
        for source in sources.list_files(self._root)[0]:
            self._index(source)

    def _index(self, source: sources.SourceFile) -> None:
        if not source.is_book:
            self._add(sources.work_ids(source, [])[0], _Where(source, None))
            return
        tunes = _tunes(self._root / source.path)
        for at, track_id in enumerate(sources.work_ids(source, [tune.number for tune in tunes])):
            self._add(track_id, _Where(source, at))

    def _add(self, track_id: str, where: _Where) -> None:
        # As the catalogue's builder names a tune that a second file of a book has, too.
        name, count = track_id, 1
        while name in self._works:
            count += 1
            name = f"{track_id}-{count}"
        self._works[name] = where

    def __contains__(self, track_id: str) -> bool:
        return track_id in self._works

    def incipit(self, track_id: str, limit: float) -> list[list[int]]:
        """How a work begins: see `opening_parts`.

        Raises:
            LookupError: The corpus does not have it.
            Exception: Whatever the parser raises.
        """
        if track_id not in self._works:
            raise LookupError("the installed corpus does not have it")
        source, at = self._works[track_id]
        path = self._root / source.path
        tune = None if at is None else _tunes(path)[at]
        return opening_parts(read_opening(path, source, track_id, tune, limit))
