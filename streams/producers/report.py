"""The report on a source: joined and unused rows, and unreadable cells."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

_NAMED: Final = 5


class Tally:
    """A count, and the first few that were counted."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.count = 0
        self.first: list[str] = []
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(name)

    def as_dict(self) -> dict[str, Any]:
        """Return count and first names, for a document."""
        return {"count": self.count, "first": self.first}

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        return ", ".join(self.first) + more


@dataclass(slots=True)
class SourceReport:
    """What a source found in its files and tables.

    Attributes:
        notes: How the input was read where it could be read in several ways.
        columns: The table's columns that became fields: column to field.
        extra_columns: Columns that became keys of `extra`.
        rows: Rows of the table of metadata; None without one.
        without_row: Tracks for which the table has no row.
        unused_rows: Rows of the table that no track has.
        duplicates: Rows that claim what another row has claimed before.
        unread: Cells that could not be read and are kept in `extra.raw`, by field.
    """

    notes: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    extra_columns: list[str] = field(default_factory=list)
    rows: int | None = None
    without_row: Tally = field(default_factory=Tally)
    unused_rows: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    unread: dict[str, Tally] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def count_unread(self, track_id: str, fields: Iterable[str]) -> None:
        """Count the cells of a track that could not be read."""
        for name in fields:
            self.unread.setdefault(name, Tally()).add(track_id)

    def lines(self) -> list[str]:
        """Return what a person should know, a line each; nothing where all is well."""
        lines = list(self.notes)
        if self.extra_columns:
            lines.append(
                f"{_many(len(self.extra_columns), 'column')} went to extra: {Tally(self.extra_columns)}"
            )
        for tally, what in (
            (self.without_row, "{} no row in the table"),
            (self.unused_rows, "{} no track"),
            (self.duplicates, "{} what another row claims; the first row counts"),
        ):
            if tally.count:
                noun = "track" if tally is self.without_row else "row"
                verb = "claim" if tally is self.duplicates else "have"
                said = f"{_many(tally.count, noun)} {verb if tally.count > 1 else _singular(verb)}"
                lines.append(f"{what.format(said)}: {tally}")
        unread = Counter({name: tally.count for name, tally in self.unread.items()})
        lines += [
            f"{_many(count, 'cell')} of {name} could not be read and "
            f"{'are' if count > 1 else 'is'} kept in extra.raw: {self.unread[name]}"
            for name, count in unread.most_common()
        ]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for a document."""
        tallies = ("without_row", "unused_rows", "duplicates")
        return {
            "notes": self.notes,
            "rows": self.rows,
            "columns": self.columns,
            "extra_columns": self.extra_columns,
            **{name: getattr(self, name).as_dict() for name in tallies},
            "unread_cells": {name: tally.as_dict() for name, tally in sorted(self.unread.items())},
        }


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def _singular(verb: str) -> str:
    return {"have": "has", "claim": "claims"}[verb]
