"""Command line of the builder: `python -m tools.demo_catalogue --out mess/demo/data`."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mess.demo.corpus import sources
from mess.demo.corpus.raw import Failure
from tools.demo_catalogue import assemble, describe, extraction

DEFAULT_CACHE = Path(tempfile.gettempdir()) / "mess-demo-build"


def build(
    out: Annotated[Path, typer.Option(help="Where the catalogue's files go.")] = Path("mess/demo/data"),
    jobs: Annotated[int, typer.Option(min=1, help="Parsing processes.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only this many files, for a trial.")] = None,
    cache: Annotated[Path, typer.Option(help="Checkpoints; a second run goes on from them.")] = DEFAULT_CACHE,
    work_timeout: Annotated[float, typer.Option(help="Seconds a work may take to parse.")] = 60.0,
) -> None:
    """Rebuild the demo catalogue from the corpus that music21 carries."""
    console = Console(stderr=True)
    try:
        import music21  # noqa: PLC0415 (an extra: absent unless someone rebuilds)

        from tools.demo_catalogue.titles import corpus_titles  # noqa: PLC0415
    except ImportError:
        console.print(
            "music21 is missing: install the extra, as in pip install 'mess-ai[demo-build]'", markup=False
        )
        raise typer.Exit(1) from None
    root = Path(music21.common.getCorpusFilePath())
    files, skipped = sources.list_files(root)
    files = files[:limit]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("parsing", total=len(files))
        for path in extraction.extract_all(root, cache, files, jobs, work_timeout):
            progress.update(task, advance=1, description=f"parsing {path[:40]:40}")
    works, failures = extraction.read_checkpoints(cache, files)
    selection = assemble.select(works)
    learnt, titles = describe.learn_german(works), corpus_titles(root)
    tracks = [
        (w.track_id, describe.describe(w, learnt, titles, music21.__version__)) for w in selection.works
    ]
    features = assemble.feature_matrix(selection.works)
    np.save(cache / "features.npy", features)
    sizes = assemble.write(out, features, tracks, music21.__version__)
    _report(console, failures, selection, skipped)
    console.print(f"{len(tracks)} works, {sum(sizes.values()) / 1e6:.1f} MB in {out}: {sizes}")


def _report(
    console: Console,
    failures: list[Failure],
    selection: assemble.WorkSelection,
    skipped: list[tuple[str, str]],
) -> None:
    for path, reason in skipped:
        console.print(f"not read: {path}: {reason}", highlight=False)
    for failure in [*failures, *selection.left_out]:
        console.print(f"left out: {failure.track_id}: {failure.reason}", highlight=False)
    reasons = Counter(reason for _, reason in skipped)
    console.print(
        f"{sum(reasons.values())} files not read, {len(failures)} works not parsed, "
        f"{len(selection.left_out)} fragments and repeats"
    )


if __name__ == "__main__":
    typer.run(build)
