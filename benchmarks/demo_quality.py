"""How much the demo catalogue's embedding means: labels shared with the ten nearest, beside chance.

Run as `python -m benchmarks.demo_quality`. Brute force over the committed data; about ten seconds.
"""

from rich.console import Console
from rich.table import Table

from mess.demo import catalogue
from tools.demo_catalogue.quality import NEAREST, Answer
from tools.demo_catalogue.quality import measure as measure_catalogue


def measure_demo_quality(sample: int | None = None) -> list[Answer]:
    """Measure the committed catalogue; see `tools.demo_catalogue.quality.measure`."""
    return measure_catalogue(catalogue.load_demo_catalogue(), sample=sample)


def main(*, quick: bool = False) -> None:
    """Print the shares as a table; `balanced` is the share averaged over the labels."""
    table = Table(title=f"Share of the {NEAREST} nearest with the work's own label")
    table.add_column("label")
    for heading in ("works", "labels", "share", "by chance", "times chance", "shuffled", "balanced"):
        table.add_column(heading, justify="right")
    for answer in measure_demo_quality(2_000 if quick else None):
        table.add_row(
            answer.name,
            f"{answer.works:,}",
            str(answer.labels),
            f"{answer.share:.3f}",
            f"{answer.expected:.3f}",
            f"{answer.share / answer.expected:.1f}",
            f"{answer.shuffled:.3f}",
            f"{answer.balanced:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
