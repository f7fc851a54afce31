"""The input and output of the neighbour engine: plain arrays, cheap to send between processes."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from streams.engine.acceleration import Kernels

Keys = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int32]
Events = npt.NDArray[Any]

# Which event did it: partition and offset in the ingest topic, and event time in microseconds since 1970.
EVENT = np.dtype([("partition", np.int32), ("offset", np.int64), ("time", np.int64)])
EMPTY = -1  # fills the unused places of an array of slots


class TrackArrays(NamedTuple):
    """The tracks that are searched, by slot.

    Attributes:
        vectors: float32 (slots, d), unit length.
        alive: bool (slots,).
        labels: int64 (slots,), compare as the track ids do.
    """

    vectors: Vectors
    alive: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]


class EntryLimits(NamedTuple):
    """What a similarity must reach for its track to enter another track's list.

    Attributes:
        bounds: float32 (w,), what a product must reach for its pair to be computed; inf: never.
        horizon: float32 (slots,), what a similarity must reach.
        error: float32, bounds how far a product may lie below the similarity.
    """

    bounds: Scores
    horizon: Scores
    error: np.float32


def no_events() -> Events:
    """An empty array of `EVENT`, shape (0,)."""
    return np.empty(0, dtype=EVENT)


@dataclass(frozen=True, slots=True)
class TrackBatch:
    """Changes to the catalogue, applied as one; a key appears at most once.

    Attributes:
        keys: int64 (b,), the tracks inserted or re-embedded.
        track_ids: Their ids, b strings; ties in similarity are broken by them.
        vectors: float32 (b, d), unit length.
        events: `EVENT` (b,), the event behind each.
        deleted: int64 (m,), the tracks withdrawn; unknown ones are ignored.
        deleted_events: `EVENT` (m,), the event behind each.
        behind: How many more events are known to wait: of many, newcomers' lists had better be made together.
        metadata: What is known of the b tracks inserted, a value for each field; None where it is not wanted.
        moved: int64, tracks whose event before was of another partition: their lists are given again, changed or not, as
            somebody else may have written one.
    """

    keys: Keys
    track_ids: list[str]
    vectors: Vectors
    events: Events
    deleted: Keys
    deleted_events: Events
    behind: int = 0
    metadata: Sequence[tuple[Hashable, ...]] | None = None
    moved: Keys = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class ListChanges:
    """Published lists that differ from what was taken before.

    Attributes:
        keys: int64 (m,), whose lists these are.
        neighbours: int64 (m, k), most similar first; past `lengths` zero.
        scores: float32 (m, k), cosine similarity; past `lengths` zero.
        lengths: int64 (m,), how many of the k places are used.
        events: `EVENT` (m,), the event that changed the list last.
        owners: int32 (m,), the partition that each list belongs to: that of its track's own event.
        deleted: int64 (r,), tracks whose lists must go.
        deleted_owners: int32 (r,), likewise.
        unknown: int32 (p,), partitions that have lists which are not known yet: what a store holds of these may be old.
    """

    keys: Keys
    neighbours: Keys
    scores: Scores
    lengths: npt.NDArray[np.int64]
    events: Events
    owners: npt.NDArray[np.int32]
    deleted: Keys
    deleted_owners: npt.NDArray[np.int32]
    unknown: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class StoredLists:
    """Lists as a store kept them, to start from: arrays as in `ListChanges`."""

    keys: Keys
    neighbours: Keys
    scores: Scores
    lengths: npt.NDArray[np.int64]
    events: Events


@dataclass(frozen=True, slots=True)
class TrueLists:
    """Lists computed afresh, with no regard to those that are kept.

    Attributes:
        keys: int64 (m,), whose lists these are.
        neighbours: int64 (m, k), most similar first; past `lengths` zero.
        scores: float32 (m, k); past `lengths` zero.
        lengths: int64 (m,).
        pending: bool (m,), True where the kept list has changed since it was taken, or waits for a refill.
    """

    keys: Keys
    neighbours: Keys
    scores: Scores
    lengths: npt.NDArray[np.int64]
    pending: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A look inside: counts, bytes held, and seconds spent by phase since the start.

    `unverified` tracks have not been compared with the whole catalogue yet; `compiled` says whether the inner loops are,
    `compile_failure` why they could not be; `descent_failure` why pynndescent did not find the first lists.
    """

    tracks: int
    waiting_refills: int
    memory_bytes: int
    seconds: dict[str, float]
    unverified: int = 0
    compiled: bool = False
    compile_failure: str = ""
    descent_failure: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """What a snapshot says of itself.

    Attributes:
        version: Of the format.
        identity: Which catalogue it is of, as given by whoever wrote it.
        dimension: d of the vectors.
        published: Neighbours that the world sees.
        kept: Neighbours that are kept.
        tracks: In the catalogue.
        used: Slots.
        offsets: By partition, the offset below which every event has been applied.
        created: Seconds since the epoch.
        size: Bytes of the whole file.
    """

    version: int
    identity: str
    dimension: int
    published: int
    kept: int
    tracks: int
    used: int
    offsets: dict[int, int]
    created: float
    size: int


class NeighbourEngine(Protocol):
    """Keeps the neighbour list of every track. Not safe to call from several threads at once."""

    def accelerate(self, kernels: Kernels) -> None:
        """Use compiled inner loops from now on: what comes out is the same to the bit."""

    def load(self, tracks: TrackBatch, lists: StoredLists) -> None:
        """Start from a catalogue whose lists are known; only on an empty engine.

        Entries whose track is not in `tracks` are dropped. Lists that are missing or too short to be
        trusted are computed by `refill`.
        """

    def apply(self, batch: TrackBatch) -> None:
        """Bring every list up to date with `batch`."""

    def own(self, partitions: Collection[int] | None) -> None:
        """Keep the lists of tracks whose own event is of these partitions, and forget all others; None keeps all.

        Lists that were not kept before are computed by `refill`, unless `adopt` gives them.
        """

    def adopt(self, lists: StoredLists, absorbed: Mapping[int, int]) -> None:
        """Take over lists that are owned and not kept yet, as another engine left them.

        Args:
            lists: As they were stored; those of tracks that are not here, not owned or known already are passed over.
            absorbed: By partition, the offset below which every event is in the stored lists. Where there is none,
                nothing is.
        """

    def refill(self, limit: int) -> int:
        """Compute at most `limit` lists that have become short; return how many are still waiting."""

    def take_changes(self) -> ListChanges:
        """The lists that changed since the last call. What was taken is not given again."""

    def sample(self, count: int) -> TrueLists:
        """Compute the lists of at most `count` tracks, drawn at random, by a search over the whole catalogue."""

    def stats(self) -> EngineStats:
        """Counts and times, at any moment."""

    def begin_snapshot(self, path: str, identity: str, offsets: Mapping[int, int]) -> None:
        """Begin to write the whole state to a file; one begun before and not finished is abandoned.

        Args:
            path: Where to; the file appears, or is replaced, when it is whole.
            identity: Which catalogue this is: what `load_snapshot` must be given.
            offsets: By partition, the offset below which every event has been applied. Events applied from now on must
                come in the order of their offsets.

        Raises:
            SnapshotError: The file cannot be written.
        """

    def continue_snapshot(self, seconds: float) -> SnapshotHeader | None:
        """Write for about so long; the header once the file is whole, None until then.

        Lists given by the last `take_changes` count as not stored yet: they are given again after a start from the file.

        Raises:
            SnapshotError: The file cannot be written, or none was begun.
        """

    def load_snapshot(
        self, path: str, identity: str, upto: Mapping[int, int] | None = None
    ) -> dict[int, int]:
        """Start from a snapshot; only on an empty engine.

        Args:
            path: The file.
            identity: Which catalogue it must be of.
            upto: By partition, the offset up to which the store has consumed: a snapshot that goes beyond is refused.

        Returns:
            By partition, the offset below which every event is in the state.

        Raises:
            SnapshotError: It is missing, corrupt, truncated, or of another catalogue, shape or history; the engine is
                empty as before.
        """

    def held(self, lists: StoredLists) -> None:
        """Say what a store holds of some lists: those that differ are among the next changes.

        Wanted after a start from a snapshot for the lists that were stored after it had been written.
        """

    def keys(self) -> Keys:
        """The tracks in the catalogue, int64 (n,), in no order."""
