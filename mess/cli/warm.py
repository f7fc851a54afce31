"""`mess warm`: compile ahead of time."""

import time

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(warm)


def warm() -> None:
    """Compile what workers would compile at their start, into NUMBA_CACHE_DIR; for images."""
    from streams.engine import acceleration  # noqa: PLC0415 - `mess --help` must not wait for numba

    began = time.monotonic()
    acceleration.load_kernels()
    typer.echo(f"compiled in {time.monotonic() - began:.0f} s")
