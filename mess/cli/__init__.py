"""The `mess` command. Each module here registers its commands, which import heavy modules when they are called."""

import importlib

import typer

COMMAND_MODULES = (
    "up",
    "status",
    "publish",
    "tail",
    "asyncapi",
    "services",
    "database",
    "audit",
    "export",
    "evaluate",
    "topics",
    "demo",
    "warm",
    "dead_letters",
    "keys",
    "models",
    "roles",
    "check_env",
)


def build_cli() -> typer.Typer:
    """The command-line application."""
    app = typer.Typer(
        name="mess",
        help="Neighbour lists for music that stay right: run the pipeline, publish tracks, look inside.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMAND_MODULES:
        importlib.import_module(f"mess.cli.{name}").register(app)
    return app


def main() -> None:
    """Entry point of the `mess` command."""
    build_cli()()
