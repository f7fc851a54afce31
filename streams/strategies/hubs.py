"""Corrects for hubs, tracks that are similar to very many others."""

from dataclasses import replace
from typing import Final

import numpy as np

from streams.strategies.types import Candidates

# Of a track's own list, the first so many make its density; as many as in the paper.
NEIGHBOURS: Final = 10
NO_DENSITY: Final = "nothing is known of the candidates' own lists: hubs are not corrected"


def correct_hubs(pool: Candidates, strength: float) -> tuple[Candidates, tuple[str, ...]]:
    """The pool with similarity' = similarity - strength * (density - mean density) / 2, and notes.

    With strength 1 and one seed x, similarity' ranks as CSLS = 2 cos(x, y) - r(x) - r(y) does, r being the mean cosine
    of a track to its `NEIGHBOURS` nearest (the density): r(x) is the same for every candidate. The mean density of
    the pool, which is the same for every candidate too, keeps the values near the cosine's own scale.
    A. Conneau, G. Lample, M. Ranzato, L. Denoyer and H. Jegou, "Word translation without parallel data", ICLR 2018,
    section 2.3; on local scaling against hubs: D. Schnitzer, A. Flexer, M. Schedl and G. Widmer, "Local and global
    scaling reduce hubs in space", JMLR 13, 2012.
    """
    if strength == 0 or not len(pool):
        return pool, ()
    if pool.density is None:
        return pool, (NO_DENSITY,)
    lowered = pool.similarity - strength / 2 * (pool.density - pool.density.mean())
    return replace(pool, similarity=lowered.astype(np.float32)), ()
