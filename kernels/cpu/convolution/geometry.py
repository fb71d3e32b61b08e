"""The sizes of a convolution: all that decides which kernel takes it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...contract import Sides, as_padding, as_pair


class Geometry(NamedTuple):
    """Sizes of a convolution with the same stride both ways.

    ``maps`` is the shape of its input (N, H, W, C_in), ``weights`` that of its kernel (kh, kw, C_in of a group, C_out),
    ``out`` that of its result (N, H', W', C_out); ``padding`` are the sides ((top, bottom), (left, right)).
    """

    maps: tuple[int, ...]
    weights: tuple[int, ...]
    out: tuple[int, ...]
    stride: int
    padding: Sides
    groups: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return self.out[1], self.out[2]

    @property
    def top(self) -> int:
        """Rows of padding above a map."""
        return self.padding[0][0]

    @property
    def left(self) -> int:
        """Columns of padding to the left of a map."""
        return self.padding[1][0]

    @property
    def per_in(self) -> int:
        """Input channels of a group."""
        return self.weights[2]

    @property
    def per_out(self) -> int:
        """Output channels of a group."""
        return self.weights[3] // self.groups

    def is_three_by_three(self, stride: int) -> bool:
        """Tell whether it is a 3x3 kernel with this stride."""
        return self.weights[:2] == (3, 3) and self.stride == stride


def measure(
    maps: tuple[int, ...], weights: tuple[int, ...], stride: Any = 1, padding: Any = 0, groups: int = 1
) -> Geometry | None:
    """Return the sizes of a convolution of these shapes, or None if there is no kernel for it.

    There is none for two different strides, and none for what makes no sense, about which the reference has something
    to say. ``stride`` and ``padding`` are as in ``conv2d``.
    """
    steps, sides = as_pair(stride), as_padding(padding)
    if steps is None or sides is None or steps[0] != steps[1] or len(maps) != 4 or len(weights) != 4:
        return None
    if groups < 1 or maps[3] != weights[2] * groups or weights[3] % groups:
        return None
    step = steps[0]
    down, across = ((maps[1 + i] + sum(sides[i]) - weights[i]) // step + 1 for i in (0, 1))
    if down < 1 or across < 1 or 0 in weights:
        return None
    return Geometry(maps, weights, (maps[0], down, across, weights[3]), step, sides, groups)
