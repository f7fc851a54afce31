"""How much each aspect of the demo catalogue counts in its lists; apart, so that `mess up` need not read the catalogue."""

from typing import Final

WEIGHTS: Final = "harmony:1,melody:3,rhythm:6,texture:4"
