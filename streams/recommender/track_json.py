"""What answers say of a track whatever the question, as JSON that is made once for all tracks of which the same is known."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson
from cachetools import LRUCache

from streams.engine.search.rows import TrackRows
from streams.metadata_fields import LIST_FIELDS
from streams.recommender.catalogue_source import EXTRA

_HEADLINE: Final = ("title", "composer", "composer_full", "era", "form", "key_signature")
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
        members = {
            **{name: metadata[name] for name in _HEADLINE},
            "filename": _filename(self._tracks.metadata[EXTRA].value(row)),
            "tags": metadata["tags"],
            "metadata": metadata,
        }
        return orjson.dumps(members, option=orjson.OPT_UTC_Z)[1:-1]

    def metadata(self, row: int) -> dict[str, Any]:
        """All that is known of a row, as orjson writes it."""
        metadata = self._tracks.metadata.row(row)
        metadata |= {name: metadata[name] or () for name in LIST_FIELDS}
        metadata[EXTRA] = orjson.Fragment(metadata[EXTRA] or b"{}")
        return metadata


def _filename(extra: bytes | None) -> str | None:
    if extra is None or b'"filename"' not in extra:
        return None
    name = orjson.loads(extra).get("filename")
    return name if isinstance(name, str) else None
