"""Which of two events of a track is the later one, wherever they stand in the log."""

from typing import NamedTuple


class EventPlace(NamedTuple):
    """Where an event stands.

    Attributes:
        partition: Of the ingest topic.
        offset: Likewise.
        appended: When the broker appended it, milliseconds since 1970; 0 if that is not known.
    """

    partition: int
    offset: int
    appended: int

    def is_after(self, other: "EventPlace") -> bool:
        """Whether this event is later: within a partition by offset, else by time, and of equal times by partition.

        `store.tracks` says the same in SQL.
        """
        if self.partition == other.partition:
            return self.offset > other.offset
        return (self.appended, self.partition) > (other.appended, other.partition)
