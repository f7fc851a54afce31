"""Events of our own that wait to be applied while a later event of their track, of another partition, has been applied.

What this worker has committed waits in a queue; what others have committed is read from the store as it is at a moment,
and applied at once. So an event that the store has let be replaced may come out of the queue behind the one that replaced it.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.rows import TrackVectors
from store.tail import CommittedTail, Departures
from streams.contracts import EventPlace


@dataclass(frozen=True, slots=True)
class _Followed:
    """What was followed at once.

    Attributes:
        places: By key, the event that the store had of the track.
        until: By partition, up to where the queue had been committed then: what comes later knows of these events.
    """

    places: dict[int, EventPlace]
    until: dict[int, int]


def _placed(
    events: TrackVectors | Departures, appended: npt.NDArray[np.int64]
) -> Iterator[tuple[int, EventPlace]]:
    """The key of each event's track, and the event's place."""
    columns = (each.tolist() for each in (events.keys, events.partitions, events.offsets, appended))
    for key, *place in zip(*columns, strict=True):
        yield key, EventPlace(*place)


class OvertakenEvents:
    """Remembers what was followed for as long as something older may wait."""

    def __init__(self) -> None:
        self._followed: deque[_Followed] = deque()

    def note(self, part: CommittedTail, applied: Mapping[int, int]) -> None:
        """A stretch is about to be applied.

        Args:
            part: The stretch.
            applied: By partition, the offset below which everything has been.
        """
        others = part.consumed.items() - part.upto.items()
        until = {p: upto for p, upto in others if p not in part.upto and upto > applied.get(p, 0)}
        if not until:
            return
        places = dict(_placed(part.tracks, part.appended))
        for key, place in _placed(part.departures, part.departures.appended):
            if key not in places or place.is_after(places[key]):
                places[key] = place
        if places:
            self._followed.append(_Followed(places, until))

    def lets_pass(self, key: int, place: EventPlace) -> bool:
        """Whether an event out of the queue is later than all that was followed of its track."""
        followed = (one.places.get(key) for one in self._followed)
        return all(place.is_after(other) for other in followed if other is not None)

    def forget(self, applied: Mapping[int, int]) -> None:
        """Forget what nothing older waits behind any more."""
        while self._followed and all(
            applied.get(partition, 0) >= upto for partition, upto in self._followed[0].until.items()
        ):
            self._followed.popleft()
