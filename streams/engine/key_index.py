"""Which slot a track's key has, in arrays: a dictionary of a million keys takes ten times the memory."""

import numpy as np
import numpy.typing as npt

from streams.engine.types import EMPTY, Keys, Slots

# Keys that have come since the arrays were sorted are in a dictionary, so many or this share of all.
RECENT = 4_096
RECENT_SHARE = 1 / 8


class KeyIndex:
    """A map of keys, int64, to slots, int32."""

    def __init__(self) -> None:
        # Ascending; slots are `EMPTY` where the key has gone.
        self._keys: Keys = np.empty(0, dtype=np.int64)
        self._slots: Slots = np.empty(0, dtype=np.int32)
        self._recent: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        return self._keys.nbytes + self._slots.nbytes

    def find(self, keys: Keys) -> Slots:
        """The slot of each key, int32 (m,); `EMPTY` for those that have none."""
        places, there = self._places(keys)
        found = np.full(len(keys), EMPTY, dtype=np.int32)
        found[there] = self._slots[places[there]]
        if self._recent:
            get, others = self._recent.get, np.flatnonzero(~there)
            found[others] = [get(key, EMPTY) for key in keys[others].tolist()]
        return found

    def add(self, keys: Keys, slots: Slots) -> None:
        """Give keys that have no slot these, int32 (m,)."""
        self._count += len(keys)
        places, there = self._places(keys)
        self._slots[places[there]] = slots[there]
        new, theirs = keys[~there], slots[~there]
        if len(self._recent) + len(new) > max(RECENT, RECENT_SHARE * len(self._keys)):
            self._sort_in(new, theirs)
        else:
            self._recent.update(zip(new.tolist(), theirs.tolist(), strict=True))

    def remove(self, keys: Keys) -> None:
        """Forget keys that have a slot."""
        self._count -= len(keys)
        places, there = self._places(keys)
        self._slots[places[there]] = EMPTY
        for key in keys[~there].tolist():
            del self._recent[key]

    def _places(self, keys: Keys) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Where in the arrays keys are, intp (m,), and whether they are there at all, bool (m,)."""
        if not len(self._keys):
            return np.zeros(len(keys), dtype=np.intp), np.zeros(len(keys), dtype=np.bool_)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return places, self._keys[places] == keys

    def _sort_in(self, new: Keys, slots: Slots) -> None:
        stays = self._slots != EMPTY
        recent = np.fromiter(self._recent.keys(), dtype=np.int64, count=len(self._recent))
        theirs = np.fromiter(self._recent.values(), dtype=np.int32, count=len(self._recent))
        keys = np.concatenate([self._keys[stays], recent, new])
        # Mostly sorted already, which a stable sort makes use of.
        ranks = np.argsort(keys, kind="stable")
        self._keys = keys[ranks]
        self._slots = np.concatenate([self._slots[stays], theirs, slots])[ranks]
        self._recent = {}
