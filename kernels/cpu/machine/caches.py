"""How large this machine's caches are, and the blocks of a matrix product that stay in them.

A product of two matrices is cut three times (Goto and van de Geijn 2008). With our tile of MR x NR results, whose right
side is a *panel* of NR columns and whose left side is MR rows:

- ``stretch`` steps of the sum at a time, so many that a panel of the right side stays in the first-level cache while
  all rows of a block pass by;
- ``rows`` of the left side in a block, so many that ``stretch`` columns of them stay in the second-level cache while
  all panels pass by.

How many that are follows from size and associativity alone (Low et al. 2016, "Analytical modeling is enough for
high-performance BLIS"): a set of a cache has ``ways`` lines; one is left for each of the other two matrices that pass
by, the rest holds the block that is to stay.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .simd import MR, NR

FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux
STEP = 64  # a stretch is a multiple of it: whole cache lines of a row, and a little more


class Cache(NamedTuple):
    """Bytes, and lines in a set."""

    size: int
    ways: int


#: what is assumed where no system says it: the first two levels of most processors have at least that
DEFAULT = (Cache(32 << 10, 8), Cache(512 << 10, 8))


def read(folder: Path = FOLDER) -> tuple[Cache, Cache]:
    """Return the first two levels of a core's data caches; ``DEFAULT`` where they are not known.

    ``MRCNN_NP_CACHES=48,1280`` (KiB) says it by hand: to try what is done on another processor.
    """
    by_hand = os.environ.get("MRCNN_NP_CACHES")
    if by_hand:
        parts = by_hand.split(",")
        if len(parts) != 2 or not all(part.strip().isdigit() and int(part) >= 4 for part in parts):
            raise ValueError(f"MRCNN_NP_CACHES is {by_hand!r}; expected the KiB of two caches, such as '48,1280'")
        return Cache(int(parts[0]) << 10, 8), Cache(int(parts[1]) << 10, 8)
    found = {}
    for entry in sorted(folder.glob("index*")):
        try:
            level, kind, size, ways = (
                (entry / name).read_text().strip() for name in ("level", "type", "size", "ways_of_associativity")
            )
            if kind != "Instruction" and size.endswith("K"):
                found[int(level)] = Cache(int(size[:-1]) << 10, int(ways))
        except (OSError, ValueError):
            continue
    first, second = (found.get(level, standard) for level, standard in zip((1, 2), DEFAULT))
    if min(first.size, second.size) < 4 << 10 or first.size > second.size:
        return DEFAULT
    return first, second


def _share(cache: Cache) -> int:
    """Return the bytes of a cache that may hold what is to stay in it."""
    ways = cache.ways if cache.ways > 2 else 8  # virtual machines may say 0
    return cache.size * (ways - 2) // ways


def blocks(caches: tuple[Cache, Cache]) -> tuple[int, int]:
    """Return ``stretch`` and ``rows`` (a multiple of MR) for these caches."""
    first, second = caches
    stretch = max(2 * STEP, _share(first) // (NR * 4) // STEP * STEP)
    rows = max(4 * MR, _share(second) // (stretch * 4) // MR * MR)
    return stretch, rows


STRETCH, ROWS = blocks(read())
