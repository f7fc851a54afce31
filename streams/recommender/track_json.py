"""Caches the JSON members of tracks that do not depend on the question; tracks with equal metadata share an entry."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson
from cachetools import LRUCache

from streams.contracts.rendering import filename_of, track_members
from streams.engine.search.rows import TrackRows
from streams.metadata_fields import LIST_FIELDS
from streams.recommender.catalogue_source import EXTRA

_BYTES: Final = 16 * 1024 * 1024


class TrackJson:
    """Members of items, from metadata.

    Args:
        tracks: The catalogue.
    """

    def __init__(self, tracks: TrackRows) -> None:
        self._tracks = tracks
        # By the numbers of a track's values, which mean the same as long as the generations do.
        self._made: LRUCache[bytes, bytes] = LRUCache(_BYTES, getsizeof=len)
        self._generations: tuple[int, ...] = ()

    def members(self, rows: Sequence[int]) -> list[bytes]:
        """Headline, file name, tags and metadata of some rows, each as the inside of a JSON object."""
        columns = self._tracks.metadata.columns.values()
        generations = tuple(column.generation for column in columns)
        if generations != self._generations:
            self._generations = generations
            self._made.clear()
        places = np.array(rows, dtype=np.intp)
        numbers = np.array([column.codes[places] for column in columns], dtype=np.int32).T
        return [self._of(row, key.tobytes()) for row, key in zip(rows, numbers, strict=True)]

    def _of(self, row: int, key: bytes) -> bytes:
        found: bytes | None = self._made.get(key)
        if found is None:
            found = self._made[key] = self._rendered(row)
        return found

    def _rendered(self, row: int) -> bytes:
        metadata = self.metadata(row)
        return track_members(metadata, _filename(self._tracks.metadata[EXTRA].value(row)))

    def metadata(self, row: int) -> dict[str, Any]:
        """All that is known of a row, as orjson writes it."""
        metadata = dict(self._tracks.metadata.row(row))
        metadata |= {name: metadata[name] or () for name in LIST_FIELDS}
        metadata[EXTRA] = orjson.Fragment(metadata[EXTRA] or b"{}")
        return metadata


def _filename(extra: bytes | None) -> str | None:
    if extra is None or b'"filename"' not in extra:
        return None
    return filename_of(orjson.loads(extra))
