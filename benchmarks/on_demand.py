"""Requests that must be computed: by a worker and back, and how much computing Zipf traffic needs.

A whole local stack with the demo catalogue. First questions that nobody has asked before arrive at random, a hundred a
second. Then readers ask for works by a Zipf law and for strategies at random, as fast as they are answered, and what the
workers had to compute is counted. In between the same questions are asked with weights of aspects and without, in turn.
"""

import asyncio
import re
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import numpy as np
import orjson
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import machine, processes, reads, report
from mess.demo import catalogue

RATES = (25, 50, 75, 100, 200)
# After the start of a stack: what questions name is read ahead at a thousand tracks a second once there is little else to do.
REST_SECONDS = 20
STRATEGIES = ("similarity", "diverse", "popular", "hybrid", "random", "auto")
# Strategies whose questions are asked with weights, too.
WEIGHED = ("similarity", "diverse")
WEIGHTS = {"rhythm": 0.7, "melody": 0.3}
# Half of all readers take the default.
SHARES = (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)
EXPONENT = 1.0
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class RateOutcome:
    """What came of one rate."""

    rate: int
    achieved: float
    seconds: list[float]
    computed_ms: list[float]
    failed: dict[str, int]
    load: str


class QuestionLoad:
    """Asks what nobody has asked before."""

    def __init__(self, url: str, names: list[str], seed: int) -> None:
        self._url = url
        self._names = names
        self._random = np.random.default_rng(seed)

    def question(self) -> dict[str, Any]:
        """Two works and a strategy, with a filter now and then."""
        picks = self._random.integers(0, len(self._names), 2)
        asked: dict[str, Any] = {
            "seeds": [self._names[pick] for pick in picks],
            "strategy": STRATEGIES[int(self._random.integers(0, len(STRATEGIES)))],
        }
        if self._random.random() < 0.25:
            asked["caps"] = {"composer": 2}
        return asked

    async def run(self, rate: int, seconds: float) -> RateOutcome:
        """Ask at a rate, whether or not answers keep up (open loop, exponential gaps)."""
        taken: list[float] = []
        computed: list[float] = []
        failed: dict[str, int] = {}

        async def one(session: aiohttp.ClientSession, due: float) -> None:
            asked = orjson.dumps(self.question())
            async with session.post(f"{self._url}/recommend", data=asked, headers=JSON) as answer:
                body = await answer.read()
            if answer.status == 200:
                taken.append(time.perf_counter() - due)
                computed.append(_computed(body))
            else:
                kind = f"{answer.status} {str(orjson.loads(body).get('type')).rpartition(':')[2]}"
                failed[kind] = failed.get(kind, 0) + 1

        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            start = due = time.perf_counter()
            while due - start < seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(session, due))
                due += self._random.exponential(1 / rate)
        achieved = len(taken) / (time.perf_counter() - start)
        return RateOutcome(rate, achieved, taken, computed, failed, machine.load_average())


def _computed(body: bytes) -> float:
    """The milliseconds that an answer says it took; who asks shall not spend what answers need on reading all of it."""
    found = re.search(rb'"computation_time_ms":([0-9.]+)', body)
    assert found is not None
    return float(found[1])


def _show_rates(results: list[RateOutcome]) -> None:
    table = report.make_table(
        "By a worker and back, milliseconds from when a request was due",
        "requests/s",
        "n",
        "p50",
        "p90",
        "p99",
        "computing p50",
        "failed",
        "load",
    )
    for one in results:
        table.add_row(
            str(one.rate),
            str(len(one.seconds)),
            *(report.percentiles(one.seconds) if one.seconds else ("-", "-", "-")),
            f"{np.median(one.computed_ms):,.1f}" if one.seconds else "-",
            ", ".join(f"{count} {kind}" for kind, count in one.failed.items()) or "0",
            one.load,
        )
    report.print_table(table)


async def _weighed(url: str, names: list[str], pairs: int) -> dict[str, list[tuple[float, float, float]]]:
    """The same questions with weights of aspects and without, one at a time: see `_show_weighed`."""
    rng = np.random.default_rng(7)
    found: dict[str, list[tuple[float, float, float]]] = {}
    async with aiohttp.ClientSession() as session:

        async def ask(question: dict[str, Any]) -> tuple[float, float]:
            began = time.perf_counter()
            async with session.post(f"{url}/recommend", data=orjson.dumps(question), headers=JSON) as answer:
                body = await answer.read()
                answer.raise_for_status()
            return (time.perf_counter() - began) * 1000, _computed(body)

        for number in range(pairs):
            picks = rng.choice(len(names), 2, replace=False)
            strategy = WEIGHED[number % len(WEIGHED)]
            plain = {"seeds": [names[pick] for pick in picks], "strategy": strategy}
            weighed = plain | {"weights": WEIGHTS}
            # Which goes first changes: the second finds what the first has read.
            order = (plain, weighed) if number // len(WEIGHED) % 2 else (weighed, plain)
            taken = {("weights" in asked): await ask(asked) for asked in order}
            for what, part in (("whole", 0), ("computing", 1)):
                without, with_it = taken[False][part], taken[True][part]
                found.setdefault(f"{strategy}, {what}", []).append((without, with_it, with_it / without))
    return found


def _show_weighed(found: dict[str, list[tuple[float, float, float]]]) -> None:
    table = report.make_table(
        f"Two seeds with weights and without, in turn, milliseconds, load {machine.load_average()}",
        "what",
        "pairs",
        "without: p50",
        "with: p50",
        "ratio: p50",
        "ratio: p10, p90",
    )
    for what, pairs in found.items():
        without, with_it, ratio = np.array(pairs).T
        low, high = np.percentile(ratio, [10, 90])
        table.add_row(
            what,
            str(len(pairs)),
            f"{np.median(without):.1f}",
            f"{np.median(with_it):.1f}",
            f"{np.median(ratio):.2f}",
            f"{low:.2f}, {high:.2f}",
        )
    report.print_table(table)


def _counted(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:  # noqa: S310 -- the stack's own URL
        families = text_string_to_metric_families(reply.read().decode())
    found: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = ",".join(sample.labels.values())
        found[f"{sample.name}[{labels}]" if labels else sample.name] = sample.value
    return found


def _zipf(names: list[str], count: int) -> list[tuple[str, str]]:
    """(work, strategy) of each request: works by Zipf's law in an order of their own, strategies by their shares."""
    rng = np.random.default_rng(11)
    weights = 1.0 / np.arange(1, len(names) + 1) ** EXPONENT
    order = rng.permutation(len(names))
    works = order[rng.choice(len(names), size=count, p=weights / weights.sum())]
    strategies = rng.choice(len(STRATEGIES), size=count, p=SHARES)
    return [(names[work], STRATEGIES[which]) for work, which in zip(works, strategies, strict=True)]


def _traffic(stack: processes.BenchmarkStack, names: list[str], count: int, seconds: float) -> None:
    asked = _zipf(names, count)
    requests = [
        reads.get_request(
            f"/recommend/{quote(work, safe='')}" + ("" if how == "similarity" else f"?strategy={how}")
        )
        for work, how in asked
    ]
    api = stack.pids()["api"]
    server = reads.ServerUnderLoad(urlsplit(stack.state.http_url).port or 0, api)
    before = _counted(stack.state.http_url)
    result = reads.drive_load(server, requests, 32, seconds)
    after = _counted(stack.state.http_url)
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    done = (asked * (result["count"] // len(asked) + 1))[: result["count"]]
    computable = [each for each in done if each[1] != "similarity"]
    distinct = len(set(computable))
    computed = grown["mess_api_worker_requests_total"]
    redundant = len(computable) - distinct
    table = report.make_table(
        f"Zipf traffic (exponent {EXPONENT:g}), 32 connections, load {machine.load_average()}", "what", ""
    )
    rows = (
        ("requests answered", f"{len(done):,} at {result['rate']:,.0f}/s"),
        ("p50, p99 ms", f"{result['p50_ms']:.1f}, {result['p99_ms']:.1f}"),
        (
            "of these for another strategy than similarity",
            f"{len(computable):,}, {distinct:,} of them different",
        ),
        ("computed by workers", f"{computed:,.0f}"),
        ("share of requests that needed no computing", f"{1 - computed / len(done):.2%}"),
        ("share of redundant computing avoided", f"{1 - (computed - distinct) / redundant:.2%}"),
        ("shared a request under way", f"{grown['mess_api_worker_requests_shared_total']:,.0f}"),
        *(
            (f"answered from {source}", f"{grown.get(f'mess_api_reads_total[{source}]', 0):,.0f}")
            for source in ("memory", "checked", "lists", "bodies", "workers")
        ),
    )
    for row in rows:
        table.add_row(*row)
    report.print_table(table)


def main(*, quick: bool = False) -> None:
    """Run it and print the tables."""
    names = [track.track_id for track in catalogue.load_demo_catalogue().tracks]
    seconds = 5.0 if quick else 10.0
    with (
        tempfile.TemporaryDirectory(prefix="mess-bench-") as directory,
        processes.local_stack(Path(directory)) as stack,
    ):
        stack.wait_for_lists()
        time.sleep(REST_SECONDS)
        load = QuestionLoad(stack.state.http_url, names, seed=5)
        uvloop.run(load.run(20, 5.0))  # warm-up
        results = [uvloop.run(load.run(rate, seconds)) for rate in RATES]
        _show_rates(results)
        _show_weighed(uvloop.run(_weighed(stack.state.http_url, names, 60 if quick else 600)))
        _traffic(stack, names, 20_000 if quick else 100_000, 15.0 if quick else 30.0)


if __name__ == "__main__":
    main()
