"""A list that cannot be told of does not keep the others from being told."""

from typing import Any

import pytest

from streams.generations import FIRST_GENERATION
from streams.maintenance import change_messages
from streams.maintenance.change_messages import ChangeEncoder
from streams.maintenance.names import TrackNames
from streams.metrics import WorkerMetrics
from tests.unit.maintenance.test_pending_changes import changed_block

pytestmark = pytest.mark.unit


def test_one_list_that_cannot_be_encoded_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The messages of the others are made; an error of the environment is raised."""
    names, metrics = TrackNames(), WorkerMetrics()
    made = changed_block([1, 2, 3], 7)
    known = {int(key) for key in (*made.keys, *made.neighbours.ravel())}
    names.load(known, [f"t{key}" for key in known])
    encoder = ChangeEncoder(names, metrics, FIRST_GENERATION)
    real = change_messages.encode_list_change
    error: Exception = OverflowError("date value out of range")

    def broken(track_id: str, **fields: Any) -> Any:
        if track_id == "t2":
            raise error
        return real(track_id, **fields)

    monkeypatch.setattr(change_messages, "encode_list_change", broken)
    assert [key for key, _ in encoder.encode(made, {}, ()).messages] == [b"t1", b"t3"]
    value = metrics.registry.get_sample_value("mess_changes_published_total", {"kind": "left_out"})
    assert value == 1
    error = MemoryError()
    with pytest.raises(MemoryError):
        encoder.encode(made, {}, ())
