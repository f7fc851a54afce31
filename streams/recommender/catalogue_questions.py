"""What a worker asks of the process that holds the catalogue, and what that answers: plain values that travel well."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from streams.strategies import Query
from streams.strategies.types import Keys


@dataclass(frozen=True, eq=False, slots=True)
class CatalogueQuestion:
    """One question, read and checked, without anything that is known of tracks.

    Attributes:
        query: What is asked; seeds and negatives by key alone.
        asked: The strategy's own name and its mode.
        reference: The only track that is asked for, by key; None where there are several, or none.
        neighbours: Keys of the reference's stored list, where the answer is to have it, int64; None where it is not.
        source: Of the event that changed the reference's stored list last, as the body has it.
        provisional: Whether the answer stands in for a list that is not there yet.
        notes: What to say beside the strategies' own notes.
        keep: Whether the body is to be kept, too.
        candidate: The track whose place is asked for, by key, instead of the list.
        compare: Whether every strategy is asked for, side by side.
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
    """An answer without the members that change from one delivery to the next.

    Attributes:
        computed: As it is sent once it has been computed.
        kept: As it is sent from the store; None if it isn't kept.
        generated_at: When the list was computed.
        members: Keys of the tracks that it names, best first.
        made_from: Keys of these and of the reference, each with the offset of the event that it was known by.
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
    """Tracks that a question names and the catalogue does not have."""

    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RefusedQuestion:
    """A question that cannot be answered: which field is at fault, and why."""

    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class FailedQuestion:
    """A question on which the process failed; it goes on with the others. The text is for the log."""

    text: str


CatalogueAnswer = Body | UnknownTracks | RefusedQuestion | FailedQuestion
