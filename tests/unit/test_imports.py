"""Nothing happens at import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit


def test_importing_reads_no_setting_and_patches_no_library() -> None:
    """Every module of ours can be imported without a look at the environment, and leaves libraries as they are."""
    script = Path(__file__).with_name("import_everything.py")
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-P", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    found = json.loads(told.stdout)
    assert found["modules"] > 250
    assert (found["reads"], found["patched"]) == ([], [])
