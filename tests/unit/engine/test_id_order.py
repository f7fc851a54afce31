"""The order of ids as integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine import id_order
from streams.engine.id_order import IdOrder

pytestmark = pytest.mark.unit

ids = st.lists(st.text(alphabet="abc\0é", max_size=4), unique=True, max_size=12)


@given(
    st.lists(st.tuples(ids, ids), max_size=12), st.sampled_from([2, 3, 512]), st.sampled_from([4, 1 << 32])
)
def test_labels_compare_as_the_ids_do(
    history: list[tuple[list[str], list[str]]], run: int, step: int
) -> None:
    """After any additions and removals, with runs and gaps so small that both are divided and spread again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_order, "RUN", run)
        patch.setattr(id_order, "STEP", step)
        order, held, given_out = IdOrder(), set(), {}
        for added, removed in history:
            generation = order.generation
            order.add(added)
            held |= set(added)
            now = dict(zip(sorted(held), order.labels(sorted(held)).tolist(), strict=True))
            if order.generation == generation:
                assert all(now[name] == label for name, label in given_out.items() if name in held)
            order.remove(removed)
            held -= set(removed)
            given_out = dict(zip(sorted(held), order.labels(sorted(held)).tolist(), strict=True))
            labels = list(given_out.values())
            assert labels == sorted(set(labels))
            assert all(label > 0 for label in labels)
