"""The `mess` command. A command's module is imported when the command is called, so that none waits for the others."""

import importlib
from typing import Any, Final

import typer
from typer.core import TyperGroup

from mess.collecting import collect_rarely

# Of each command its module here, and what `mess --help` says of it.
COMMANDS: Final = {
    "up": ("up", "Run Postgres, a broker, workers and the API here, until Ctrl-C."),
    "status": ("status", "Show the local stack: processes, lists, lag, health."),
    "publish": ("publish", "Publish tracks, from files or recordings."),
    "delete": ("publish", "Withdraw tracks."),
    "tail": ("tail", "Show the messages of a topic as they come."),
    "asyncapi": ("asyncapi", "Write the AsyncAPI document of the topics."),
    "worker": ("services", "Run one worker."),
    "api": ("services", "Run one API process."),
    "migrate": ("database", "Bring the database to this version's schema."),
    "audit": ("audit", "Compare the stored lists with brute force."),
    "export": ("export", "Export lists, tracks or popularity as a file."),
    "evaluate": ("evaluate", "Measure the quality of every strategy."),
    "demo": ("demo", "Publish the demo catalogue."),
    "warm": ("warm", "Compile ahead of time, for images."),
    "check-env": ("check_env", "Say what is missing or wrong in the environment."),
    "topics": ("topics", "Make, check, dump and load topics."),
    "spaces": ("spaces", "Fill and compare generations: another model's vectors."),
    "dead-letters": ("dead_letters", "Look at what was refused, send it back, or drop it."),
    "keys": ("keys", "Make, list and revoke the keys of the API's callers."),
    "models": ("models", "Fetch the network that embeds recordings."),
    "roles": ("roles", "Grant the API's database role its reads, and check it."),
}


class _LazyCommands(TyperGroup):
    """The commands by name; None while nobody has called one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: dict[str, Any] = dict.fromkeys(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands and self.commands[cmd_name] is None:
            app = _new_app()
            importlib.import_module(f"{__name__}.{COMMANDS[cmd_name][0]}").register(app)
            self.commands |= typer.main.get_group(app).commands
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])


def _new_app(**options: Any) -> typer.Typer:
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, **options)


def build_cli() -> typer.Typer:
    """The command-line application."""
    app = _new_app(
        name="mess",
        cls=_LazyCommands,
        help="Neighbour lists for music that stay right: run the pipeline, publish tracks, look inside.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)
    return app


def main() -> None:
    """Entry point of the `mess` command."""
    collect_rarely()
    build_cli()()
