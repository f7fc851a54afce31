"""Messages between a worker and the process that holds its catalogue: plain values, which pickle well."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from streams.strategies import Query
from streams.strategies.types import Keys


@dataclass(frozen=True, eq=False, slots=True)
class CatalogueQuestion:
    """One validated question, without vectors and metadata of tracks.

    Attributes:
        query: What is asked; seeds and negatives by key alone.
        asked: The strategy's own name and its mode.
        reference: The key of the only seed; None if there are several, or none.
        neighbours: Keys of the reference's stored list, int64, if the answer begins with it; else None.
        source: The event that changed the reference's stored list last, as in the body.
        provisional: Whether the answer stands in for a list that does not exist yet.
        notes: Notes in addition to the strategies' own.
        keep: Whether to store the body, too.
        candidate: The key of a track whose placement is asked for instead of the list.
        compare: Whether to compare all strategies.
    """

    query: Query
    asked: tuple[str, str | None]
    reference: int | None = None
    neighbours: Keys | None = None
    source: Mapping[str, Any] | None = None
    provisional: bool = False
    notes: tuple[str, ...] = ()
    keep: bool = False
    candidate: int | None = None
    compare: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """An answer without the members that change with each delivery.

    Attributes:
        computed: The body to send now.
        kept: The body to store; None if it is not stored.
        generated_at: When the list was computed.
        members: Keys of the tracks that it names, best first.
        made_from: Keys of these and of the reference, each with the offset of its latest event.
        popularity: The version of the popularity in use.
    """

    computed: bytes
    kept: bytes | None
    generated_at: datetime
    members: tuple[int, ...] = ()
    made_from: Mapping[int, int] = field(default_factory=dict)
    popularity: int = 0


@dataclass(frozen=True, slots=True)
class UnknownTracks:
    """A question names tracks that the catalogue does not have."""

    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RefusedQuestion:
    """A question is refused: the field at fault, and why."""

    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class FailedQuestion:
    """The process failed on a question and continues with others. The text is for the log."""

    text: str


CatalogueAnswer = Body | UnknownTracks | RefusedQuestion | FailedQuestion
