"""Options that commands have in common."""

from pathlib import Path
from typing import Annotated, Final

import typer

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        help="The local stack's data directory, asked for what MESS_DATABASE_URL and MESS_KAFKA_BOOTSTRAP_SERVERS"
        " do not say.",
    ),
]
DEFAULT_DATA_DIR: Final = Path(".mess")
