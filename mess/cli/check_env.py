"""`mess check-env`: checks settings, secrets and services."""

from typing import Annotated, NoReturn

import typer

from mess.cli.console import CANNOT_RUN, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(check_env)


def check_env(
    production: Annotated[
        bool, typer.Option("--production", help="Check secrets as MESS_PRODUCTION=true does.")
    ] = False,
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask Postgres and the broker, too: schema, clock, topics.")
    ] = False,
    api: Annotated[
        bool, typer.Option("--api", help="MESS_DATABASE_URL is the API's, which only reads.")
    ] = False,
) -> None:
    """List everything in the environment that is missing or wrong; exits with 2 if anything is."""
    import asyncio  # noqa: PLC0415 - `mess --help` must not wait for any of this

    from mess import environment  # noqa: PLC0415

    quiet_libraries()
    lines = environment.settings_problems()
    if production or environment.in_production():
        lines = list(dict.fromkeys(lines + environment.secret_problems()))
    if connect and not lines:
        lines = asyncio.run(environment.service_problems(api=api))
    if lines:
        _refuse(lines)
    typer.echo("The environment is fit to run in.")


def refuse_unfit() -> None:
    """In production, exit if secrets are missing or guessable, with a list of them."""
    from mess import environment  # noqa: PLC0415 - `mess --help` must not wait for it

    if environment.in_production() and (
        lines := list(dict.fromkeys(environment.settings_problems() + environment.secret_problems()))
    ):
        _refuse(lines)


def _refuse(lines: list[str]) -> NoReturn:
    typer.echo("mess: this environment is not fit to run in. To be set:", err=True)
    for line in lines:
        typer.echo(f"  {' '.join(line.split())}", err=True)
    raise typer.Exit(CANNOT_RUN)
