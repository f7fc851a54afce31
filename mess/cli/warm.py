"""`mess warm`: compile ahead of time."""

import time

import typer

from mess.cli.console import fail


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(warm)


def warm() -> None:
    """Compile what workers would compile at their start, into NUMBA_CACHE_DIR; for images."""
    from mess import warm as warming  # noqa: PLC0415 - `mess --help` must not wait for numba

    began = time.monotonic()
    try:
        warming.warm_caches()
    except warming.WarmingError as error:
        fail(str(error), code=1)
    typer.echo(f"compiled in {time.monotonic() - began:.0f} s")
