"""The `mess` command."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mess.cli import COMMANDS, build_cli

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_table_has_help_of_its_own(name: str) -> None:
    """Its module registers it under the name that the table gives it."""
    shown = CliRunner().invoke(build_cli(), [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f"mess {name}" in shown.output


def test_help_lists_every_command_and_imports_none() -> None:
    """`mess --help` does not wait for what the commands import."""
    script = (
        "import sys; from mess.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True
    )
    assert all(f"\n  {name} " in shown.stdout for name in COMMANDS)
    assert not {"asyncpg", "aiokafka", "numpy", "pydantic", "fastapi"} & set(shown.stderr.split())


def test_a_mistyped_command_is_met_with_the_nearest() -> None:
    """What there is, is known without importing it."""
    shown = CliRunner().invoke(build_cli(), ["dead-leters"])
    assert shown.exit_code == 2
    assert "Did you mean 'dead-letters'" in shown.output
