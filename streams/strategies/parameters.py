"""The parameters of strategies: types, bounds, defaults."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streams.strategies.errors import InvalidQuery

Value = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A setting of a strategy.

    Attributes:
        name: Its name in requests.
        kind: Its type.
        default: Its default.
        description: Its effect.
        minimum: Smallest value, inclusive, for numbers and integers.
        maximum: Largest value, inclusive.
        modes: The modes that use it; empty for all of them.
    """

    name: str
    kind: Literal["number", "integer", "boolean"]
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    modes: tuple[str, ...] = ()

    def read(self, given: Any) -> Value:
        """`given` as the parameter's type; text, from a URL, is parsed.

        Raises:
            InvalidQuery: not of its type, or out of bounds.
        """
        if self.kind == "boolean":
            return self._boolean(given)
        value = self._number(given)
        if self.kind == "integer":
            if value != int(value):
                raise InvalidQuery(self.name, "must be a whole number")
            value = int(value)
        if (self.minimum is not None and value < self.minimum) or (
            self.maximum is not None and value > self.maximum
        ):
            raise InvalidQuery(self.name, f"must be between {self.minimum:.15g} and {self.maximum:.15g}")
        return value

    def _boolean(self, given: Any) -> bool:
        if isinstance(given, bool):
            return given
        text = str(given).strip().casefold()
        if text not in ("true", "false", "1", "0"):
            raise InvalidQuery(self.name, "must be true or false")
        return text in ("true", "1")

    def _number(self, given: Any) -> float:
        try:
            value = math.nan if isinstance(given, bool) else float(given)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise InvalidQuery(self.name, "must be a number")
        return value

    def describe(self) -> dict[str, Any]:
        """The parameter as JSON has it."""
        bounds = {} if self.minimum is None else {"minimum": self.minimum, "maximum": self.maximum}
        modes = {"modes": list(self.modes)} if self.modes else {}
        return {
            "name": self.name,
            "type": self.kind,
            "default": self.default,
            **bounds,
            **modes,
            "description": self.description,
        }


def share_parameter(name: str, default: float, description: str, *modes: str) -> Parameter:
    """A number from 0 to 1."""
    return Parameter(name, "number", default, description, 0, 1, modes)


def pool_parameter(default: int) -> Parameter:
    """How many of the most similar tracks are re-ranked."""
    text = "how many of the most similar tracks that may be listed are re-ranked; others follow when these run out"
    return Parameter("pool", "integer", default, text, 10, 5000)


def resolve_settings(whose: str, known: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Value]:
    """Every known parameter with its value, given or default; an error names `whose` parameters they are.

    Raises:
        InvalidQuery: an unknown name or an invalid value.
    """
    names = {parameter.name for parameter in known}
    for name in given:
        if name not in names:
            has = f"its parameters are {', '.join(sorted(names))}" if names else "it has none"
            raise InvalidQuery(str(name), f"is not a parameter of {whose}: {has}")
    return {
        parameter.name: parameter.read(given[parameter.name])
        if parameter.name in given
        else parameter.default
        for parameter in known
    }
