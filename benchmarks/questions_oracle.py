"""Ten thousand random questions of every kind to a catalogue that changes, each held against brute force.

One answer process lives through all of it. The catalogue grows and shrinks between a handful and 500 tracks, which are
withdrawn, moved and described anew; popularity and what lists say change with it. Exit status 1 where an answer is wrong.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import orjson

from benchmarks import report
from streams.recommender.answering import AnswerProcess
from streams.recommender.catalogue_questions import Body, CatalogueQuestion, RefusedQuestion
from streams.strategies import InvalidQuery, Query
from tests.support.question_catalogues import (
    batch_of,
    some_facts,
    some_popularity,
    some_question,
    some_tracks,
)
from tests.support.question_oracle import Known, Oracle, differences

DIMENSION = 8
QUESTIONS, QUICK = 10_000, 1_000
# Questions between two changes of the catalogue.
BETWEEN = 20
LARGEST = 500
# Of what is wrong, so many questions are printed.
SHOWN = 10


@dataclass
class OracleOutcome:
    """How many questions of each kind were asked, and what was wrong with which."""

    asked: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    short: int = 0
    relaxed: int = 0
    told: list[str] = field(default_factory=list)

    def note(self, query: Query, found: list[str]) -> None:
        """Count a question, and whether its answer is right."""
        for kind in _kinds(query):
            self.asked[kind] += 1
            self.wrong[kind] += bool(found)
        if found:
            self.told.append(f"{query}: {'; '.join(found)}")


def _kinds(query: Query) -> list[str]:
    """What a question has, of all that it can have."""
    caps = [
        name
        for name in ("composer", "artist", "album", "list_share")
        if getattr(query.caps, name) is not None
    ]
    has = {
        "by vector": query.embedding is not None,
        "by several seeds": len(query.seeds) > 1,
        "negatives": bool(query.negatives),
        "exclude": bool(query.exclude),
        "near-duplicates": query.near_duplicates is not None,
        "hub correction": query.hub_correction > 0,
        "never relaxed": query.at_least == 0,
    }
    return [
        f"strategy {query.strategy}" + (f"/{query.mode}" if query.mode else ""),
        *(f"cap by {name}" for name in caps),
        *sorted({f"filter on {condition.field}: {condition.kind}" for condition in query.filters}),
        *(kind for kind, there in has.items() if there),
    ]


async def _check(process: AnswerProcess, oracle: Oracle, query: Query, outcome: OracleOutcome) -> None:
    answer = await process.answer(CatalogueQuestion(query, (query.strategy, query.mode)))
    try:
        expected = oracle.answer(query)
    except InvalidQuery:
        outcome.refused += 1
        outcome.note(query, [] if isinstance(answer, RefusedQuestion) else [f"not refused, but {answer}"])
        return
    if not isinstance(answer, Body):
        outcome.note(query, [f"no body, but {answer}"])
        return
    outcome.short += len(expected.items) < query.top_k
    outcome.relaxed += bool(expected.relaxed)
    outcome.note(query, differences(orjson.loads(answer.computed), expected, query))


async def _run(questions: int, seed: int) -> OracleOutcome:
    random = np.random.default_rng(seed)
    outcome, tracks = OracleOutcome(), dict[str, Known]()
    process = AnswerProcess(DIMENSION)
    await process.start()
    try:
        for step in range(-(-questions // BETWEEN)):
            size = int(2 * (LARGEST / 2) ** random.random())
            # Down to what there may be, and then some that are new or come again.
            gone = random.permutation(sorted(tracks))[size:].tolist()
            kept = {name: one for name, one in tracks.items() if name not in set(gone)}
            changed = some_tracks(
                random, max(2, size // 3), DIMENSION, first=int(random.integers(0, LARGEST))
            )
            gone = [name for name in gone if name not in {one.track_id for one in changed}]
            tracks = kept | {one.track_id: one for one in changed}
            await process.apply(batch_of(changed, gone, step, DIMENSION))
            everything = list(tracks.values())
            popularity, facts = some_popularity(random, everything), some_facts(random, everything)
            await process.know_popularity(popularity)
            await process.know_lists(facts)
            oracle = Oracle(everything, popularity, facts)
            for _ in range(min(BETWEEN, questions - step * BETWEEN)):
                await _check(process, oracle, some_question(random, everything, DIMENSION), outcome)
            if step % 50 == 49:
                report.progress(f"{(step + 1) * BETWEEN:,} questions, {len(outcome.told)} wrong")
    finally:
        await process.stop()
    return outcome


def _show(outcome: OracleOutcome, questions: int, seconds: float) -> None:
    table = report.make_table(
        f"{questions:,} questions against brute force, {seconds:,.0f} s", "what", "asked", "wrong"
    )
    for kind, count in sorted(outcome.asked.items()):
        table.add_row(kind, f"{count:,}", f"{outcome.wrong[kind]:,}")
    table.add_row("all", f"{questions:,}", f"{len(outcome.told):,}")
    report.print_table(
        table,
        f"{outcome.relaxed:,} relaxed a condition, {outcome.short:,} were short as no answer could be longer, "
        f"{outcome.refused:,} were refused.",
    )
    for text in outcome.told[:SHOWN]:
        report.console.print(text, markup=False)


def check_questions(questions: int, seed: int = 1) -> int:
    """Ask, print the table, and return how many answers are wrong."""
    began = time.monotonic()
    outcome = asyncio.run(_run(questions, seed))
    _show(outcome, questions, time.monotonic() - began)
    return len(outcome.told)


def main(*, quick: bool = False) -> None:
    """Run it and print the table.

    Raises:
        RuntimeError: An answer is wrong.
    """
    if wrong := check_questions(QUICK if quick else QUESTIONS):
        raise RuntimeError(f"{wrong} answers are wrong")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions_oracle", description=__doc__)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(1 if check_questions(given.questions, given.seed) else 0)
