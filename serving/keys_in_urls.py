"""Keys that callers put into URLs, where they end up in logs: told, so as to be refused, and never logged."""

import re
from typing import Final
from urllib.parse import unquote_plus

# What callers elsewhere call a parameter that holds a key. None of them is a parameter of ours.
_NAME: Final = re.compile(
    r"(?:x-?)?(?:api[-_.]?)?key|(?:access|api|auth|bearer|id)?[-_]?token|auth(?:orization)?|password|secret",
    re.IGNORECASE,
)
# Our own, or most of one; `store.keys` makes them.
_KEY: Final = re.compile(r"mess_[0-9a-f]{8}_[0-9a-f]{8,64}", re.IGNORECASE)
_HIDDEN: Final = "[a key, not logged]"


def holds_key(query: str) -> bool:
    """Whether a query string, as it came, holds a key: by the name of a parameter, or by what it looks like."""
    if not query:
        return False
    if _KEY.search(unquote_plus(query)):
        return True
    names = (unquote_plus(pair.partition("=")[0]) for pair in re.split("[&;]", query))
    return any(_NAME.fullmatch(name.strip()) for name in names)


def loggable(text: str) -> str:
    """A path or query string, as it came, as it may be logged: one that holds a key is not told at all."""
    return _HIDDEN if holds_key(text) else text
