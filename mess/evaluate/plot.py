"""The report as a picture. Imports matplotlib, which the extra `plots` installs."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mess.evaluate.measures import HUB_SHARE
from mess.evaluate.plan import CHANCE, LENGTH, MOST_PLAYED
from mess.evaluate.report import Report

_GREY = "#888888"


def draw(report: Report, path: Path) -> None:
    """Write the picture: the trade of precision for diversity, exposure, the largest hubs, and how `popular` moves.

    Raises:
        OSError: The file cannot be written.
        ValueError: The file's name says a format that cannot be drawn.
    """
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        # Not through pyplot: that would look for a display.
        figure = Figure(figsize=(12, 8), layout="constrained")
        trade, lorenz, hubs, moves = figure.subplots(2, 2).ravel()
        _trade(trade, report)
        _lorenz(lorenz, report)
        _hubs(hubs, report)
        _moves(moves, report)
        figure.suptitle(f"{report.catalogue}: {report.seeds:,} lists of {LENGTH} by each strategy")
        # Without the date, the same report is the same file.
        figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else None)


def _trade(axes: Any, report: Report) -> None:
    label = next((one.name for one in report.labels if one.name == "form"), None) or (
        report.labels[0].name if report.labels else None
    )
    axes.set(xlabel="diversity within a list (mean of 1 - cosine)", title="What diversity costs")
    if label is None:
        return
    for line in report.lines:
        across, up = line.means["diversity"], line.means[f"precision_{label}"]
        colour = _GREY if line.name in (CHANCE, MOST_PLAYED) else None
        axes.errorbar(across.mean, up.mean, xerr=across.half, yerr=up.half, fmt="o", ms=4, color=colour)
        axes.annotate(
            line.name, (across.mean, up.mean), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    axes.set_ylabel(f"precision@{LENGTH}, {label} held out")
    axes.margins(x=0.15)


def _lorenz(axes: Any, report: Report) -> None:
    for line in report.lines:
        if line.name == MOST_PLAYED:
            continue
        shares = np.cumsum(np.sort(line.counts)) / max(int(line.counts.sum()), 1)
        across = np.arange(1, len(shares) + 1) / len(shares)
        step = max(1, len(shares) // 500)
        style = {"color": _GREY, "linestyle": ":"} if line.name == CHANCE else {}
        axes.plot(across[::step], shares[::step], lw=1.2, label=f"{line.name} ({line.gini:.2f})", **style)
    axes.plot([0, 1], [0, 1], color="black", lw=0.5)
    axes.set(
        xlabel="share of the catalogue, least listed first",
        ylabel="share of all places in lists",
        title="Who is seen (Gini)",
    )
    axes.legend(fontsize=7, frameon=False)


def _hubs(axes: Any, report: Report) -> None:
    lines = [line for line in (*report.lines, *report.hubs) if line.name != MOST_PLAYED]
    lines.sort(key=lambda line: line.largest)
    held = {line.name for line in report.hubs}
    colours = ["#4c9f70" if line.name in held else "#3b6ea5" for line in lines]
    axes.barh([line.name for line in lines], [100 * line.largest for line in lines], color=colours)
    axes.axvline(100 * HUB_SHARE, color="#b03a2e", lw=1, ls="--")
    for place, line in enumerate(lines):
        if line.hubs:
            axes.annotate(f" {line.hubs} hubs", (100 * line.largest, place), va="center", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.set(
        xlabel="lists that hold the most frequent track, %", title=f"Hubs (line: {HUB_SHARE:.0%} of lists)"
    )


def _moves(axes: Any, report: Report) -> None:
    axes.set_title("popular moves with listening")
    shift = report.shift
    if shift is None:
        axes.axis("off")
        return
    names = ["before any", "after listening A", "after listening B"]
    by_first = [shift.before, shift.first_by_first, shift.second_by_first]
    by_second = [np.nan, shift.first_by_second, shift.second_by_second]
    place = np.arange(len(names))
    axes.bar(place - 0.18, by_first, 0.34, label="percentile by A")
    axes.bar(place + 0.18, by_second, 0.34, label="percentile by B")
    axes.axhline(0.5, color=_GREY, lw=0.8)
    axes.set_xticks(place, names)
    axes.set(ylim=(0, 1), ylabel="mean popularity percentile of a list")
    axes.legend(frameon=False)
