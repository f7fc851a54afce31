"""Reads settings from the environment."""

from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from mess.cli.console import fail

Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(settings: type[Settings], **given: Any) -> Settings:
    """A settings class from the environment; missing or wrong settings end the process with one line and status 2.

    Args:
        settings: The class.
        given: Settings that come from elsewhere.
    """
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"{settings.model_config.get('env_prefix', '')}{'_'.join(map(str, first['loc'])).upper() or '...'}"
        message = first["msg"].removeprefix("Value error, ")
        what = "is not set" if first["type"] == "missing" else f"is wrong: {message}"
        fail(f"{name} {what}.", hint=f"Set {name} in the environment.")
