"""`mess audit`: compares the stored lists with brute force."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mess.cli.broker import DEFAULT_DATA_DIR
from mess.cli.console import INCOMPLETE, fail
from mess.cli.store import HINT, store_settings

if TYPE_CHECKING:
    from rich.table import Table

    from mess.audit import AuditReport
    from store.settings import StoreSettings


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
    data_dir: Annotated[
        Path, typer.Option(help="The local stack's data directory, asked when MESS_DATABASE_URL is not set.")
    ] = DEFAULT_DATA_DIR,
) -> None:
    """Recompute the stored neighbour lists by brute force and compare.

    Reads one snapshot of the database and changes nothing. Exits with 0 if recall@50 is at least the threshold, 1 if it
    is below, 2 if the audit cannot run.
    """
    import asyncio  # noqa: PLC0415 - `mess --help` must not wait for any of this

    from mess import settings  # noqa: PLC0415
    from mess.cli import console  # noqa: PLC0415
    from store.errors import StoreError  # noqa: PLC0415
    from streams.settings import StreamSettings  # noqa: PLC0415

    console.quiet_libraries()
    store, size = store_settings(data_dir), settings.read_settings(StreamSettings).list_size
    try:
        report = asyncio.run(_audit(store, size, sample))
    except StoreError as error:
        fail(str(error), hint=HINT)
    console.out().print(_table(report))
    recall = report.findings.recall(50)
    if recall < threshold:
        fail(f"recall@50 is {recall:.6f}, below {threshold}", code=INCOMPLETE)


async def _audit(store: "StoreSettings", size: int, sample: int | None) -> "AuditReport":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from mess.audit import audit_store as run  # noqa: PLC0415
    from mess.cli import console  # noqa: PLC0415
    from store.pool import open_pool  # noqa: PLC0415

    # A large catalogue takes long to read.
    patient = store.model_copy(update={"command_timeout": 600.0, "pool_min_size": 0, "pool_max_size": 1})
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with await open_pool(patient, application_name="mess-audit", read_only=True) as pool:
        with Progress(*columns, console=console.err(), transient=True) as bars:
            task = bars.add_task("reading the catalogue", total=None)
            return await run(
                pool,
                size=size,
                sample=sample,
                show=lambda done, total: bars.update(
                    task, description="auditing lists", completed=done, total=total
                ),
            )


def _table(report: "AuditReport") -> "Table":
    from rich.table import Table  # noqa: PLC0415

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
