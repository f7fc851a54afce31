"""The report as a picture. Imports matplotlib, which the extra `plots` installs."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mess.evaluate.measures import HUB_SHARE
from mess.evaluate.plan import CHANCE, CORRECTED, LENGTH, MOST_PLAYED
from mess.evaluate.report import EvaluationReport

_GREY = "#888888"


def draw_report(report: EvaluationReport, path: Path) -> None:
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


def _trade(axes: Any, report: EvaluationReport) -> None:
    axes.set(xlabel="diversity within a list (mean of 1 - cosine)", title="What diversity costs")
    names = [one.name for one in report.labels]
    if not names:
        return
    label = "form" if "form" in names else names[0]
    measure = f"precision_{label}"
    best = max(line.means[measure].mean for line in report.lines)
    # What is far below the others would squeeze them into a corner; it is told in words.
    near = [line for line in report.lines if line.means[measure].mean >= best / 2]
    near.sort(key=lambda line: line.means["diversity"].mean)
    for place, line in enumerate(near):
        across, up = line.means["diversity"], line.means[measure]
        axes.errorbar(across.mean, up.mean, xerr=across.half, yerr=up.half, fmt="o", ms=4, lw=0.8)
        above = place % 2 == 0
        axes.annotate(
            line.name,
            (across.mean, up.mean),
            xytext=(0, 26 if above else -32),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            rotation=20,
        )
    far = [
        f"{line.name}: {line.means['diversity'].mean:.2f}, {line.means[measure].mean:.2f}"
        for line in report.lines
        if line not in near
    ]
    axes.text(
        0.02, 0.03, "\n".join(["not shown:", *far] if far else []), transform=axes.transAxes, fontsize=7
    )
    axes.set_ylabel(f"precision@{LENGTH}, {label} held out")
    axes.margins(x=0.12, y=0.35)


def _lorenz(axes: Any, report: EvaluationReport) -> None:
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


def _hubs(axes: Any, report: EvaluationReport) -> None:
    lines = [line for line in report.lines if line.name != MOST_PLAYED]
    lines.sort(key=lambda line: line.largest)
    for said, suffix, marker in (("as it is", "", "o"), ("corrected", CORRECTED, "v")):
        found = [(place, report.line(line.name + suffix)) for place, line in enumerate(lines)]
        held = [(place, line) for place, line in found if line is not None]
        if held:
            shares = [100 * line.largest for _, line in held]
            axes.plot(shares, [place for place, _ in held], marker, ms=5, label=said, alpha=0.8)
    for place, line in enumerate(lines):
        if line.hubs:
            axes.annotate(
                f"{line.hubs} hubs",
                (100 * line.largest, place),
                xytext=(6, -3),
                textcoords="offset points",
                fontsize=7,
            )
    axes.axvline(100 * HUB_SHARE, color="#b03a2e", lw=1, ls="--")
    axes.set_yticks(range(len(lines)), [line.name for line in lines], fontsize=8)
    axes.set(
        xlabel="lists that hold the most frequent track, %", title=f"Hubs (line: {HUB_SHARE:.0%} of lists)"
    )
    axes.margins(x=0.15)
    axes.legend(fontsize=7, frameon=False, loc="lower right")


def _moves(axes: Any, report: EvaluationReport) -> None:
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
