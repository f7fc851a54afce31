"""The Kafka settings of a command."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mess.cli.console import fail

if TYPE_CHECKING:
    from streams.settings import KafkaSettings

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        help="The local stack's data directory, asked when MESS_KAFKA_BOOTSTRAP_SERVERS is not set.",
    ),
]
DEFAULT_DATA_DIR = Path(".mess")
_HINT = "Start the local stack with `mess up`, or set MESS_KAFKA_BOOTSTRAP_SERVERS=host:port."


def kafka_settings(data_dir: Path) -> "KafkaSettings":
    """The settings from the environment, or of the local stack that runs in `data_dir`.

    Exits with one line if neither names a broker, or a setting is wrong.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - `mess --help` must not wait for it

    from streams.settings import KafkaSettings  # noqa: PLC0415

    try:
        if os.environ.get("MESS_KAFKA_BOOTSTRAP_SERVERS"):
            return KafkaSettings()
        return KafkaSettings(bootstrap_servers=_of_local_stack(data_dir))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        setting = (
            "MESS_KAFKA_" + "_".join(str(part) for part in first["loc"]).upper()
            if first["loc"]
            else "MESS_KAFKA_..."
        )
        fail(f"{setting}: {first['msg'].removeprefix('Value error, ')}")


def _of_local_stack(data_dir: Path) -> str:
    path = data_dir / "stack.json"
    try:
        servers = json.loads(path.read_text(encoding="utf-8"))["bootstrap_servers"]
    except FileNotFoundError:
        fail(f"No broker is configured, and no local stack runs in {data_dir}.", hint=_HINT)
    except (OSError, ValueError, KeyError, TypeError):
        fail(f"{path} cannot be read.", hint=_HINT)
    return str(servers)
