"""Anchors: the fixed boxes, several per cell of every pyramid level, that the region proposal network refines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from .config import Config


def network_anchors(
    image_shape: tuple[int, int],
    config: Config,
    *,
    feature_shapes: Sequence[tuple[int, int]] | None = None,
    dtype: np.dtype | type = np.float32,
) -> list[np.ndarray]:
    """Return the anchors that the network of a configuration lays over a canvas: ``pyramid_anchors`` with its fields.

    Parameters
    ----------
    image_shape : tuple ``(H, W)``
        The padded image, in pixels.
    config : Config
    feature_shapes : sequence of L pairs, optional
        Rows and columns of each feature map; by default the canvas divided by the cells' sides, rounded up.
    dtype : dtype

    Returns
    -------
    list of L ndarrays of shape (A, 4)
    """
    if feature_shapes is None:
        feature_shapes = [(-(-image_shape[0] // cell), -(-image_shape[1] // cell)) for cell in config.cells]
    return pyramid_anchors(
        image_shape,
        sizes=config.sizes_by_level,
        strides=config.anchor_strides,
        aspect_ratios=config.anchor_ratios,
        ratio_meaning=config.anchor_ratio_meaning,
        rounding=config.anchor_rounding,
        offset=config.anchor_offset,
        feature_shapes=feature_shapes,
        stride_from_grid=config.anchor_stride_from_grid,
        dtype=dtype,
    )


def pyramid_anchors(
    image_shape: tuple[int, ...],
    *,
    sizes: Sequence[float | Sequence[float]],
    strides: Sequence[int],
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ratio_meaning: Literal["height_over_width", "width_over_height"] = "height_over_width",
    rounding: bool = False,
    offset: float = 0.0,
    feature_shapes: Sequence[tuple[int, int]] | None = None,
    stride_from_grid: bool = False,
    dtype: np.dtype | type = np.float32,
    like: Any = None,
) -> list[np.ndarray]:
    """Return the anchors of every pyramid level: every size of the level in every aspect ratio at every cell.

    An anchor of size ``s`` and ratio ``r = h / w`` keeps the area ``s^2``: ``h = s sqrt(r)``, ``w = s / sqrt(r)``. The
    one at row ``i``, column ``j`` has its centre at ``((i + offset) stride_y, (j + offset) stride_x)``.

    Parameters
    ----------
    image_shape : tuple ``(H, W, ...)``
        The padded image, in pixels.
    sizes : sequence of L floats, or of L sequences of floats
        Side of the square anchor of each level, pixels: 32, 64, 128, 256, 512 on P2..P6. A network of one level has
        several there: ``[(128, 256, 512)]``.
    strides : sequence of L ints
        Image pixels per cell of each level: 4, 8, 16, 32, 64.
    aspect_ratios : sequence of floats
        Their number is the number of anchors per cell and size.
    ratio_meaning : {"height_over_width", "width_over_height"}
        What 0.5 means: a wide anchor (torchvision, detectron2) or a tall one (matterport).
    rounding : bool
        Round half-sides to whole pixels, halves to even, as torchvision does: 181.02 x 90.51 becomes 182 x 90.
    offset : float
        0: the centre lies on the cell's top-left corner (all three frameworks). 0.5: on the cell's centre.
    feature_shapes : sequence of L pairs, optional
        Rows and columns of each feature map; by default the image divided by the stride, rounded up.
    stride_from_grid : bool
        Take the distance between anchors as image side // cells, per axis (torchvision): 800 rows over 13 cells are 61
        pixels apart although P6 has stride 64.
    dtype : dtype
        Of the result.
    like : array, optional
        Put the anchors where this array lies; by default they are NumPy's.

    Returns
    -------
    list of L ndarrays of shape (rows * columns * ratios * sizes, 4)
        ``(y1, x1, y2, x2)``, pixels, half-open, not clipped. Order: row, column, ratio, size, as a convolution output
        (rows, columns, ratios * sizes * 4) is reshaped to (rows * columns * ratios * sizes, 4). Of several sizes
        torchvision and Faster R-CNN have this order; detectron2 has the sizes before the ratios.

    Raises
    ------
    ValueError
        The number of sizes, strides or feature maps differs, or a size, stride or ratio is not positive.
    """
    if feature_shapes is None:
        feature_shapes = [(-(-image_shape[0] // s), -(-image_shape[1] // s)) for s in strides]
    if not len(feature_shapes) == len(sizes) == len(strides):
        counts = f"{len(feature_shapes)} feature maps, {len(sizes)} sizes, {len(strides)} strides"
        raise ValueError(f"{counts}: expected one size and one stride per feature map")
    by_level: list[list[float]] = [np.atleast_1d(size).tolist() for size in sizes]
    every_size = [side for level in by_level for side in level]
    for name, values in (("sizes", every_size), ("strides", strides), ("aspect_ratios", aspect_ratios)):
        if not all(v > 0 for v in values):
            raise ValueError(f"{name} is {tuple(values)}; expected positive numbers")

    levels = []
    like = np.empty(0) if like is None else like
    for level_sizes, stride, (rows, columns) in zip(by_level, strides, feature_shapes):
        step_y, step_x = stride, stride
        if stride_from_grid:
            step_y, step_x = image_shape[0] // max(rows, 1), image_shape[1] // max(columns, 1)
        cell = _cell_anchors(level_sizes, aspect_ratios, ratio_meaning, rounding)  # (ratios * sizes, 4)
        cell = np.asarray(cell, like=like)
        y = (np.arange(rows, like=like) + offset) * step_y  # centres
        x = (np.arange(columns, like=like) + offset) * step_x
        anchors = np.empty((rows, columns, len(cell), 4), dtype, like=like)
        anchors[..., 0::2] = y[:, None, None, None] + cell[:, 0::2]
        anchors[..., 1::2] = x[:, None, None] + cell[:, 1::2]
        levels.append(anchors.reshape(-1, 4))
    return levels


def _cell_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], ratio_meaning: str, rounding: bool
) -> np.ndarray:
    """Return one anchor per ratio and size, centred on (0, 0): shape (ratios * sizes, 4), float64."""
    if ratio_meaning not in ("height_over_width", "width_over_height"):
        raise ValueError(f"ratio_meaning is {ratio_meaning!r}; expected 'height_over_width' or 'width_over_height'")
    root = np.repeat(np.sqrt(np.asarray(aspect_ratios, dtype=np.float64)), len(sizes))
    size = np.tile(np.asarray(sizes, dtype=np.float64), len(aspect_ratios))
    half_height, half_width = size * root / 2, size / root / 2
    if ratio_meaning == "width_over_height":
        half_height, half_width = half_width, half_height
    if rounding:
        half_height, half_width = np.round(half_height), np.round(half_width)
    return np.stack([-half_height, -half_width, half_height, half_width], axis=-1)
