"""Metadata of tracks by row, dictionary-encoded by column.

Each distinct value is stored once, and a track has its number. This module does not interpret values.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.engine.catalogue import enlarge_rows

Codes = npt.NDArray[np.int32]
# One value for each field, in the order of the fields; all can be dictionary keys.
MetadataRow = tuple[Hashable, ...]

NO_VALUE: Final = -1
# Unused values are removed when they may outnumber those in use, and exceed this number.
_GIVEN_UP: Final = 4_096


class EncodedColumn:
    """One field of all rows.

    Attributes:
        codes: int32 (capacity,), the number of each row's value; `NO_VALUE` where there is none.
        values: The values by number; grows at its end until `generation` changes.
        generation: Another one, other numbers.
    """

    def __init__(self) -> None:
        self.codes: Codes = np.full(0, NO_VALUE, dtype=np.int32)
        self.values: list[Any] = []
        self.generation = 0
        self._numbers: dict[tuple[type, Hashable], int] = {}

    def number_of(self, value: Hashable) -> int:
        """The number of a value, a new one if need be; `NO_VALUE` for None."""
        if value is None:
            return NO_VALUE
        # True, 1 and 1.0 are equal, and not the same.
        key = (type(value), value)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.values)
            self.values.append(value)
        return number

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        if rows > len(self.codes):
            self.codes = enlarge_rows(self.codes, rows, NO_VALUE)

    def value(self, row: int) -> Any:
        """A row's value, None where there is none."""
        code = self.codes[row]
        return None if code < 0 else self.values[code]

    def give_up_unused(self, used: npt.NDArray[np.intp]) -> None:
        """Renumber the values of the rows `used`, intp (m,), and remove all others."""
        found, codes = np.unique(self.codes[used], return_inverse=True)
        values = [self.values[code] for code in found[found >= 0].tolist()]
        without = int(np.count_nonzero(found < 0))  # at most one, and the lowest
        self.codes[:] = NO_VALUE
        self.codes[used] = codes - without
        self.values = values
        self._numbers = {(type(value), value): number for number, value in enumerate(values)}
        self.generation += 1


class RowMetadata(Mapping[str, Any]):
    """The fields of one row, each looked up when it is asked for: of most rows few are."""

    def __init__(self, columns: Mapping[str, EncodedColumn], row: int) -> None:
        self._columns = columns
        self._row = row

    def __getitem__(self, field: str) -> Any:
        return self._columns[field].value(self._row)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class MetadataColumns:
    """All fields of all rows.

    Args:
        fields: Their names, in the order in which rows have their values.
    """

    def __init__(self, fields: Sequence[str] = ()) -> None:
        self.fields = tuple(fields)
        self.columns = {name: EncodedColumn() for name in self.fields}

    def __getitem__(self, field: str) -> EncodedColumn:
        return self.columns[field]

    def put(self, rows: npt.NDArray[np.integer], values: Sequence[MetadataRow] | None) -> None:
        """Give rows their values; None where nothing is known of any.

        Raises:
            ValueError: Not as many values as there are fields, or rows.
        """
        if values is None:
            for column in self.columns.values():
                column.codes[rows] = NO_VALUE
            return
        if len(values) != len(rows) or any(len(one) != len(self.fields) for one in values):
            raise ValueError(f"{len(rows)} rows of {len(self.fields)} fields are wanted")
        for place, column in enumerate(self.columns.values()):
            column.codes[rows] = [column.number_of(one[place]) for one in values]

    def codes_of(self, rows: npt.NDArray[np.integer]) -> Codes:
        """The numbers of some rows' values, int32 (fields, m)."""
        codes = [column.codes[rows] for column in self.columns.values()]
        return np.array(codes, dtype=np.int32).reshape(len(self.fields), len(rows))

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        for column in self.columns.values():
            column.reserve(rows)

    def reorder(self, rows: npt.NDArray[np.integer], capacity: int) -> None:
        """Let what was row `rows[i]` be row i, with room for `capacity`."""
        for column in self.columns.values():
            column.codes = enlarge_rows(column.codes[rows], capacity, NO_VALUE)

    def give_up_unused(self, alive: npt.NDArray[np.bool_]) -> None:
        """Renumber columns with mostly unused values; `alive`, bool (used,), says which rows hold a track."""
        crowded = [
            one for one in self.columns.values() if len(one.values) > 2 * np.count_nonzero(alive) + _GIVEN_UP
        ]
        for column in crowded:
            column.give_up_unused(np.flatnonzero(alive))

    def row(self, row: int) -> "RowMetadata":
        """All that is known of a row, None where nothing is: good until the row changes."""
        return RowMetadata(self.columns, row)

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the numbers; values are not counted."""
        return sum(column.codes.nbytes for column in self.columns.values())
