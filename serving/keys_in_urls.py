"""Detects keys in URLs, so that such requests are refused and never logged."""

import re
from typing import Final
from urllib.parse import unquote_plus

# Usual names of a parameter with a key. This API has no parameter of these names.
_NAME: Final = re.compile(
    r"(?:x-?)?(?:api[-_.]?)?key|(?:access|api|auth|bearer|id)?[-_]?token|auth(?:orization)?|password|secret",
    re.IGNORECASE,
)
# A key of `store.keys`, or most of one.
_KEY: Final = re.compile(r"mess_[0-9a-f]{8}_[0-9a-f]{8,64}", re.IGNORECASE)
_HIDDEN: Final = "[a key, not logged]"


def holds_key(query: str) -> bool:
    """Whether a raw query string holds a key: by the name of a parameter, or by the form of a value."""
    if not query:
        return False
    if _KEY.search(unquote_plus(query)):
        return True
    names = (unquote_plus(pair.partition("=")[0]) for pair in re.split("[&;]", query))
    return any(_NAME.fullmatch(name.strip()) for name in names)


def redact_keys(text: str) -> str:
    """A raw path or query string for the log; one that holds a key is replaced as a whole."""
    return _HIDDEN if holds_key(text) else text
