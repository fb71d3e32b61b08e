"""How maps are cut into Winograd's tiles, 4x4 outputs each, and where the pixels of a tile stand in memory.

The 14x14 maps of a RoI head would need 4x4 tiles each, 16x16 outputs, of which a quarter is thrown away. So small maps
are laid on one sheet, side by side and one below the other, with a pixel of zeros between them: that one pixel is the
padding of both neighbours. Four maps in a row are 59 pixels wide, 15 tiles instead of 16.

The sheet is never made: a table of addresses says where each pixel of a patch is, and what lies between the maps is
read from a row of zeros, or written where nobody looks. Maps that share a tile share its rounding error.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from numba import njit

N = 4  # outputs along one side of a tile
MOST_ACROSS = 4  # maps side by side: four times any width and the gaps leave exactly one pixel of a tile unused


class Sheets(NamedTuple):
    """Sheets of ``tiles_y`` x ``tiles_x`` tiles; each has ``down`` x ``across`` maps, the last may have fewer."""

    tiles: int
    tiles_y: int
    tiles_x: int
    down: int
    across: int


@lru_cache
def lay_out(maps: int, height: int, width: int) -> Sheets:
    """Return the arrangement of ``maps`` maps that takes the fewest tiles; if nothing is gained, a sheet for each."""

    def arrange(down: int, across: int) -> Sheets:
        tiles_y, tiles_x = (-(-(n * (size + 1) - 1) // N) for n, size in ((down, height), (across, width)))
        return Sheets(-(-maps // (down * across)) * tiles_y * tiles_x, tiles_y, tiles_x, down, across)

    in_a_row = range(1, min(MOST_ACROSS, maps) + 1)
    arrangements = [arrange(down, across) for across in in_a_row for down in (1, -(-maps // across))]
    return min(arrangements, key=lambda arrangement: arrangement.tiles)  # the first of equals


@njit(cache=True, error_model="numpy", inline="never")
def addresses(x, sheets, tile, offset, elsewhere, table):
    """Write where the pixels of a tile's patch stand, from ``offset`` pixels above and to the left of its outputs on.

    What lies outside the maps is ``elsewhere``.
    """
    maps, height, width, channels = x.shape
    sheet, rest = divmod(tile, sheets.tiles_y * sheets.tiles_x)
    above, row = divmod(rest // sheets.tiles_x * N - offset, height + 1)  # maps above; the row within a map, or the gap
    first_beside, first_col = divmod(rest % sheets.tiles_x * N - offset, width + 1)
    for i in range(table.shape[0]):
        beside, col = first_beside, first_col
        for j in range(table.shape[1]):
            n = (sheet * sheets.down + above) * sheets.across + beside
            inside = row < height and col < width and above < sheets.down and beside < sheets.across and n < maps
            table[i, j] = x.ctypes.data + ((n * height + row) * width + col) * channels * 4 if inside else elsewhere
            col += 1
            if col > width:
                col = 0
                beside += 1
        row += 1
        if row > height:
            row = 0
            above += 1
