"""Weights of networks, downloaded as packages of the index that pip uses, and kept in the cache."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from mess.stack.jars import cache_root
from streams.producers.audio.checkpoint import CheckpointError, float_tensors
from streams.producers.audio.musicnn import TENSORS

# The wheel whose weights are wanted; its code is not.
PACKAGE: Final = "musicnn==0.1.0"
SHA256: Final = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
_FOLDER: Final = "musicnn/MSD_musicnn"
_DATA: Final = ".data-00000-of-00001"
_LICENCE: Final = "musicnn-0.1.0.dist-info/LICENSE.md"
_TIMEOUT_SECONDS: Final = 600


class ModelUnavailableError(Exception):
    """The weights cannot be had; the message is for a person."""


def weights_path() -> Path:
    """Where the weights are kept once they have been fetched."""
    return cache_root() / "models" / "musicnn-0.1.0" / "msd.npz"


def fetch_weights(wheel: Path | None = None) -> Path:
    """Fetch the weights that are not here yet; returns where they are.

    Args:
        wheel: The package, where it has been downloaded already; None: pip downloads it from the index it is told to use.

    Raises:
        ModelUnavailableError: it cannot be downloaded, is another file, or nothing can be written.
    """
    kept = weights_path()
    if kept.is_file():
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetching-") as scratch:
            _unpack(wheel or _download(Path(scratch)), Path(scratch), kept)
    except OSError as error:
        raise ModelUnavailableError(
            f"{error.filename or kept} cannot be used: {error.strerror or error}"
        ) from error
    return kept


def _download(folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    try:
        done = subprocess.run(  # noqa: S603 -- this interpreter's own pip
            [*command, "--only-binary=:all:", "--require-hashes", "-r", str(wanted), "-d", str(folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ModelUnavailableError(f"pip did not download {PACKAGE} within {_TIMEOUT_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it failed"]
        raise ModelUnavailableError(f"pip cannot download {PACKAGE}: {lines[-1].removeprefix('ERROR: ')}")
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, scratch: Path, kept: Path) -> None:
    content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ModelUnavailableError(
            f"{wheel} is not the wheel of {PACKAGE} that is known here: its hash differs"
        )
    try:
        with zipfile.ZipFile(wheel) as files:
            tensors = float_tensors(files.read(f"{_FOLDER}/.index"), files.read(f"{_FOLDER}/{_DATA}"))
            licence = files.read(_LICENCE)
        part = scratch / "weights.npz"
        wanted: dict[str, Any] = {name: tensors[name] for name in TENSORS}
        np.savez(part, **wanted)
    except (zipfile.BadZipFile, CheckpointError, KeyError) as error:
        raise ModelUnavailableError(f"{wheel} does not hold the weights: {error}") from error
    (kept.parent / "LICENSE.md").write_bytes(licence)
    # It gets its name in one step, when it is complete: if it is there, it can be trusted.
    os.replace(part, kept)  # noqa: PTH105
