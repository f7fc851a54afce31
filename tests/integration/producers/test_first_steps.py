"""The terminals of docs/first-steps.md: each section's commands are run in a folder of its files, and print what it shows.

`python -m tests.integration.producers.test_first_steps` writes the outputs anew. Nothing is sent, so that no broker is needed.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import mutagen
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from mess.models import ModelUnavailableError, fetch_weights, weights_path
from tests.unit.producers.audio.clips import RATE, clips

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "first-steps.md"
WEIGHTS = "/home/you/.cache/mess-ai/models/musicnn-0.1.0/msd.npz"
_SECTION = re.compile(r"^## .*$", re.MULTILINE)
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)$", re.MULTILINE)


def _vector(kind: int, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A vector near one of the axes, repeated over the axes before it."""
    vector = np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)
    vector[..., kind] += 1
    return vector


def _embeddings(folder: Path) -> None:
    """A folder of features as an FMA project has it: a file a track, its ids with leading zeros, one damaged, one without a row."""
    (folder / "features").mkdir()
    for number, kind in ((2, 0), (5, 0), (10, 1), (140, 1), (141, 0), (999, 1)):
        np.save(folder / "features" / f"{number:06d}.npy", _vector(kind, number, (13, 768)))
    (folder / "features" / "000148.npy").write_bytes(b"\x93NUMPY")
    rows = [
        ",album,album,artist,set,track,track,track,track",
        ",comments,title,name,split,duration,genre_top,title,tags",
        "track_id,,,,,,,,",
        "2,0,First Album,Anna,training,168,Jazz,Opening,\"['quiet', 'piano, solo']\"",
        "5,0,First Album,Anna,training,206,Jazz,Second,[]",
        "10,3,Other Album,Bert,training,161,Rock,Freeway,[]",
        "140,1,Other Album,Bert,training,253,Rock,Queen,['loud']",
        "141,1,Third Album,Carla,training,soon,Jazz,Rain,[]",
        "148,0,Third Album,Carla,validation,138,Jazz,Blackout,[]",
    ]
    (folder / "tracks.csv").write_text("\n".join(rows) + "\n")


def _table(folder: Path) -> None:
    """A warehouse's table: its own column names, several artists in a cell, milliseconds, a row without a vector, one twice."""
    ids = [f"sku-{number}" for number in (1, 2, 3, 4, 5, 5)]
    vectors = [_vector(number % 2, number, (8,)).tolist() for number in range(6)]
    pq.write_table(
        pa.table(
            {
                "sku": ids,
                "clap_v2": [*vectors[:3], None, *vectors[4:]],
                "track_name": ["Song", "Tune", "Air", "Reel", "Jig", "Jig"],
                "artists": ["Anna", "Bert;Carla", "Anna", "Dora", "Bert", "Bert"],
                "duration_ms": [230_666, 149_610, 61_000, 99_000, 120_000, 120_000],
                "released": ["2011-08-11", "c. 1960", "soon", "1999-00-00", None, None],
                "explicit": [False, True, False, False, False, False],
            }
        ),
        folder / "catalogue.parquet",
    )


def _recordings(folder: Path) -> None:
    """A music folder: tags in some files, a cover, a recording that was stopped at once."""
    tune, beat = clips()["tune"], clips()["beat"]
    files = {
        "Anna/Live/01 Opening.flac": (tune, {"title": "Opening", "artist": "Anna"}),
        "Anna/Live/02 Encore.mp3": (tune[: 5 * RATE], {"title": "Encore", "artist": "Anna"}),
        "Bert/Drums.ogg": (beat, {"title": "Drums", "artist": "Bert", "genre": "Percussion"}),
        "Bert/take 3.wav": (beat[3 * RATE :], {}),
    }
    for name, (samples, tags) in files.items():
        path = folder / "Music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, RATE)
        if tags:
            file = mutagen.File(path, easy=True)
            assert file is not None
            if file.tags is None:
                file.add_tags()
            file.update(tags)
            file.save()
    (folder / "Music" / "Anna" / "Live" / "cover.jpg").write_bytes(b"\xff\xd8")
    soundfile.write(folder / "Music" / "Bert" / "take 4.wav", beat[:0], RATE)


FILES: dict[str, Callable[[Path], None]] = {
    "## A folder of embeddings": _embeddings,
    "## A table": _table,
    "## A folder of recordings": _recordings,
}


class Section(NamedTuple):
    """A part of the page with the commands of one newcomer."""

    heading: str
    text: str

    def run(self, scratch: Path) -> str:
        """Run its commands in a folder of its files; returns the text with what they print."""
        folder = scratch / "work"
        folder.mkdir()
        FILES[self.heading](folder)
        mess = scratch / "bin" / "mess"
        mess.parent.mkdir()
        mess.write_text(f'#!/bin/sh\nexec {sys.executable} -m mess "$@"\n')
        mess.chmod(0o755)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MESS_") or "CACHE" in name
        }
        environment |= {
            "PATH": f"{mess.parent}:{Path(sys.executable).parent}:{environment['PATH']}",
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'client'}",
        }

        def ran(block: re.Match[str]) -> str:
            return (
                "```console\n"
                + "".join(_run(each, folder, environment) for each in _COMMAND.findall(block[1]))
                + "```"
            )

        return _BLOCK.sub(ran, self.text)


def _run(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return f"$ {command}\n" + done.stdout.replace(str(weights_path()), WEIGHTS)


def sections() -> Iterator[Section]:
    """The page's sections whose commands are run."""
    page = PAGE.read_text(encoding="utf-8")
    marks = [*_SECTION.finditer(page)]
    ends = [*(mark.start() for mark in marks[1:]), len(page)]
    for mark, end in zip(marks, ends, strict=True):
        if mark[0] in FILES:
            yield Section(mark[0], page[mark.start() : end])


SECTIONS = [*sections()]


def test_every_newcomer_has_a_section() -> None:
    """The page has not lost one."""
    assert [section.heading for section in SECTIONS] == [*FILES]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading.removeprefix("## "))
def test_a_terminal_shows_what_its_commands_print(section: Section, tmp_path: Path) -> None:
    """Line for line."""
    if "recordings" in section.heading:
        try:
            fetch_weights()
        except ModelUnavailableError as error:
            if os.environ.get("CI", "").lower() in ("1", "true"):
                raise
            pytest.skip(str(error))
    assert section.run(tmp_path) == section.text


def main() -> None:
    """Write the page's outputs anew."""
    page = PAGE.read_text(encoding="utf-8")
    for section in SECTIONS:
        with tempfile.TemporaryDirectory() as scratch:
            page = page.replace(section.text, section.run(Path(scratch)))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
