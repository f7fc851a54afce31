"""Selects dead letters and replays or drops them, for `mess dead-letters`."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import asyncpg

from mess.dead_letters.topic import DeadLetter, read_dead_letter, read_dead_letters, resend_dead_letters
from store.dead_letters import (
    DeadLetterId,
    HandledDeadLetter,
    fetch_handled,
    mark_handled,
    tracks_written_since,
)
from streams.contracts import times
from streams.settings import KafkaSettings

State = Literal["open", "replayed", "dropped", "any"]

# For more places than this the whole topic is read: each place takes a consumer of its own.
_ONE_BY_ONE: Final = 20
_PLACE: Final = re.compile(r"(\d{1,9}):(\d{1,18})")


@dataclass(frozen=True, slots=True)
class DeadLetterSelection:
    """A selection of dead letters; an attribute that is None or empty does not restrict it.

    Attributes:
        places: Their coordinates in dead-letters.
        reason: Why they were refused.
        topic: Their source topic.
        since: Refused at this time or later, aware.
        until: Refused earlier, aware.
        state: Whether they have been replayed or dropped.
    """

    places: tuple[tuple[int, int], ...] = ()
    reason: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: State = "open"

    @property
    def everything(self) -> bool:
        """Whether only the state restricts it."""
        return not (self.places or self.reason or self.topic or self.since or self.until)

    def admits(self, letter: DeadLetter) -> bool:
        """Whether it includes a dead letter, whatever its state."""
        return (
            (not self.places or (letter.id.partition, letter.id.offset) in self.places)
            and (self.reason is None or letter.reason == self.reason)
            and (self.topic is None or (letter.source is not None and letter.source.topic == self.topic))
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
        )


@dataclass(frozen=True, slots=True)
class SelectedDeadLetters:
    """A selected dead letter.

    Attributes:
        letter: The dead letter, without its value if many are selected.
        size: Bytes of its value; None for a tombstone.
        handled: What was done about it; None for nothing.
    """

    letter: DeadLetter
    size: int | None
    handled: HandledDeadLetter | None

    @property
    def state(self) -> State:
        """Its state in a word."""
        return self.handled.action if self.handled else "open"


def parse_place(text: str) -> tuple[int, int]:
    """Read `partition:offset`.

    Raises:
        ValueError: It is something else.
    """
    matched = _PLACE.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is not PARTITION:OFFSET, as `mess dead-letters list` shows it")
    return int(matched[1]), int(matched[2])


async def find_dead_letters(
    kafka: KafkaSettings, pool: asyncpg.Pool, wanted: DeadLetterSelection
) -> list[SelectedDeadLetters]:
    """The selected dead letters, in the order of the topic, without their values.

    Raises:
        StreamsError: The broker, the topic or one of the places does not exist.
        StoreUnavailableError: Postgres cannot be reached.
    """
    done = await fetch_handled(pool)
    found = []
    async for letter in _candidates(kafka, wanted):
        handled = done.get(letter.id)
        state: State = handled.action if handled else "open"
        if wanted.admits(letter) and wanted.state in ("any", state):
            size = None if letter.value is None else len(letter.value)
            found.append(SelectedDeadLetters(replace(letter, value=None), size, handled))
    return found


async def _candidates(kafka: KafkaSettings, wanted: DeadLetterSelection) -> AsyncIterator[DeadLetter]:
    """The dead letters at the places named, else all that are recent enough."""
    if not wanted.places:
        since = 0 if wanted.since is None else times.microseconds_of(wanted.since) // 1_000
        async for letter in read_dead_letters(kafka, since=since):
            yield letter
        return
    missing = dict.fromkeys(wanted.places)
    if len(missing) > _ONE_BY_ONE:
        async for letter in read_dead_letters(kafka):
            if letter.id[:2] in missing:
                del missing[letter.id[:2]]
                yield letter
    for partition, offset in missing:
        yield await read_dead_letter(kafka, partition, offset)


async def find_overtaken(pool: asyncpg.Pool, found: Sequence[SelectedDeadLetters]) -> set[DeadLetterId]:
    """The dead letters whose track has a later event in the store, which a replay would overwrite.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    overtaken: set[DeadLetterId] = set()
    for name in {each.letter.generation for each in found} - {None}:
        events = {
            each.letter.id: event
            for each in found
            if each.letter.generation == name and (event := each.letter.event) is not None
        }
        newer = await tracks_written_since(pool, list(events.values()), None if name is None else name.schema)
        overtaken |= {letter for letter, event in events.items() if event in newer}
    return overtaken


async def replay_dead_letters(
    kafka: KafkaSettings,
    pool: asyncpg.Pool,
    found: Sequence[SelectedDeadLetters],
    left_out: Callable[[DeadLetter, str], object],
) -> int:
    """Replay the dead letters, call `left_out` for each that cannot be sent, and return how many were sent.

    Raises:
        StreamsError: The broker is away, or did not accept one; those sent before have been recorded.
        StoreUnavailableError: Postgres cannot be reached.
    """
    return await resend_dead_letters(kafka, pool, _again(kafka, found), left_out)


async def _again(kafka: KafkaSettings, found: Sequence[SelectedDeadLetters]) -> AsyncIterator[DeadLetter]:
    """The dead letters with their values, read again in turn: they need not fit into memory together."""
    missing = {each.letter.id for each in found}
    first = min(each.letter.id.written_at for each in found)
    async for letter in read_dead_letters(kafka, since=first):
        if letter.id in missing:
            missing.discard(letter.id)
            yield letter
        if not missing:
            return


async def drop_dead_letters(pool: asyncpg.Pool, found: Sequence[SelectedDeadLetters]) -> None:
    """Record dead letters as dropped; the topic keeps them for its retention time.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    await mark_handled(pool, [each.letter.id for each in found], "dropped")


def count_by_reason(found: Sequence[SelectedDeadLetters]) -> str:
    """The number of dead letters by reason, the most frequent first."""
    reasons = Counter(each.letter.reason or "no reason" for each in found)
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
