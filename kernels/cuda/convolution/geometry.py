"""The sizes of a convolution: all that decides which kernel takes it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...contract import Sides, as_padding, as_pair


class Geometry(NamedTuple):
    """Sizes of a convolution.

    ``maps`` is the shape of its input (N, H, W, C_in), ``weights`` that of its kernel (kh, kw, C_in of a group, C_out),
    ``out`` that of its result (N, H', W', C_out); ``stride`` is (down, across), ``padding`` are the sides.
    """

    maps: tuple[int, ...]
    weights: tuple[int, ...]
    out: tuple[int, ...]
    stride: tuple[int, int]
    padding: Sides
    groups: int

    @property
    def top(self) -> int:
        """Rows of padding above a map."""
        return self.padding[0][0]

    @property
    def left(self) -> int:
        """Columns of padding to the left of a map."""
        return self.padding[1][0]

    @property
    def pixels(self) -> int:
        """Pixels of the result."""
        return self.out[0] * self.out[1] * self.out[2]


def measure(
    maps: tuple[int, ...], weights: tuple[int, ...], stride: Any = 1, padding: Any = 0, groups: int = 1
) -> Geometry | None:
    """Return the sizes of a convolution of these shapes, or None for what makes no sense: the reference says why."""
    steps, sides = as_pair(stride), as_padding(padding)
    if steps is None or sides is None or len(maps) != 4 or len(weights) != 4:
        return None
    if groups < 1 or maps[3] != weights[2] * groups or weights[3] % groups or 0 in weights[:2]:
        return None
    down, across = ((maps[1 + i] + sum(sides[i]) - weights[i]) // steps[i] + 1 for i in (0, 1))
    if down < 1 or across < 1:
        return None
    return Geometry(tuple(maps), tuple(weights), (maps[0], down, across, weights[3]), steps, sides, groups)
