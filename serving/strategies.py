"""The strategies by name, for an API that nobody has told more about them."""

from typing import Any, Final

from streams.contracts.strategy_names import DEFAULT_STRATEGY, STRATEGY_ALIASES, STRATEGY_MODES

DEFAULT: Final = DEFAULT_STRATEGY


def _named(name: str, modes: tuple[str, ...]) -> dict[str, Any]:
    nothing = {"description": "", "formula": "", "source": ""}
    return {
        "name": name,
        **nothing,
        "aliases": [
            {"name": alias, **({"mode": mode} if mode else {})}
            for alias, (meant, mode) in STRATEGY_ALIASES.items()
            if meant == name
        ],
        "default_mode": modes[0] if modes else None,
        "modes": [{"name": mode, **nothing} for mode in modes],
        "parameters": [],
    }


# As `streams.strategies.describe()` has it, without what only the strategies know of themselves.
NAMED: Final = tuple(_named(name, modes) for name, modes in STRATEGY_MODES.items())
