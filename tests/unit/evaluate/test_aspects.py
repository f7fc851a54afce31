"""What an aspect is worth, told by hand."""

from typing import Any

import numpy as np
import pytest

from mess.evaluate.aspects import NEAREST, QUESTIONS, WHOLE, AspectFigures, AspectQuestion, measure
from streams.strategies.aspects import Layout
from tests.unit.evaluate.helpers import works

pytestmark = pytest.mark.unit

EACH = 15
BOOKS = 2


def figures(question: AspectQuestion, rows: list[dict[str, Any]], telling: list[int]) -> AspectFigures:
    """The figures of a catalogue whose aspect `first` points where `telling` says, and whose `second` is drawn."""
    random = np.random.default_rng(1)
    first = np.eye(max(telling) + 1)[telling] + 0.01 * random.normal(size=(len(rows), max(telling) + 1))
    second = random.normal(size=(len(rows), 4))
    catalogue = works(
        np.hstack([first, second]), rows, layout=Layout.of_sizes({"first": first.shape[1], "second": 4})
    )
    (made,) = measure(catalogue, 0, [question])
    return made


def dances() -> tuple[list[dict[str, Any]], list[int]]:
    """Reels, jigs and waltzes in two books, and a form that is no dance."""
    forms = ["reel", "jig", "waltz"]
    rows = [{"form": form, "album": f"book {number % BOOKS}"} for form in forms for number in range(2 * EACH)]
    rows += [{"form": "fugue", "album": "book 0"}] * 5
    return rows, [min(number // (2 * EACH), 3) for number in range(len(rows))]


def test_the_aspect_that_tells_a_label_is_right_and_the_other_is_as_chance() -> None:
    """All ten nearest by the first aspect share the dance type; by the second about as many as drawn at random."""
    made = figures(QUESTIONS[1], *dances())
    assert (made.seeds, made.listed) == (6 * EACH, 6 * EACH)
    assert made.chance == pytest.approx(1 / 3)
    assert made.figures["first"].mean == 1.0
    assert made.figures["second"].mean == pytest.approx(1 / 3, abs=0.1)
    assert set(made.figures) == {"first", "second", WHOLE}


def test_a_book_does_not_answer_for_its_own_tracks() -> None:
    """Where every label is in one book, no list could be right: nothing is asked."""
    rows, telling = dances()
    for row, where in zip(rows, telling, strict=True):
        row["album"] = f"book {where}"
    catalogue = works(np.eye(4)[telling] + 0.1, rows, layout=Layout.of_sizes({"first": 2, "second": 2}))
    assert measure(catalogue, 0, [QUESTIONS[1]]) == []


def test_a_twin_is_found_if_it_is_among_the_ten() -> None:
    """Versions of a tune are told by their titles without articles; one of them in a list makes it right."""
    titles = [f"tune {number}" for number in range(12)]
    rows = [{"title": f"The {title.title()}", "album": "one"} for title in titles]
    rows += [{"title": f"{title}, the", "album": "two"} for title in titles]
    made = figures(QUESTIONS[2], rows, [*range(12), *range(12)])
    assert made.figures["first"].mean == 1.0
    # Ten of the twelve of the other book hold the twin that often.
    assert made.chance == pytest.approx(NEAREST / 12)


def test_a_catalogue_without_aspects_is_asked_nothing() -> None:
    """There is nothing to tell apart."""
    assert measure(works(np.eye(4)), 0) == []
