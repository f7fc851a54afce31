"""What the API says of a stored list is what a worker says of the same two tracks."""

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.recommend.explanations import SENTENCE, facts_of
from streams.strategies import CandidateColumns, Candidates, Query, Seed, facts, fields_needed, select_list
from tests.support.examples import examples

pytestmark = pytest.mark.contract

# Spellings that are one and the same to a reader, or nearly, or nobody.
VALUES = (
    None,
    "",
    " ",
    "Bach",
    "bach",
    " BACH ",
    "Fauré",
    "Faure\u0301",
    "Straße",
    "STRASSE",
    "Anonymous",
    "trad. ",
    'a "trad." \\ 100 %',
)
tracks = st.fixed_dictionaries({name: st.sampled_from(VALUES) for name in (*facts.FIELDS, "title")})


@settings(max_examples=examples(300), deadline=None)
@given(tracks, tracks, st.floats(-1, 1, width=32))
def test_both_explain_a_track_alike(seed: dict[str, str], other: dict[str, str], similarity: float) -> None:
    """The same facts in the same order, and the same sentence, to the letter."""
    query = Query(seeds=(Seed(1, metadata=seed),))
    pool = Candidates(
        np.array([2]),
        np.array([0]),
        np.array([similarity], dtype=np.float32),
        metadata=CandidateColumns([other], fields_needed(query)),
    )
    (item,) = select_list(pool, query).items
    ours, theirs = facts_of(other), facts_of(seed)
    same = {known.split(":", 1)[0] for known in ours.known & theirs.known}
    assert (
        tuple((fact.said, other[fact.field].strip()) for fact in facts.FACTS if fact.field in same)
        == item.shared
    )
    told = SENTENCE % (similarity, ours.shared_with(theirs))
    assert orjson.loads(told) == item.explanation
