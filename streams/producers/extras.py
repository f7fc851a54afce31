"""Libraries of the extra `mess-ai[files]`, imported where they are needed."""

import importlib
from types import ModuleType

from streams.producers.items import SourceError


def import_extra(name: str, what: str, extra: str = "files") -> ModuleType:
    """Return a module of an extra.

    Args:
        name: the module.
        what: what it is needed for, such as `Parquet files`.
        extra: the extra that installs it.

    Raises:
        SourceError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".", 1)[0]
        raise SourceError(
            f"{what} need {package}, which is not installed: pip install 'mess-ai[{extra}]'"
        ) from error
