"""Chooses the block weights: coordinate search on one half of the works, reported on the other.

Run as `python -m tools.demo_catalogue.tune --cache DIR` after a build with the same cache. It only prints the
weights; `embedding.WEIGHTS` is where they are kept.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from mess.demo import catalogue
from tools.demo_catalogue import quality
from tools.demo_catalogue.embedding import WEIGHTS, column_weights, standardise
from tools.demo_catalogue.features import BLOCKS
from tools.demo_catalogue.notes import Floats

# A coarse grid, and few passes: the aim is to damp blocks that mislead, not to fit the labels.
GRID = (0.5, 0.75, 1.0, 1.5)
PASSES = 2
SAMPLE = 1200
QUESTIONS = (quality.QUESTIONS[0], quality.QUESTIONS[2], quality.QUESTIONS[3], quality.QUESTIONS[5])


def halves(track_ids: list[str]) -> NDArray[np.bool_]:
    """Return which works belong to the tuning half, by a hash of the id: the same at every run."""
    return np.array(
        [hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % 2 == 0 for name in track_ids]
    )


def score(part: catalogue.DemoCatalogue, columns: Floats, weights: dict[str, float]) -> list[float]:
    """Return each question's share over `part` embedded with `weights`; `columns` are its standardised features."""
    vectors = (columns * column_weights(weights)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    answers = quality.measure(replace(part, embeddings=vectors), QUESTIONS, sample=SAMPLE)
    return [answer.share for answer in answers]


def half_of(whole: catalogue.DemoCatalogue, chosen: NDArray[np.bool_]) -> catalogue.DemoCatalogue:
    """Return the catalogue of the chosen works alone."""
    rows = np.flatnonzero(chosen)
    return replace(whole, embeddings=whole.embeddings[rows], tracks=[whole.tracks[row] for row in rows])


def tune(
    cache: Annotated[Path, typer.Option(help="The build's checkpoints.")],
    data: Annotated[Path, typer.Option(help="The catalogue the build wrote.")] = Path("mess/demo/data"),
) -> None:
    """Search the weights and print them with the shares on both halves."""
    console = Console()
    whole = catalogue.load_demo_catalogue(data)
    columns = standardise(np.load(cache / "features.npy"))
    first = halves([track.track_id for track in whole.tracks])
    tuning, held_out = half_of(whole, first), half_of(whole, ~first)
    weights = {block.name: 1.0 for block in BLOCKS}
    best = float(np.mean(score(tuning, columns[first], weights)))
    for _ in range(PASSES):
        for block in BLOCKS:
            for value in GRID:
                trial = weights | {block.name: value}
                reached = float(np.mean(score(tuning, columns[first], trial)))
                # A gain within the sampling noise isn't worth a departure from equal weights.
                if reached > best + 0.001:
                    best, weights = reached, trial
            console.print(f"{block.name:20} {weights[block.name]:.2f}  mean share {best:.4f}")
    names = [question.name for question in QUESTIONS]
    for label, tried in (("equal", {b.name: 1.0 for b in BLOCKS}), ("tuned", weights), ("stored", WEIGHTS)):
        for half, part, rows in (("tuning", tuning, first), ("held out", held_out, ~first)):
            shares = zip(names, score(part, columns[rows], tried), strict=True)
            console.print(f"{label}, {half} half: " + "; ".join(f"{n} {s:.3f}" for n, s in shares))
    console.print(weights)


if __name__ == "__main__":
    typer.run(tune)
