"""The vectors of the catalogue, in slots: dense rows that are reused after their track is gone."""

from typing import Any

import numpy as np
import numpy.typing as npt

from streams.engine.id_order import IdOrder
from streams.engine.key_index import KeyIndex
from streams.engine.types import EVENT, Events, Keys, Slots, Vectors


class Catalogue:
    """Vectors by slot, and which track has which slot."""

    def __init__(self, dimension: int, capacity: int = 1024) -> None:
        self.dimension = dimension
        self.vectors: Vectors = np.zeros((capacity, dimension), dtype=np.float32)
        self.keys: Keys = np.zeros(capacity, dtype=np.int64)
        self.track_ids: list[str | None] = []
        self.alive: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        # Compare as the track ids do.
        self.id_labels: npt.NDArray[np.int64] = np.zeros(capacity, dtype=np.int64)
        # The event that each track is from: its partition says who owns the track's list.
        self.events: Events = np.zeros(capacity, dtype=EVENT)
        # Slots of which anything has changed since whoever wants to know cleared it.
        self.touched: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self._id_order = IdOrder()
        self._slot_of = KeyIndex()
        self._free: list[int] = []
        # A freed slot is not reused before `release`: lists taken earlier still name it.
        self._retired: list[int] = []

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def used(self) -> int:
        """How many slots have ever been used: rows past this one hold nothing."""
        return len(self.track_ids)

    @property
    def capacity(self) -> int:
        """How many slots there is room for."""
        return len(self.keys)

    def slots_of(self, keys: Keys) -> Slots:
        """The slot of each key, int32 (m,); `EMPTY` where the track is not in the catalogue."""
        return self._slot_of.find(keys)

    def reserve(self, count: int) -> bool:
        """Make room for `count` more tracks; True if the arrays have grown."""
        need = self.used + max(0, count - len(self._free))
        if need <= self.capacity:
            return False
        # A quarter more at a time: doubling a large catalogue would double its memory.
        grown = max(need, self.capacity + max(1024, self.capacity // 4))
        self.vectors = enlarge_rows(self.vectors, grown, 0)
        self.keys = enlarge_rows(self.keys, grown, 0)
        self.alive = enlarge_rows(self.alive, grown, False)
        self.id_labels = enlarge_rows(self.id_labels, grown, 0)
        self.events = enlarge_rows(self.events, grown, np.zeros((), dtype=EVENT))
        self.touched = enlarge_rows(self.touched, grown, False)
        return True

    def add(self, keys: Keys, track_ids: list[str]) -> Slots:
        """Give slots, int32 (m,), to tracks that have none; `reserve` must have made room."""
        slots = np.empty(len(keys), dtype=np.int32)
        for i, track_id in enumerate(track_ids):
            if self._free:
                slot = self._free.pop()
                self.track_ids[slot] = track_id
            else:
                slot = len(self.track_ids)
                self.track_ids.append(track_id)
            slots[i] = slot
        self._slot_of.add(keys, slots)
        self.keys[slots] = keys
        self.alive[slots] = True
        self.touched[slots] = True
        generation = self._id_order.generation
        self._id_order.add(track_ids)
        if self._id_order.generation == generation:
            self.id_labels[slots] = self._id_order.labels(track_ids)
        else:
            self.id_labels[: self.used] = self._id_order.labels(self.track_ids)
        return slots

    def drop(self, slots: Slots) -> None:
        """Take tracks out. Their keys stay readable until `release`."""
        self._id_order.remove(self.track_ids[slot] or "" for slot in slots.tolist())
        self._slot_of.remove(self.keys[slots])
        for slot in slots.tolist():
            self.track_ids[slot] = None
            self._retired.append(slot)
        self.alive[slots] = False
        self.vectors[slots] = 0
        self.touched[slots] = True

    def restore(self, track_ids: list[str | None]) -> None:
        """Complete a catalogue whose arrays have been filled.

        Args:
            track_ids: By slot; None for those that hold no track, which may be used again after `release`.
        """
        self.track_ids = track_ids
        slots = np.flatnonzero(self.alive[: self.used])
        self._slot_of.add(self.keys[slots], slots.astype(np.int32))
        self._retired = self.dead().tolist()
        self._id_order.add(track_id for track_id in track_ids if track_id is not None)
        self.id_labels[: self.used] = self._id_order.labels(track_ids)

    def release(self) -> None:
        """Let slots of dropped tracks be used again."""
        self._free += self._retired
        self._retired = []

    def dead(self) -> npt.NDArray[np.intp]:
        """Slots below `used` that hold no track."""
        return np.flatnonzero(~self.alive[: self.used])

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        arrays = (self.vectors, self.keys, self.alive, self.id_labels, self.events)
        return sum(array.nbytes for array in arrays) + self._slot_of.memory_bytes


def enlarge_rows(array: npt.NDArray[Any], rows: int, fill: object) -> npt.NDArray[Any]:
    """Give `array` so many rows, the new ones filled, and return it. Nothing may hold a view of it.

    In place: the system moves a large array's pages instead of copying it, and never holds two.
    """
    before = len(array)
    array.resize((rows, *array.shape[1:]), refcheck=False)
    array[before:] = fill
    return array
