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
Of = Annotated[
    str | None,
    typer.Option(
        "--of",
        metavar="SPACE/N",
        help="The generation, such as default/2; the one that serves the space default if not given.",
    ),
]
Space = Annotated[
    str | None, typer.Option(envvar="MESS_SPACE", metavar="NAME", help="The space; `default` if not given.")
]
Generation = Annotated[
    int | None,
    typer.Option(envvar="MESS_GENERATION", min=1, help="The generation of the space; 1 if not given."),
]
