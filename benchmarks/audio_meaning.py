"""How much the embedding of recordings means: works found again in another sound font, dance types across books.

Run as `python -m benchmarks.audio_meaning A.sf2 B.sf2`, with two General MIDI sound fonts (Debian has `timgm6mb-soundfont` and
`fluid-soundfont-gm`). Needs music21 (`make up` installs it), the weights (`mess models fetch`), and tinysoundfont, without what
that needs to play: `pip install --no-deps tinysoundfont`. Each work's first ten seconds are rendered by a piano of each
font and embedded. A few minutes for 600 works.
"""

import importlib
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from mess.demo.catalogue import DemoCatalogue, DemoTrack, load_demo_catalogue
from mess.incipits.corpus import Corpus
from mess.models import weights_path
from streams.producers.audio.embedding import MusicnnEmbedder
from streams.producers.audio.mel import RATE
from tools.demo_catalogue.quality import collection, dance, nearest_rows

# Quarter lengths that hold ten seconds at any tempo; what a note sounds on after its end, in seconds.
_QUARTERS: Final = 60.0
_TAIL: Final = 0.5
_VELOCITY: Final = 96
Vectors = npt.NDArray[np.float32]


def main(
    fonts: Annotated[list[Path], typer.Argument(metavar="A.sf2 B.sf2", help="Two sound fonts.")],
    works: Annotated[int, typer.Option(help="Dance tunes, and half as many other works.")] = 400,
    program: Annotated[int, typer.Option(min=0, max=127, help="General MIDI's instrument.")] = 0,
) -> None:
    """Print the figures beside chance and beside the symbolic embedding of the same works."""
    catalogue = load_demo_catalogue()
    chosen = _chosen(catalogue, works)
    corpus = Corpus()
    scores = {
        row: corpus.incipit(catalogue.tracks[row].track_id, _QUARTERS)
        for row in progress(chosen, "reading scores", transient=True)
    }
    network = MusicnnEmbedder(weights_path())
    one, other = (
        _unit(
            np.stack(
                [
                    network.embed([sound])
                    for sound in progress(
                        _rendered(font, list(scores.values()), program),
                        font.name,
                        total=len(scores),
                        transient=True,
                    )
                ]
            )
        )
        for font in fonts[:2]
    )
    tracks = [catalogue.tracks[row] for row in scores]
    _print_found_again(fonts, one, other)
    _print_dances(
        tracks, {fonts[0].stem: one, fonts[1].stem: other, "symbolic": catalogue.embeddings[list(scores)]}
    )


def _chosen(catalogue: DemoCatalogue, works: int) -> list[int]:
    """Rows of dance tunes and of others, drawn by a fixed seed."""
    draw = np.random.default_rng(0)
    dances = [row for row, each in enumerate(catalogue.tracks) if dance(each) is not None]
    others = [row for row, each in enumerate(catalogue.tracks) if dance(each) is None]
    picked = [*draw.choice(dances, min(works, len(dances)), replace=False)]
    return sorted(map(int, [*picked, *draw.choice(others, works // 2, replace=False)]))


def _rendered(font: Path, scores: list[list[list[int]]], program: int) -> Any:
    """The sound of each score, float32, one channel at the network's rate."""
    tinysoundfont = importlib.import_module("tinysoundfont")
    synthesizer = tinysoundfont.Synth(samplerate=RATE)
    synthesizer.program_select(0, synthesizer.sfload(str(font)), 0, program)
    for parts in scores:
        synthesizer.sounds_off(0)
        yield _played(synthesizer, parts)


def _played(synthesizer: Any, parts: list[list[int]]) -> Vectors:
    notes = [part[at : at + 3] for part in parts for at in range(0, len(part), 3)]
    events = sorted(
        [(onset + length, 0, pitch) for onset, length, pitch in notes]
        + [(onset, 1, pitch) for onset, _, pitch in notes]
    )
    heard, now = [], 0
    for milliseconds, begins, pitch in events:
        at = milliseconds * RATE // 1000
        if at > now:
            heard.append(_next(synthesizer, at - now))
            now = at
        if begins:
            synthesizer.noteon(0, pitch, _VELOCITY)
        else:
            synthesizer.noteoff(0, pitch)
    heard.append(_next(synthesizer, int(_TAIL * RATE)))
    return np.concatenate(heard)


def _next(synthesizer: Any, samples: int) -> Vectors:
    stereo = np.frombuffer(bytes(synthesizer.generate(samples)), dtype=np.float32)
    mean: Vectors = stereo.reshape(-1, 2).mean(axis=1)
    return mean


def _unit(vectors: Vectors) -> Vectors:
    normed: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normed


def _print_found_again(fonts: list[Path], one: Vectors, other: Vectors) -> None:
    table = Table(title=f"A work's other rendering, of {len(one):,} works")
    table.add_column("asked, among")
    for heading in ("nearest", "in the ten nearest", "nearest by chance"):
        table.add_column(heading, justify="right")
    similar = one @ other.T
    for name, matrix in (
        (f"{fonts[0].stem}, renderings by {fonts[1].stem}", similar),
        (f"{fonts[1].stem}, renderings by {fonts[0].stem}", similar.T),
        ("the first, with each font's mean taken out", _centred(one) @ _centred(other).T),
        (f"{fonts[0].stem}, all others of both", np.hstack([similar, _others(one)])),
    ):
        better = (matrix > np.diag(matrix)[:, None]).sum(axis=1)
        table.add_row(
            name, f"{(better == 0).mean():.2f}", f"{(better < 10).mean():.2f}", f"{1 / matrix.shape[1]:.4f}"
        )
    Console().print(table)


def _centred(vectors: Vectors) -> Vectors:
    return _unit(vectors - vectors.mean(axis=0))


def _others(vectors: Vectors) -> Vectors:
    matrix = vectors @ vectors.T
    np.fill_diagonal(matrix, -np.inf)
    return matrix


def _print_dances(tracks: list[DemoTrack], embeddings: dict[str, Vectors]) -> None:
    labels = np.array([dance(each) or "" for each in tracks])
    books = np.unique([str(collection(each)) for each in tracks], return_inverse=True)[1]
    asked = np.flatnonzero(labels != "")
    table = Table(
        title=f"Dance type of the ten nearest among dance tunes of other books, of {len(asked):,} tunes"
    )
    for heading in ("embedding", "share", "by chance"):
        table.add_column(heading, justify="left" if heading == "embedding" else "right")
    chance = np.mean(
        [
            (labels[asked[books[asked] != books[row]]] == labels[row]).mean()
            for row in asked
            if (books[asked] != books[row]).any()
        ]
    )
    for name, vectors in embeddings.items():
        nearest = nearest_rows(np.ascontiguousarray(vectors), asked, asked, books)
        table.add_row(name, f"{(labels[nearest] == labels[asked][:, None]).mean():.2f}", f"{chance:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
