"""Reads settings from the environment."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from mess.cli.console import fail

Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(settings: Callable[[], Settings]) -> Settings:
    """A settings class from the environment; missing or wrong settings end the process with one line and status 2."""
    try:
        return settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        prefix = getattr(settings, "model_config", {}).get("env_prefix", "")
        what = "is not set" if first["type"] == "missing" else f"is wrong: {first['msg']}"
        fail(f"{prefix}{name} {what}.", hint=f"Set {prefix}{name} in the environment.", code=2)
