"""Does nearness mean something? How often a work's nearest share its label, beside what chance would give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mess.demo.catalogue import DemoCatalogue, DemoTrack

NEAREST = 10
DANCES = frozenset({"reel", "jig", "hornpipe", "slip jig", "strathspey", "waltz", "clog", "highland fling"})
# A composer of fewer works than this could not fill half a list of ten.
FEWEST_OF_COMPOSER = 6
_ROWS = 1024


@dataclass(frozen=True)
class QualityQuestion:
    """What is asked: the label of a work (None leaves it out), and whether its own collection may answer.

    With `within`, only works that have a label are candidates; without, the whole catalogue is.
    """

    name: str
    label: Callable[[DemoTrack], str | None]
    within: bool = False
    other_collections: bool = False


@dataclass(frozen=True)
class Answer:
    """Shares from 0 to 1.

    Attributes:
        name: The question's name.
        works: How many works were asked.
        labels: How many different labels they have.
        share: Of the ten nearest, those with the work's own label.
        expected: The same for candidates drawn at random, from the labels' frequencies.
        balanced: The share averaged over the labels, so that a large one counts no more than a small one.
        shuffled: The share with the labels dealt out anew at random, as measured.
    """

    name: str
    works: int
    labels: int
    share: float
    expected: float
    balanced: float
    shuffled: float


def collection(track: DemoTrack) -> str | None:
    """Label: the collection."""
    return str(track.metadata["collection"])


def dance(track: DemoTrack) -> str | None:
    """Label: the type of a dance tune."""
    form = track.metadata.get("form")
    return form if form in DANCES else None


def composer_label(track: DemoTrack) -> str | None:
    """Label: the composer, where known."""
    name = track.metadata.get("composer")
    return None if name in (None, "Anonymous") else str(name)


QUESTIONS = (
    QualityQuestion("collection", collection),
    QualityQuestion("dance type, among all works", dance),
    QualityQuestion("dance type, among dance tunes", dance, within=True),
    QualityQuestion(
        "dance type, among dance tunes of other collections", dance, within=True, other_collections=True
    ),
    QualityQuestion("composer, among all works", composer_label),
    QualityQuestion("composer, among works of known composers", composer_label, within=True),
)


def measure(
    catalogue: DemoCatalogue,
    questions: Sequence[QualityQuestion] = QUESTIONS,
    sample: int | None = None,
    seed: int = 0,
) -> list[Answer]:
    """Answer each question by brute-force cosine over the catalogue.

    Args:
        catalogue: Rows of unit length.
        questions: What to ask.
        sample: Ask at most this many works of each question, drawn at random; all if None.
        seed: For the sample and the shuffled control.
    """
    return [_answer(catalogue, question, sample, np.random.default_rng(seed)) for question in questions]


def _answer(
    catalogue: DemoCatalogue, question: QualityQuestion, sample: int | None, random: np.random.Generator
) -> Answer:
    codes, count = _codes([question.label(track) for track in catalogue.tracks])
    groups = _codes([collection(track) for track in catalogue.tracks])[0]
    if question.label is composer_label:
        sizes = np.bincount(codes[codes >= 0], minlength=count)
        codes = np.where(np.isin(codes, np.flatnonzero(sizes >= FEWEST_OF_COMPOSER)), codes, -1)
    asked = np.flatnonzero(codes >= 0)
    if sample is not None and sample < len(asked):
        asked = np.sort(random.choice(asked, sample, replace=False))
    candidates = np.flatnonzero(codes >= 0) if question.within else np.arange(len(codes))
    barred = groups if question.other_collections else None
    nearest = nearest_rows(catalogue.embeddings, asked, candidates, barred)
    shuffled = codes.copy()
    labelled = np.flatnonzero(codes >= 0)
    shuffled[labelled] = random.permutation(codes[labelled])
    return Answer(
        name=question.name,
        works=len(asked),
        labels=len(np.unique(codes[asked])),
        share=_share(codes, asked, nearest),
        expected=_expected(codes, asked, candidates, barred),
        balanced=_balanced_share(codes, asked, nearest),
        shuffled=_share(shuffled, asked, nearest),
    )


def _codes(labels: list[str | None]) -> tuple[NDArray[np.int64], int]:
    names = {name: code for code, name in enumerate(sorted({label for label in labels if label is not None}))}
    return np.array([-1 if label is None else names[label] for label in labels]), len(names)


def nearest_rows(
    embeddings: NDArray[np.float32],
    asked: NDArray[np.int64],
    candidates: NDArray[np.int64],
    barred: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the ten nearest candidates of each asked row, shape (len(asked), 10), the row itself left out.

    Args:
        embeddings: Unit rows, shape (n, d).
        asked: Row numbers.
        candidates: Row numbers, more than ten of them.
        barred: A group for each row; candidates of the asked row's own group are left out.
    """
    found = np.empty((len(asked), NEAREST), np.int64)
    columns = embeddings[candidates].T
    for start in range(0, len(asked), _ROWS):
        rows = asked[start : start + _ROWS]
        similarity = embeddings[rows] @ columns
        similarity[rows[:, None] == candidates] = -np.inf
        if barred is not None:
            similarity[barred[rows][:, None] == barred[candidates]] = -np.inf
        top = np.argpartition(-similarity, NEAREST, axis=1)[:, :NEAREST]
        found[start : start + _ROWS] = candidates[top]
    return found


def _share(codes: NDArray[np.int64], asked: NDArray[np.int64], nearest: NDArray[np.int64]) -> float:
    return float((codes[nearest] == codes[asked][:, None]).mean())


def _balanced_share(codes: NDArray[np.int64], asked: NDArray[np.int64], nearest: NDArray[np.int64]) -> float:
    own = codes[asked]
    shares = (codes[nearest] == own[:, None]).mean(axis=1)
    return float(np.mean([shares[own == label].mean() for label in np.unique(own)]))


def _expected(
    codes: NDArray[np.int64],
    asked: NDArray[np.int64],
    candidates: NDArray[np.int64],
    barred: NDArray[np.int64] | None,
) -> float:
    """Mean chance that a random candidate has the asked work's label."""
    # An asked work is among its own candidates, and can't be its own neighbour, unless its collection is barred.
    own = 0 if barred is not None else 1
    chances = []
    for row in asked:
        allowed = candidates if barred is None else candidates[barred[candidates] != barred[row]]
        chances.append(((codes[allowed] == codes[row]).sum() - own) / (len(allowed) - own))
    return float(np.mean(chances))
