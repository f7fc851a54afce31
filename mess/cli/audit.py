"""`mess audit`: compares the stored lists with brute force."""

from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.table import Table

from mess.audit import AuditReport, audit_store
from mess.cli.connections import (
    find_generation,
    run_command,
    store_settings,
    with_generation,
    with_store,
)
from mess.cli.console import INCOMPLETE, fail, out, progress_bar
from mess.cli.options import DEFAULT_DATA_DIR, DataDir, Of
from mess.settings import read_settings
from store.comparison import DifferingLists, compare_lists
from streams.generations import GenerationName
from streams.settings import StreamSettings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("audit")(audit_command)


def audit_command(
    sample: Annotated[
        int | None, typer.Option(min=1, help="Audit so many lists, drawn at random, instead of all.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fail where recall@50 is below this.")
    ] = 0.999,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE/N",
            help="Compare with the lists of this generation instead, such as one built anew from the same log.",
        ),
    ] = None,
    of: Of = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Recompute the stored neighbour lists by brute force and compare.

    Reads one snapshot of the database and changes nothing. Exits with 0 if recall@50 is at least the threshold, 1 if it
    is below, 2 if the audit cannot run. With --against, exits with 0 if every list is the other generation's.
    """
    if against is not None:
        _audit_against(data_dir, of, against)
        return
    size = read_settings(StreamSettings).list_size

    async def run(pool: asyncpg.Pool) -> AuditReport:
        with progress_bar("reading the catalogue") as show:
            return await audit_store(
                pool, size=size, sample=sample, show=lambda done, total: show("auditing lists", done, total)
            )

    report = run_command(with_generation(store_settings(data_dir), "audit", run, of))
    out().print(_table(report))
    recall = report.findings.recall(50)
    if recall < threshold:
        fail(f"recall@50 is {recall:.6f}, below {threshold}", code=INCOMPLETE)


def _audit_against(data_dir: Path, of: str | None, against: str) -> None:
    async def compare(pool: asyncpg.Pool) -> tuple[GenerationName, GenerationName, DifferingLists]:
        left, right = await find_generation(pool, of), await find_generation(pool, against)
        return left, right, await compare_lists(pool, left, right)

    left, right, found = run_command(with_store(store_settings(data_dir), "audit", compare, read_only=True))
    typer.echo(f"lists of {left} and {right}: {found.equal:,} equal, {found.different:,} different")
    for name, count in ((left, found.left_only), (right, found.right_only)):
        if count:
            typer.echo(f"in {name} alone: {count:,}")
    if found.first:
        fail(f"not equal: {', '.join(found.first)} ...", code=INCOMPLETE)


def _table(report: AuditReport) -> Table:
    found = report.findings
    table = Table(title="Stored lists against brute force", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("tracks", f"{report.tracks:,}"),
        ("lists", f"{report.lists:,}"),
        ("lists of no track", f"{report.orphans:,}"),
        ("audited", f"{found.tracks:,}"),
        ("missing", f"{found.missing:,}"),
        ("short", f"{found.short:,}"),
        ("wrong", f"{found.wrong:,}"),
        ("entries that name no track", f"{found.strangers:,}"),
        ("recall@10", f"{found.recall(10):.6f}"),
        ("recall@50", f"{found.recall(50):.6f}"),
        ("scores that differ", f"{found.differing:,}"),
        ("largest difference of a score", f"{found.largest_difference:.1e}"),
    ):
        table.add_row(name, value)
    return table
