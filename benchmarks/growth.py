"""What an event costs as the catalogue grows, and the memory that a track takes; draws `docs/benchmarks/growth.png`."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import machine, report
from benchmarks.engine_rates import BATCH, SteadyInflow, SyntheticTracks
from benchmarks.sizes import CatalogueSize, chosen_sizes
from streams.engine import acceleration
from streams.engine.approximate import ApproximateEngine

SIZES = [CatalogueSize(100_000, 768), CatalogueSize(200_000, 128)]
QUICK = [CatalogueSize(8_000, 128)]
STOPS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
PICTURE = Path(__file__).parents[1] / "docs" / "benchmarks" / "growth.png"
BATCHES, SINGLES = 4, 20


@dataclass(slots=True)
class GrowthCurve:
    """Milliseconds an event by catalogue size, and bytes a track of vectors and index, and of lists.

    Processor time, which a busy machine leaves as it is, but for `batched`, which is wall time.
    """

    name: str
    tracks: list[int] = field(default_factory=list)
    batched: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    product: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


def _product(tracks: SyntheticTracks, count: int) -> float:
    """Milliseconds of the processor that an event costs by the plain product alone, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        tracks.vectors[:BATCH] @ tracks.vectors[:count].T
        best = min(best, time.process_time() - began)
    return best * 1000 / BATCH


def _curve(size: CatalogueSize, tracks: SyntheticTracks, name: str, exact_upto: int) -> GrowthCurve:
    engine, curve, at = ApproximateEngine(size.dimension, exact_upto=exact_upto), GrowthCurve(name), 0
    engine.accelerate(acceleration.load_kernels())
    engine.flow = SteadyInflow()
    for stop in [stop for stop in STOPS if stop <= size.tracks]:
        report.progress(f"{name}: growing to {stop:,}, load {machine.load_average()}")
        while at < stop:
            engine.apply(tracks.batch(at, min(at + 4 * BATCH, stop)))
            at = min(at + 4 * BATCH, stop)
        engine.take_changes()
        began, processor = time.perf_counter(), time.process_time()
        for _ in range(BATCHES):
            engine.apply(tracks.batch(at, at + BATCH))
            at += BATCH
        count = BATCHES * BATCH
        curve.batched.append((time.perf_counter() - began) * 1000 / count)
        curve.processor.append((time.process_time() - processor) * 1000 / count)
        singles = []
        for _ in range(SINGLES):
            began = time.process_time()
            engine.apply(tracks.batch(at, at + 1))
            singles.append(time.process_time() - began)
            at += 1
        curve.single.append(float(np.median(singles)) * 1000)
        curve.product.append(_product(tracks, stop))
        lists = engine.lists.memory_bytes
        curve.memory.append(((engine.stats().memory_bytes - lists) / at, lists / at))
        curve.tracks.append(stop)
    return curve


def _draw(curves: list[GrowthCurve], path: Path) -> None:
    # Imported here: only the benchmarks' plots want it.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for number, curve in enumerate(curves):
        colour = f"C{number}"
        time_axes.loglog(
            curve.tracks, curve.processor, "o-", color=colour, label=f"{curve.name}, batches of {BATCH}"
        )
        time_axes.loglog(curve.tracks, curve.single, "o:", color=colour, label=f"{curve.name}, one by one")
        time_axes.loglog(
            curve.tracks, curve.product, "--", color=colour, alpha=0.5, label="plain product alone"
        )
        totals = [sum(pair) / 1024 for pair in curve.memory]
        memory_axes.semilogx(curve.tracks, totals, "o-", color=colour, label=curve.name)
    time_axes.set_ylim(top=1000)
    time_axes.set(
        xlabel="tracks in the catalogue", ylabel="processor milliseconds an event", title="Cost of an insert"
    )
    memory_axes.set(
        xlabel="tracks in the catalogue", ylabel="KiB a track", title="Memory of the engine's arrays"
    )
    memory_axes.set_ylim(bottom=0)
    for axes in (time_axes, memory_axes):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=7, loc="best" if axes is memory_axes else "upper left")
    figure.savefig(path, dpi=110)


def main(*, quick: bool = False) -> None:
    """Run it, print the table and draw the picture; MESS_BENCH_SIZES (`500000x128`) says how far to grow."""
    given = chosen_sizes()
    curves = []
    for size in given or (QUICK if quick else SIZES):
        tracks = SyntheticTracks.make(size.tracks + len(STOPS) * (BATCHES * BATCH + SINGLES), size.dimension)
        curves.append(_curve(size, tracks, f"{size.dimension} dimensions", size.tracks * 2))
        if size.dimension <= 128:
            curves.append(_curve(size, tracks, f"{size.dimension} dimensions, cells", size.tracks // 20))
    table = report.make_table(
        "Cost of an insert, milliseconds an event",
        "what",
        "tracks",
        f"batches of {BATCH}, wall",
        "processor",
        "one by one, proc.",
        "plain product, proc.",
        "vectors, index B/track",
        "lists B/track",
    )
    for curve in curves:
        for i, count in enumerate(curve.tracks):
            vectors, lists = curve.memory[i]
            table.add_row(
                curve.name,
                f"{count:,}",
                f"{curve.batched[i]:.3f}",
                f"{curve.processor[i]:.3f}",
                f"{curve.single[i]:.2f}",
                f"{curve.product[i]:.3f}",
                f"{vectors:,.0f}",
                f"{lists:,.0f}",
            )
    report.print_table(
        table, f"Load average {machine.load_average()}; the processor's time is that of all threads."
    )
    if not quick:
        _draw(curves, PICTURE)


if __name__ == "__main__":
    main()
