"""How large this machine's caches are, and the blocks of a matrix product that stay in them.

A product of two matrices is cut three times (Goto and van de Geijn 2008). With our tile of MR x NR results, whose right
side is a *panel* of NR columns and whose left side is MR rows:

- ``STRETCH`` steps of the sum at a time, so many that a panel of the right side stays in the first-level cache while
  all rows of a block pass by;
- ``ROWS`` of the left side in a block, so many that ``STRETCH`` columns of them stay in the second-level cache while
  all panels pass by.

How many that are follows from size and associativity alone (Low et al. 2016, "Analytical modeling is enough for
high-performance BLIS"): a set of a cache has ``ways`` lines; one is left for each of the other two matrices that pass
by, the rest holds the block that is to stay.

The rows follow the machine. The stretch does not, because it decides in which order numbers are added: it is that of
the smallest first-level cache there is, 32 KiB in sets of 8. Longer ones, which fit 48 KiB, gain nothing that could be
measured (192, 256 and 384 steps: 201, 198 and 201 GFLOP/s of 230 for the largest layer, on two cores with 32 KiB).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .simd import MR

FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux


class Cache(NamedTuple):
    """Bytes, and lines in a set."""

    size: int
    ways: int


#: what is assumed where no system says it: most processors have at least that
DEFAULT = Cache(512 << 10, 8)
LEAST = 64 << 10  # bytes; less has no second level


def read(folder: Path = FOLDER) -> Cache:
    """Return the second-level cache of a core; ``DEFAULT`` where it is not known.

    ``MRCNN_NP_CACHE=1280`` (KiB) says it by hand: to try what is done on another processor.
    """
    by_hand = os.environ.get("MRCNN_NP_CACHE")
    if by_hand:
        if not (by_hand.isdecimal() and len(by_hand) < 8 and int(by_hand) << 10 >= LEAST):
            raise ValueError(f"MRCNN_NP_CACHE is {by_hand!r}; expected the KiB of a second-level cache, at least 64")
        return Cache(int(by_hand) << 10, 8)
    for entry in sorted(folder.glob("index*")):
        try:
            level, kind, size, ways = (
                (entry / name).read_text().strip() for name in ("level", "type", "size", "ways_of_associativity")
            )
            if level == "2" and kind != "Instruction" and size.endswith("K") and int(size[:-1]) << 10 >= LEAST:
                return Cache(int(size[:-1]) << 10, int(ways))
        except (OSError, ValueError):
            continue
    return DEFAULT


def _share(cache: Cache) -> int:
    """Return the bytes of a cache that may hold what is to stay in it."""
    ways = cache.ways if cache.ways > 2 else 8  # virtual machines may say 0
    return cache.size * (ways - 2) // ways


def rows_of_a_block(second: Cache) -> int:
    """Return how many rows, a multiple of MR, of STRETCH numbers stay in a second-level cache."""
    return max(4 * MR, _share(second) // (STRETCH * 4) // MR * MR)


STRETCH = _share(Cache(32 << 10, 8)) // (32 * 4)  # 192; with the panels of AVX2, half as wide, it takes half the cache
ROWS = rows_of_a_block(read())
