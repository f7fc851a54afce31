"""Events a second and recall: the engine alone, its peers, and the whole way from topic to lists committed."""

import asyncio
import tempfile
from pathlib import Path

from benchmarks import end_to_end, engine_rates, processes, report
from benchmarks.maintenance_peers import MaintenancePeer, hnswlib_peer, pgvector_peer
from benchmarks.sizes import CatalogueSize, chosen_sizes
from mess import migrate

SMALL = [CatalogueSize(10_000, 768), CatalogueSize(10_000, 128)]
MEDIUM = [CatalogueSize(50_000, 768, audited=4_000), CatalogueSize(100_000, 128, audited=4_000)]
QUICK = [CatalogueSize(4_000, 128, events=1_024)]


def _peers(
    size: CatalogueSize, rate: float, tracks: engine_rates.SyntheticTracks, lists: engine_rates.StoredLists
) -> None:
    peers: list[MaintenancePeer] = []
    missing = ""
    try:
        peers.append(hnswlib_peer(size, tracks, lists))
    except ImportError:
        missing = (
            "hnswlib is not installed (requirements-bench.lock has it), so that it is not compared with."
        )
    with processes.services("--broker", "none") as facts:
        peers.append(asyncio.run(pgvector_peer(size, tracks, facts["admin_url"])))
    table = report.make_table(
        f"Peers, {size}", "what", "events/s", "engine is", "recall@50", "lists not right", "load", "how"
    )
    table.columns[-1].justify = "left"
    for peer in peers:
        found = peer.findings
        table.add_row(
            peer.name,
            f"{peer.rate:,.0f}",
            f"{rate / peer.rate:.1f} x",
            f"{found.recall(50):.4f}",
            f"{1 - found.right / found.tracks:.1%} of {found.tracks:,}",
            peer.load,
            peer.note,
        )
    report.print_table(table, missing)


def _end_to_end(size: CatalogueSize, rate: float | None) -> None:
    with tempfile.TemporaryDirectory(prefix="mess-bench-") as directory, processes.services() as facts:
        migrate.upgrade_schema(facts["database_url"])
        end_to_end.measure_end_to_end(size, facts, Path(directory) / "worker.log", rate)


def main(*, quick: bool = False) -> None:
    """Run it and print the tables.

    Without `quick`: the engine at four sizes, its peers and the whole way at the two smaller ones. MESS_BENCH_SIZES
    (`50000x768,...`) runs all three at other sizes instead.
    """
    given = chosen_sizes()
    whole = given or (QUICK if quick else SMALL)
    for size in whole:
        rate, tracks, lists = engine_rates.measure_engine(size)
        _peers(size, rate, tracks, lists)
        _end_to_end(size, rate)
    for size in [] if quick or given else MEDIUM:
        engine_rates.measure_engine(size)


if __name__ == "__main__":
    main()
