"""Inner loops of the engine, compiled by numba: search of a product's rows, merging (departures are in `departing`).

Importing this module imports numba and compiles, or loads what an earlier process compiled; `accelerate` does it without
stalling anyone. Each function has a twin in numpy, which the engine uses until then; the tests hold one against the other.
All release the interpreter's lock, so that rows may be shared out among threads.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from streams.engine.types import EntryLimits, TrackArrays

Function = TypeVar("Function", bound=Callable[..., object])

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]
# Which row may enter which list, with which similarity, flat: index into `rows`, int32 (n,), target slot, int32 (n,), and
# similarity, float32 (n,), at or above the horizon's. Only the first so many count while a search goes on.
Entries = tuple[Ints, Ints, Floats]

# Sums may be reordered: in float64 the order does not show (see `similarity`). No NaN ever gets here; infinities do.
_FAST = {"reassoc", "contract", "nsz", "nnan"}
# Entries of a row looked at together; most blocks hold nothing and are left after one comparison.
BLOCK = 64


def _compiled(function: Function) -> Function:
    return cast("Function", numba.njit(cache=True, nogil=True, fastmath=_FAST, boundscheck=False)(function))


def _inlined(function: Function) -> Function:
    """Copied into what calls it, before anything is compiled: no call is left for the compiler to keep."""
    return cast(
        "Function", numba.njit(nogil=True, fastmath=_FAST, boundscheck=False, inline="always")(function)
    )


@_compiled
def _similarity(one: Floats, other: Floats) -> np.float32:
    total = np.float64(0)
    for i in range(len(one)):
        total += np.float64(one[i]) * np.float64(other[i])
    return np.float32(total)


@_compiled
def similarities(vectors: Floats, one: Ints, others: Ints) -> Floats:
    """`exact_similarity` of pairs of slots, float32 (n,)."""
    found = np.empty(len(one), dtype=np.float32)
    for i in range(len(one)):
        found[i] = _similarity(vectors[one[i]], vectors[others[i]])
    return found


# Blocks of a known length, and counts instead of maxima: so the compiler uses the widest instructions there are.
@_compiled
def _reaches(block: Floats, bound: np.float32) -> bool:
    """Whether any value reaches a bound."""
    count = np.int32(0)
    if len(block) == BLOCK:
        for i in range(BLOCK):
            count += np.int32(block[i] >= bound)
    else:
        for i in range(len(block)):
            count += np.int32(block[i] >= bound)
    return bool(count > 0)


@_compiled
def _reaches_either(block: Floats, bound: np.float32, bounds: Floats) -> bool:
    """Whether any value reaches a bound, or its own."""
    count = np.int32(0)
    if len(block) == BLOCK:
        for i in range(BLOCK):
            count += np.int32((block[i] >= bound) | (block[i] >= bounds[i]))
    else:
        for i in range(len(block)):
            count += np.int32((block[i] >= bound) | (block[i] >= bounds[i]))
    return bool(count > 0)


@_compiled
def _kth(row: Floats, kept: int, highest: Floats) -> np.float32:
    """A value that at least `kept` entries of a row reach; see `similarity.group_maxima`."""
    width, groups = len(row), len(highest)
    if width <= kept:
        return np.float32(-np.inf)
    if width < 2 * groups:
        return np.float32(np.partition(row, width - kept)[width - kept])
    for g in range(groups):
        highest[g] = row[g]
    start = groups
    while start + groups <= width:
        for g in range(groups):
            value = row[start + g]
            highest[g] = max(highest[g], value)
        start += groups
    for g in range(width - start):
        value = row[start + g]
        highest[g] = max(highest[g], value)
    return np.float32(np.partition(highest, groups - kept)[groups - kept])


@_compiled
def _insert(
    slots: Ints,
    scores: Floats,
    length: int,
    slot: int,
    score: np.float32,
    labels: Labels,
) -> int:
    """Insert into a sorted row of `length` entries; its place, the row's width if past the end, -1 if there already."""
    width = len(slots)
    low, high = 0, length
    while low < high:
        middle = (low + high) // 2
        other = scores[middle]
        if other > score or (other == score and labels[slots[middle]] < labels[slot]):
            low = middle + 1
        else:
            high = middle
    if low < length and slots[low] == slot:
        return -1
    if low >= width:
        return width
    last = length if length < width else width - 1
    for i in range(last, low, -1):
        slots[i] = slots[i - 1]
        scores[i] = scores[i - 1]
    slots[low] = slot
    scores[low] = score
    return low


@_inlined
def _offer(slots: Ints, scores: Floats, length: int, slot: int, score: np.float32, labels: Labels) -> int:
    """Insert into a sorted row, unless it is there already or ranks past the end; the row's length then."""
    place = _insert(slots, scores, length, slot, score, labels)
    return min(length + 1, len(slots)) if 0 <= place < len(slots) else length


@_compiled
def _no_entries(room: int) -> Entries:
    return np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32), np.empty(room, dtype=np.float32)


@_inlined
def _with_room(row_of: Ints, targets: Ints, scores: Floats, count: int, more: int) -> Entries:
    """Arrays that hold the first `count` entries and have room for so many more: these, or longer ones."""
    if count + more <= len(row_of):
        return row_of, targets, scores
    longer = _no_entries(max(2 * len(row_of), count + more))
    longer[0][:count], longer[1][:count], longer[2][:count] = row_of[:count], targets[:count], scores[:count]
    return longer


# One loop and many arguments: what is inlined here runs a million times a batch.
@_compiled
def search(  # noqa: C901, PLR0912, PLR0915
    product: Floats,
    rows: Ints,
    wanted: Flags,
    tracks: TrackArrays,
    entry: EntryLimits,
    best: Ints,
    best_scores: Floats,
    groups: int,
) -> tuple[Ints, Ints, Floats, int]:
    """The lists of some tracks, and the lists that these enter.

    Args:
        product: float32 (m, used), at least the similarity less the entry's `error`.
        rows: int32 (m,), the tracks' slots.
        wanted: bool (m,), whose lists to make.
        tracks: All tracks.
        entry: What lets a track enter a list; its bounds are those of the `used` slots.
        best: int32 (m, kept), filled with the lists of `wanted`; EMPTY before.
        best_scores: float32 (m, kept), likewise; -inf before.
        groups: How many group maxima to take.

    Returns:
        Which row may enter which list, with which similarity, flat: index into `rows`, int32 (n,), target slot,
        int32 (n,), similarity, float32 (n,), at or above the horizon's; and how many similarities were computed.
    """
    vectors, alive, labels = tracks
    bounds, horizon, error = entry
    used, kept = product.shape[1], best.shape[1]
    row_of, targets, scores = _no_entries(256 * len(rows) + 1024)
    known = np.empty(used, dtype=np.float32)
    highest = np.empty(groups, dtype=np.float32)
    count, computed = 0, 0
    for i in range(len(rows)):
        row_of, targets, scores = _with_room(row_of, targets, scores, count, used)
        row, slot = product[i], rows[i]
        length, first, own = 0, np.float32(np.inf), np.float32(np.inf)
        ready = 0
        if wanted[i]:
            first = _kth(row, kept + 1, highest)  # the track itself is one of those that reach it
            for start in range(0, used, BLOCK):
                stop = min(start + BLOCK, used)
                most = np.float32(-np.inf)
                for j in range(start, stop):
                    most = max(most, row[j])
                if most < first:
                    continue
                for j in range(start, stop):
                    if row[j] >= first:
                        score = np.float32(-np.inf)
                        if alive[j] and j != slot:
                            score = _similarity(vectors[slot], vectors[j])
                            computed += 1
                            length = _offer(best[i], best_scores[i], length, j, score, labels)
                        known[ready] = score
                        ready += 1
            own = best_scores[i, kept - 1] - error if length == kept else np.float32(-np.inf)
        ready = 0
        for start in range(0, used, BLOCK):
            stop = min(start + BLOCK, used)
            # What the first pass has computed is counted along, so that its blocks aren't left out.
            if not _reaches_either(row[start:stop], min(own, first), bounds[start:stop]):
                continue
            for j in range(start, stop):
                value = row[j]
                seen = value >= first
                if seen:
                    score = known[ready]
                    ready += 1
                    if value < bounds[j]:
                        continue
                else:
                    if (value < own and value < bounds[j]) or not alive[j] or j == slot:
                        continue
                    score = _similarity(vectors[slot], vectors[j])
                    computed += 1
                    if value >= own and (length < kept or score >= best_scores[i, kept - 1]):
                        length = _offer(best[i], best_scores[i], length, j, score, labels)
                        if length == kept:
                            own = best_scores[i, kept - 1] - error
                if value < bounds[j] or score < horizon[j] or not alive[j] or j == slot:
                    continue
                row_of[count], targets[count], scores[count] = i, j, score
                count += 1
    return row_of[:count], targets[:count], scores[:count], computed


@_compiled
def _dot(one: Floats, other: Floats) -> np.float32:
    total = np.float32(0)
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


# As above.
@_compiled
def search_near(  # noqa: C901, PLR0912, PLR0913, PLR0917
    rows: Ints,
    probes: Ints,
    members: Ints,
    counts: Ints,
    matrix: Floats,
    tracks: TrackArrays,
    list_of: Ints,
    slots: Ints,
    entry: EntryLimits,
    best: Ints,
    best_scores: Floats,
    hops: int,
) -> tuple[Ints, Ints, Floats, int]:
    """As `search`, looking only at members of some cells, lists as they are, and lists of the nearest found there.

    Args besides those of `search`:
        probes: int32 (m, p), which cells.
        members: int32 (cells, room), slots.
        counts: int32 (cells,).
        matrix: float32 (slots, c), whose products are at least the similarity less the entry's `error`.
        list_of: int32 (slots,), which row of `slots` a track's list is.
        slots: int32 (rows, kept), the lists as they are.
        hops: The lists of so many of the nearest are looked at.

    Returns:
        As `search`.
    """
    vectors, alive, labels = tracks
    bounds, horizon, error = entry
    kept = best.shape[1]
    row_of, targets, scores = _no_entries(256 * len(rows) + 1024)
    seen = np.full(len(bounds), -1, dtype=np.int32)
    queue = np.empty(max(kept + probes.shape[1] * members.shape[1], hops * kept), dtype=np.int32)
    count, computed = 0, 0
    for i in range(len(rows)):
        row_of, targets, scores = _with_room(row_of, targets, scores, count, 2 * len(queue))
        slot = rows[i]
        seen[slot] = i
        length, own = 0, np.float32(-np.inf)
        for stage in range(2):
            waiting = 0
            if stage == 0:
                # What the list holds already is not to be lost.
                for j in slots[list_of[slot]]:
                    if j >= 0:
                        queue[waiting] = j
                        waiting += 1
                for cell in probes[i]:
                    for n in range(counts[cell]):
                        queue[waiting] = members[cell, n]
                        waiting += 1
            else:
                for n in range(min(hops, length)):
                    for j in slots[list_of[best[i, n]]]:
                        if j >= 0:
                            queue[waiting] = j
                            waiting += 1
            for n in range(waiting):
                j = queue[n]
                if seen[j] == i or not alive[j]:
                    continue
                seen[j] = i
                value = _dot(matrix[slot], matrix[j])
                if value < own and value < bounds[j]:
                    continue
                score = _similarity(vectors[slot], vectors[j])
                computed += 1
                if value >= own:
                    length = _offer(best[i], best_scores[i], length, j, score, labels)
                    own = best_scores[i, kept - 1] - error if length == kept else own
                if value < bounds[j] or score < horizon[j]:
                    continue
                row_of[count], targets[count], scores[count] = i, j, score
                count += 1
    return row_of[:count], targets[:count], scores[:count], computed


# As above.
@_compiled
def search_among(  # noqa: C901, PLR0912
    product: Floats,
    rows: Ints,
    among: Ints,
    tracks: TrackArrays,
    entry: EntryLimits,
    best: Ints,
    best_scores: Floats,
    groups: int,
) -> tuple[Ints, Ints, Floats, int]:
    """As `search`, looking only at some tracks, and bettering lists that there are.

    Args besides those of `search`:
        product: float32 (m, w), at least the similarity less the entry's `error`.
        among: int32 (w,), the slots looked at, each once; the entry's bounds are theirs.
        best: int32 (m, kept), the lists, changed in place; past the end EMPTY.
        best_scores: float32 (m, kept), likewise; past the end -inf.

    Returns:
        As `search`.
    """
    vectors, alive, labels = tracks
    bounds, horizon, error = entry
    width, kept = product.shape[1], best.shape[1]
    row_of, targets, scores = _no_entries(256 * len(rows) + 1024)
    highest = np.empty(groups, dtype=np.float32)
    count, computed = 0, 0
    for i in range(len(rows)):
        row_of, targets, scores = _with_room(row_of, targets, scores, count, width)
        row, slot, length, first = product[i], rows[i], kept, np.float32(np.inf)
        while length > 0 and best[i, length - 1] < 0:
            length -= 1
        if length < kept:
            first = _kth(row, kept + 1, highest)  # the track itself may be one of those that reach it
        # First what surely is among the best; then what may be, or may be entered by this track.
        for turn in range(2):
            own = best_scores[i, kept - 1] - error if length == kept else np.float32(-np.inf)
            if turn == 0:
                own = max(own, first)
            for start in range(0, width, BLOCK):
                stop = min(start + BLOCK, width)
                if turn == 0:
                    if first == np.inf or not _reaches(row[start:stop], own):
                        continue
                elif not _reaches_either(row[start:stop], own, bounds[start:stop]):
                    continue
                for n in range(start, stop):
                    value, j = row[n], among[n]
                    wanted = value >= own and (value >= first) == (turn == 0)
                    enters = turn == 1 and value >= bounds[n]
                    if not (wanted or enters) or j == slot or not alive[j]:
                        continue
                    score = _similarity(vectors[slot], vectors[j])
                    computed += 1
                    if wanted:
                        length = _offer(best[i], best_scores[i], length, j, score, labels)
                        if length == kept:
                            own = max(own, best_scores[i, kept - 1] - error)
                    if not enters or score < horizon[j]:
                        continue
                    row_of[count], targets[count], scores[count] = i, j, score
                    count += 1
    return row_of[:count], targets[:count], scores[:count], computed


@_compiled
def merge(  # noqa: PLR0913, PLR0917
    targets: Ints,
    newcomers: Ints,
    entries: Floats,
    list_of: Ints,
    slots: Ints,
    scores: Floats,
    lengths: npt.NDArray[np.int16],
    horizon: Floats,
    at_last: Flags,
    labels: Labels,
    published: int,
) -> Flags:
    """Enter newcomers, all above the horizon, into their target lists; see `NeighbourLists.merge`.

    Returns:
        Which of them stand in the published part in the end and did not before, bool (n,).
    """
    kept = slots.shape[1]
    entered = np.zeros(len(targets), dtype=np.bool_)
    for n in range(len(targets)):
        target = targets[n]
        row, length = list_of[target], lengths[target]
        place = _insert(slots[row], scores[row], length, newcomers[n], entries[n], labels)
        if place < 0:
            continue
        if length < kept:
            lengths[target] = length + 1
        else:
            horizon[target] = scores[row, kept - 1]
            at_last[row] = True
        entered[n] = place < published
    for n in range(len(targets)):
        if entered[n]:
            row, last = list_of[targets[n]], min(int(lengths[targets[n]]), published) - 1
            score, end = entries[n], scores[row, last]
            entered[n] = score > end or (score == end and labels[newcomers[n]] <= labels[slots[row, last]])
    return entered


def warm_kernels() -> None:
    """Compile everything for the types that the engine uses, or load it from the cache."""
    one, some = np.zeros(1, dtype=np.int32), np.full((1, 2), -1, dtype=np.int32)
    vectors, scores = np.ones((1, 2), dtype=np.float32), np.full((1, 2), -np.inf, dtype=np.float32)
    flags, labels, value = (
        np.ones(1, dtype=np.bool_),
        np.zeros(1, dtype=np.int64),
        np.zeros(1, dtype=np.float32),
    )
    lengths = np.zeros(1, dtype=np.int16)
    tracks, entry = TrackArrays(vectors, flags, labels), EntryLimits(value, value, np.float32(0))
    similarities(vectors, one, one)
    search(value[None, :], one, flags, tracks, entry, some, scores, 20)
    search_near(one, some + 1, some, one, vectors, tracks, one, some, entry, some, scores, 1)
    search_among(value[None, :], one, one, tracks, entry, some, scores, 20)
    merge(one[:0], one[:0], value[:0], one, some, scores, lengths, value, flags, labels, 1)
