"""The store's settings of a command."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mess.cli.console import fail

if TYPE_CHECKING:
    from store.settings import StoreSettings

HINT = "Start the local stack with `mess up`, or set MESS_DATABASE_URL=postgresql://user:password@host:5432/name."


def store_settings(data_dir: Path) -> "StoreSettings":
    """The settings from the environment, or of the local stack that runs in `data_dir`.

    Exits with one line if neither names a database, or a setting is wrong.
    """
    from pydantic import SecretStr  # noqa: PLC0415 - `mess --help` must not wait for any of this

    from mess import settings  # noqa: PLC0415
    from mess.stack.errors import StackError  # noqa: PLC0415
    from mess.stack.statefile import read_state  # noqa: PLC0415
    from store.settings import StoreSettings  # noqa: PLC0415

    if os.environ.get("MESS_DATABASE_URL"):
        return settings.read_settings(StoreSettings)
    try:
        state = read_state(data_dir)
    except StackError as error:
        fail(str(error), hint=HINT)
    if state is None:
        fail(f"No database is configured, and no local stack runs in {data_dir}.", hint=HINT)
    return StoreSettings(database_url=SecretStr(state.database_url))
