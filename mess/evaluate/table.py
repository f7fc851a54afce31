"""The report as tables: for the terminal, and as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from mess.evaluate.aspects import NEAREST
from mess.evaluate.intervals import Interval
from mess.evaluate.plan import LENGTH
from mess.evaluate.report import EvaluationReport, MeasuredFigures


@dataclass(frozen=True, slots=True)
class EvaluationTable:
    """A table: its title, its headings, its rows; all text."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def report_tables(report: EvaluationReport) -> Iterator[EvaluationTable]:
    """The tables of a report: accuracy, what lies beyond it, and what was asked for besides."""
    yield _accuracy(
        report, report.lines, f"Precision and nDCG at {LENGTH}, the label held out (± half of 95 %)"
    )
    yield _beyond(report.lines, "Beyond accuracy")
    costs = [line for line in report.lines if line.against]
    if costs:
        yield _against(report, costs)
    if report.hubs:
        yield _hubs(report)
    if report.aspects:
        yield _aspects(report)
    if report.shift is not None:
        yield _shift(report)


def report_facts(report: EvaluationReport) -> list[str]:
    """What the tables were measured on, in sentences."""
    said = [
        f"{report.catalogue}, fingerprint {report.fingerprint}: {report.tracks:,} tracks, {report.dimension} dimensions; "
        f"{report.seeds:,} seeds, random seed {report.random_seed}",
        f"listening: {report.listening}",
    ]
    said.extend(
        f"{label.name}: {label.values} values, {label.seeds:,} seeds have one, chance {label.chance:.3f}; "
        f"hidden from strategies while it is scored: {', '.join(label.hidden)}"
        for label in report.labels
    )
    return said


def _accuracy(report: EvaluationReport, lines: Sequence[MeasuredFigures], title: str) -> EvaluationTable:
    names = [label.name for label in report.labels]
    measures = [f"{kind}_{name}" for kind in ("precision", "ndcg") for name in names]
    headings = ("strategy", *(f"P {name}" for name in names), *(f"nDCG {name}" for name in names))
    rows = [(line.name, *(_sure(line.means[measure]) for measure in measures)) for line in lines]
    return EvaluationTable(title, headings, rows)


def _beyond(lines: Sequence[MeasuredFigures], title: str) -> EvaluationTable:
    headings = (
        "strategy",
        "diversity",
        "cosine to seed",
        "novelty, bits",
        "coverage",
        "Gini",
        "hubs",
        "largest hub",
    )
    rows = [
        (
            line.name,
            _sure(line.means["diversity"]),
            f"{line.means['closeness'].mean:.3f}",
            f"{line.means['novelty'].mean:.1f}",
            *_exposure(line),
        )
        for line in lines
    ]
    return EvaluationTable(title, headings, rows)


def _exposure(line: MeasuredFigures) -> tuple[str, ...]:
    return (f"{line.coverage:.3f}", f"{line.gini:.3f}", str(line.hubs), f"{line.largest:.2%}")


def _against(report: EvaluationReport, lines: Sequence[MeasuredFigures]) -> EvaluationTable:
    names = [label.name for label in report.labels]
    headings = ("strategy", "diversity", *(f"P {name}" for name in names), "novelty, bits")
    measures = ("diversity", *(f"precision_{name}" for name in names), "novelty")
    rows = [(line.name, *(_signed(line.against[measure]) for measure in measures)) for line in lines]
    return EvaluationTable("Against similarity, of the same seeds (95 %)", headings, rows)


def _hubs(report: EvaluationReport) -> EvaluationTable:
    names = [label.name for label in report.labels]
    headings = (
        "strategy",
        "hubs",
        "largest hub",
        "coverage",
        "Gini",
        "diversity",
        *(f"P {name}" for name in names),
    )
    rows = []
    for line in _with_their_own(report):
        precisions = (f"{line.means[f'precision_{name}'].mean:.3f}" for name in names)
        coverage, gini, hubs, largest = _exposure(line)
        diversity = f"{line.means['diversity'].mean:.3f}"
        rows.append((line.name, hubs, largest, coverage, gini, diversity, *precisions))
    return EvaluationTable("Hubs corrected", headings, rows)


def _aspects(report: EvaluationReport) -> EvaluationTable:
    asked = report.aspects
    headings = (
        "lists by",
        *(f"{one.question} ({one.seeds:,} seeds, {one.listed:,} listed)" for one in asked),
    )
    rows = [("chance", *(f"{one.chance:.3f}" for one in asked))]
    rows += [(name, *(_sure(one.figures[name]) for one in asked)) for name in asked[0].figures]
    title = f"Each aspect alone: of the nearest {NEAREST}, the share that is right; of tunes, the share of lists with it"
    return EvaluationTable(title, headings, rows)


def _with_their_own(report: EvaluationReport) -> Iterable[MeasuredFigures]:
    """Each line, followed by the same with hubs corrected."""
    for line in report.lines:
        own = [held for held in report.hubs if held.name.startswith(f"{line.name}, ")]
        if own:
            yield from (line, *own)


def _shift(report: EvaluationReport) -> EvaluationTable:
    shift = report.shift
    assert shift is not None
    headings = ("lists of popular", "mean percentile by A", "by B", "in common with A's (Jaccard)")
    rows = [
        ("before any listening", f"{shift.before:.3f}", "", f"{shift.kept:.3f}"),
        ("after listening A", f"{shift.first_by_first:.3f}", f"{shift.first_by_second:.3f}", "1"),
        (
            "after listening B instead",
            f"{shift.second_by_first:.3f}",
            f"{shift.second_by_second:.3f}",
            f"{shift.kept_between:.3f}",
        ),
    ]
    return EvaluationTable(f"popular moves with listening ({shift.seeds:,} seeds)", headings, rows)


def _sure(one: Interval) -> str:
    return "" if one.mean != one.mean else f"{one.mean:.3f}\u00a0±{one.half:.3f}"


def _signed(one: Interval) -> str:
    return "" if one.mean != one.mean else f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def for_terminal(sheet: EvaluationTable) -> Table:
    """The table as rich prints it."""
    table = Table(title=sheet.title, title_justify="left")
    for number, heading in enumerate(sheet.headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number, overflow="fold")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def as_markdown(report: EvaluationReport) -> str:
    """All tables, and what they were measured on."""
    parts = ["\n".join(f"- {fact}" for fact in report_facts(report))]
    for sheet in report_tables(report):
        lines = [f"**{sheet.title}**", "", _row(sheet.headings), "|" + "---|" * len(sheet.headings)]
        parts.append("\n".join([*lines, *(_row(row) for row in sheet.rows)]))
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
