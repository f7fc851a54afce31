"""Which labels a catalogue has, and what is hidden while each is scored."""

import numpy as np
import pytest

from mess.evaluate import labels
from tests.unit.evaluate.helpers import groups, works

pytestmark = pytest.mark.unit


def test_facts_that_tell_a_label_are_hidden_with_it() -> None:
    """The era tells the form of every track and the key tells nothing of it."""
    (form,) = labels.labels_of_catalogue(groups())
    assert form.name == "form"
    assert form.hidden == {"form", "era"}


def test_a_label_with_one_value_tells_nothing_apart() -> None:
    """It is left out, as are those that nobody has."""
    assert labels.labels_of_catalogue(works(np.eye(3), [{"form": "jig"}] * 3)) == []


def test_anonymous_is_no_composer() -> None:
    """Two anonymous works do not belong together."""
    rows = [{"composer": name} for name in ("Bach", "Bach", "Anonymous", "Anonymous", "Josquin")]
    (composer,) = labels.labels_of_catalogue(works(np.eye(5), rows))
    assert composer.known.tolist() == [True, True, False, False, False]


def test_chance_is_the_share_of_other_tracks_with_the_label() -> None:
    """Of the two jigs one other of three has it, of the two reels likewise."""
    (form,) = labels.labels_of_catalogue(works(np.eye(4), [{"form": "jig"}] * 2 + [{"form": "reel"}] * 2))
    assert form.chance == pytest.approx(1 / 3)


def test_the_album_stands_in_for_a_collection() -> None:
    """Where no collection is known, as in most catalogues."""
    (collection,) = labels.labels_of_catalogue(works(np.eye(4), [{"album": "A"}] * 2 + [{"album": "B"}] * 2))
    assert collection.name == "collection"
    assert collection.codes.tolist() == [0, 0, 1, 1]
