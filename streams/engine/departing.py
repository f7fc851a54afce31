"""The inner loop that takes tracks out of lists, compiled by numba; see `kernels`."""

import numba
import numpy as np
import numpy.typing as npt


@numba.njit(cache=True, nogil=True, boundscheck=False)
def remove(
    which: npt.NDArray[np.int32],
    list_of: npt.NDArray[np.int32],
    slots: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
    lengths: npt.NDArray[np.int16],
    used: int,
    published: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Take tracks out of every list that names them.

    Args:
        which: int32 (slots,), the index of the event by which a slot's track leaves; negative: it stays.
        list_of: int32 (slots,), which row of `slots` and `scores` a track's list is.
        slots: int32 (rows, kept).
        scores: float32 (rows, kept).
        lengths: int16 (slots,).
        used: How many slots to look through.
        published: How many entries of a list are published.

    Returns:
        The lists that have lost entries, (m,); the latest event behind it, (m,); whether the published part is
        another, (m,); and the slot that stood last, (m,).
    """
    kept = slots.shape[1]
    rows = np.empty(used, dtype=np.int32)
    latest = np.empty(used, dtype=np.int32)
    seen = np.empty(used, dtype=np.bool_)
    last = np.empty(used, dtype=np.int32)
    count = 0
    for target in range(used):
        row, length = list_of[target], lengths[target]
        most = np.int32(-1)
        for i in range(length):
            cause = which[slots[row, i]]
            most = max(most, cause)
        if most < 0:
            continue
        rows[count], latest[count], last[count] = target, most, slots[row, length - 1]
        seen[count] = False
        place = 0
        for i in range(length):
            slot = slots[row, i]
            if which[slot] >= 0:
                seen[count] = seen[count] or i < published
                continue
            slots[row, place] = slot
            scores[row, place] = scores[row, i]
            place += 1
        for i in range(place, kept):
            slots[row, i] = -1
            scores[row, i] = -np.inf
        lengths[target] = place
        count += 1
    return rows[:count], latest[:count], seen[:count], last[:count]


def warm_departures() -> None:
    """Compile for the types that the engine uses, or load it from the cache."""
    which, slots = np.full(1, -1, dtype=np.int32), np.full((1, 2), -1, dtype=np.int32)
    remove(
        which,
        np.zeros(1, dtype=np.int32),
        slots,
        np.zeros((1, 2), dtype=np.float32),
        np.zeros(1, dtype=np.int16),
        1,
        1,
    )
