"""The terminals of docs/first-steps.md: each section's commands, run in a folder of its files on a stack of its own.

`python -m tests.e2e.transcripts` writes what they print into the page. Ports, times and the cache's folder differ from run to
run and stand as they do in the page.
"""

import asyncio
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
import soundfile

from mess.models import weights_path
from tests.e2e.stack import REPOSITORY, Clone, ClonedStack
from tests.support.worker import settle
from tests.unit.producers.audio.clips import RATE, clips

PAGE = REPOSITORY / "docs" / "first-steps.md"
URL = "http://127.0.0.1:8000"
WEIGHTS = "/home/you/.cache/mess-ai/models/musicnn-0.1.0/msd.npz"
_SECTION = re.compile(r"^## .*$", re.MULTILINE)
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*(?:\n> .*)*)$", re.MULTILINE)
_SECONDS = re.compile(r" in [\d.,]+ s$", re.MULTILINE)


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
        """Run its commands in a folder of its files beside a clone; returns the text with what they print."""
        clone = Clone.make(scratch / "mess-ai")
        folder = scratch / "work"
        folder.mkdir()
        FILES[self.heading](folder)
        (folder / "mine").symlink_to(clone.directory / ".mess")
        mess = scratch / "bin" / "mess"
        mess.parent.mkdir()
        mess.write_text(f'#!/bin/sh\nexec {sys.executable} -m mess "$@"\n')
        mess.chmod(0o755)
        environment = clone.environment | {"NO_PROXY": "127.0.0.1"}
        environment["PATH"] = f"{mess.parent}:{Path(sys.executable).parent}:{environment['PATH']}"

        with clone.up("--no-demo", "--port=0") as up:

            def ran(block: re.Match[str]) -> str:
                printed = [_run(each, folder, environment, up) for each in _COMMAND.findall(block[1])]
                return "```console\n" + "".join(printed) + "```"

            return _BLOCK.sub(ran, self.text)


def _run(command: str, folder: Path, environment: dict[str, str], up: ClonedStack) -> str:
    typed = command.replace("\n> ", "\n").replace(URL, up.url)
    done = subprocess.run(
        ["bash", "-c", typed],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    assert "Traceback" not in done.stdout, done.stdout
    if "--data-dir mine" in command:
        # What is published is in the lists within a second; a busy machine needs longer.
        asyncio.run(settle(up.database_url, up.bootstrap_servers))
    printed = done.stdout.replace(up.url, URL).replace(str(weights_path()), WEIGHTS)
    return f"$ {command}\n{printed}" + ("\n" if printed and not printed.endswith("\n") else "")


def sections() -> Iterator[Section]:
    """The page's sections whose commands are run."""
    page = PAGE.read_text(encoding="utf-8")
    marks = [*_SECTION.finditer(page)]
    ends = [*(mark.start() for mark in marks[1:]), len(page)]
    for mark, end in zip(marks, ends, strict=True):
        if mark[0] in FILES:
            yield Section(mark[0], page[mark.start() : end])


def comparable(text: str) -> str:
    """A text without what differs from run to run."""
    return _SECONDS.sub(" in 0.1 s", text)


def main() -> None:
    """Write the page's outputs anew, where they are others."""
    page = PAGE.read_text(encoding="utf-8")
    for section in sections():
        with tempfile.TemporaryDirectory() as scratch:
            made = section.run(Path(scratch))
        if comparable(made) != comparable(section.text):
            page = page.replace(section.text, made)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
