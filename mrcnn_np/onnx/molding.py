"""Image -> molded input, and boxes back, as ``mrcnn_np/molding.py`` and ``resizing.py``, to the last bit.

ONNX's own node Resize rounds the positions of its samples otherwise, and knows neither Pillow's whole-number arithmetic
nor a dark rim. So an image is resized by what a resize is: two rows (then two columns) and a weight for each new one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import PIL

from ..config import Config
from ..resizing import LEVEL_TOLERANCE
from .boxes import enter_frame, leave_frame
from .graph import Graph, Tensor

#: Pillow's weights are whole numbers of 1 / 2^22
PILLOW = 2.0**22


class Molding(NamedTuple):
    """Where the image went; all of int64 and shape (2,), rows first, but for the window.

    Attributes
    ----------
    original, resized, canvas : str
        Sizes.
    offset : str
        (top, left) padding.
    window : str
        ``(y1, x1, y2, x2)`` of the image within the canvas, (4,), float32.
    """

    original: Tensor
    resized: Tensor
    canvas: Tensor
    offset: Tensor
    window: Tensor


def mold_image(g: Graph, image: Tensor, config: Config) -> tuple[Tensor, Molding]:
    """Resize, pad and normalise.

    Parameters
    ----------
    g : Graph
    image : str
        (H, W, 3), uint8, RGB.
    config : Config

    Returns
    -------
    molded : str
        (1, H', W', 3), float32.
    molding : Molding
    """
    molding = plan(g, image, config)
    pixels = resize_image(g, image, molding, config)
    if config.channel_order == "bgr":
        pixels = g.Gather(pixels, [2, 1, 0], axis=2)
    after = g.Sub(g.Sub(molding.canvas, molding.resized), molding.offset)
    pads = g.Concat(molding.offset, [0], after, [0], axis=0)
    if config.pad_before_normalise:
        pixels = g.Pad(pixels, pads)
    pixels = g.Div(pixels, float(config.pixel_scale))
    pixels = g.Sub(pixels, np.array(config.pixel_mean, np.float32))
    pixels = g.Div(pixels, np.array(config.pixel_std, np.float32))
    if not config.pad_before_normalise:
        pixels = g.Pad(pixels, pads)
    return g.Unsqueeze(pixels, [0], name="molded"), molding


def plan(g: Graph, image: Tensor, config: Config) -> Molding:
    """Decide where an image goes; each rule rounds in the order of ``resized_shape`` in ``mrcnn_np/molding.py``.

    Parameters
    ----------
    g : Graph
    image : str
        (H, W, C).
    config : Config
    """
    original = g.Shape(image, start=0, end=2)
    sides = g.cast(original, np.float64)
    short, long = g.ReduceMin(sides), g.ReduceMax(sides)
    least, most = np.float64(config.image_min_size), np.float64(config.image_max_size)
    if config.resize_mode == "square":
        scale = g.Max(g.Div(least, short), np.float64(1))
        too_large = g.Greater(g.Round(g.Mul(long, scale)), most)
        scale = g.Where(too_large, g.Div(most, long), scale)
        sides = g.Round(g.Mul(sides, scale))  # halves to even, as Python
    elif config.resize_rounding == "floor":
        sides = g.Mul(sides, g.Min(g.Div(least, short), g.Div(most, long)))
    else:
        sides = g.Mul(sides, g.Div(least, short))
        long = g.ReduceMax(sides)
        sides = g.Where(g.Greater(long, most), g.Mul(sides, g.Div(most, long)), sides)
        sides = g.Add(sides, np.float64(0.5))
    resized = g.Max(g.cast(sides, np.int64), [1])
    multiple = config.image_max_size if config.resize_mode == "square" else config.pad_multiple
    canvas = g.Mul(g.Div(g.Add(resized, multiple - 1), multiple), multiple)
    offset = g.Div(g.Sub(canvas, resized), 2) if config.pad_position == "centre" else g.Mul(resized, [0])
    window = g.cast(g.Concat(offset, g.Add(offset, resized), axis=0), np.float32)
    return Molding(original, resized, canvas, offset, window)


# --- resizing -------------------------------------------------------------------------------------------------------


def resize_image(g: Graph, image: Tensor, molding: Molding, config: Config) -> Tensor:
    """Resize by ``resize_filter``, ``resize_border`` and ``resize_truncated``: (h, w, 3), float32, grey levels.

    Parameters
    ----------
    g : Graph
    image : str
        (H, W, 3), uint8.
    molding : Molding
    config : Config
    """
    sides = [(g.cut(molding.original, k, k + 1, 0), g.cut(molding.resized, k, k + 1, 0)) for k in (0, 1)]
    if config.resize_filter == "pil":
        return _resize_like_pillow(g, image, sides)
    exact = np.float64 if config.resize_truncated else np.float32
    pixels = _interpolate(g, g.cast(image, exact), sides[0], 0, exact)
    pixels = _interpolate(g, pixels, sides[1], 1, exact)
    if config.resize_border == "zero":
        rows, columns = (g.cast(_inside(g, *pair), exact) for pair in sides)
        pixels = g.Mul(g.Mul(pixels, g.Unsqueeze(rows, [1, 2])), g.Unsqueeze(columns, [0, 2]))
        pixels = g.Max(pixels, g.cast(g.ReduceMin(image, keepdims=0), exact))
    if config.resize_truncated:
        pixels = g.cast(g.Floor(g.Add(pixels, np.float64(LEVEL_TOLERANCE))), np.float32)
    return pixels


def _interpolate(g: Graph, x: Tensor, sides: tuple[Tensor, Tensor], axis: int, dtype: type) -> Tensor:
    """Resize one axis by ``(1 - f) x[low] + f x[low + 1]``: ``ops.resize.neighbours``."""
    n, m = sides
    scale = g.cast(g.Div(g.cast(n, dtype), g.cast(m, dtype)), np.float64)
    place = g.Sub(g.Mul(g.Add(g.arange(m, np.float64), np.float64(0.5)), scale), np.float64(0.5))
    last = g.Sub(n, 1)
    place = g.Min(g.Max(g.cast(place, dtype), np.array(0, dtype)), g.cast(last, dtype))
    low = g.cast(g.Floor(place), np.int64)
    high = g.Min(g.Add(low, 1), last)
    fraction = g.Unsqueeze(g.Sub(place, g.Floor(place)), [1, 2] if axis == 0 else [0, 2])
    first = g.Mul(g.Gather(x, low, axis=axis), g.Sub(np.array(1, dtype), fraction))
    resized: Tensor = g.Add(first, g.Mul(g.Gather(x, high, axis=axis), fraction))
    return resized


def _inside(g: Graph, n: Tensor, m: Tensor) -> Tensor:
    """Return, for each of ``m`` cells, the share of its two neighbours that exist, (m,): ``resizing._inside``."""
    scale = g.Div(g.cast(n, np.float64), g.cast(m, np.float64))
    place = g.Sub(g.Mul(g.Add(g.arange(m, np.float64), np.float64(0.5)), scale), np.float64(0.5))
    beyond = g.Max(g.Neg(place), g.Sub(place, g.cast(g.Sub(n, 1), np.float64)), np.float64(0))
    share: Tensor = g.Sub(np.float64(1), beyond)
    return share


def _resize_like_pillow(g: Graph, image: Tensor, sides: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Resize across and then down with Pillow's weights; between the two, grey levels are whole numbers.

    All sums are whole numbers below 2^53, which float64 holds exactly, in whatever order they are added. Pillow 13 goes
    down first where that takes away more than twice as many rows as columns are lost; the graph does what the Pillow
    does that is installed where it is written.
    """
    pixels = g.cast(g.Transpose(image, perm=[2, 0, 1]), np.float64)  # (3, H, W)
    rows, columns = _pillow_weights(g, *sides[0]), g.Transpose(_pillow_weights(g, *sides[1]), perm=[1, 0])

    def across_first() -> Tensor:
        return _whole_levels(g, g.MatMul(rows, _whole_levels(g, g.MatMul(pixels, columns))))

    def down_first() -> Tensor:
        return _whole_levels(g, g.MatMul(_whole_levels(g, g.MatMul(rows, pixels)), columns))

    if int(PIL.__version__.partition(".")[0]) < 13:
        pixels = across_first()
    else:
        lost = [g.Sub(n, m) for n, m in sides]
        mostly_rows = g.And(g.Greater(lost[0], [0]), g.Greater(lost[0], g.Mul(lost[1], 2)))
        pixels = g.choose(mostly_rows, down_first, across_first, np.float64)
    return g.cast(g.Transpose(pixels, perm=[1, 2, 0]), np.float32)


def _whole_levels(g: Graph, sums: Tensor) -> Tensor:
    levels = g.Floor(g.Div(g.Add(sums, np.float64(PILLOW / 2)), np.float64(PILLOW)))
    whole: Tensor = g.Min(g.Max(levels, np.float64(0)), np.float64(255))
    return whole


def _pillow_weights(g: Graph, n: Tensor, m: Tensor) -> Tensor:
    """Return the weights of ``n`` cells in each of ``m``, (m, n): triangles as wide as two new cells, sum 2^22."""
    scale = g.Div(g.cast(n, np.float64), g.cast(m, np.float64))
    reach = g.Max(scale, np.float64(1))
    centre = g.Unsqueeze(g.Mul(g.Add(g.arange(m, np.float64), np.float64(0.5)), scale), [1])
    cells = g.Unsqueeze(g.arange(n, np.float64), [0])
    # The first cell and the one behind the last, cut towards zero as C does
    first = g.cast(g.cast(g.Add(g.Sub(centre, reach), np.float64(0.5)), np.int64), np.float64)
    end = g.cast(g.cast(g.Add(g.Add(centre, reach), np.float64(0.5)), np.int64), np.float64)
    read = g.And(g.GreaterOrEqual(cells, first), g.Less(cells, end))
    far = g.Mul(g.Add(g.Sub(cells, centre), np.float64(0.5)), g.Div(np.float64(1), reach))
    weights = g.Where(read, g.Relu(g.Sub(np.float64(1), g.Abs(far))), np.float64(0))
    weights = g.Div(weights, g.ReduceSum(weights, [1], keepdims=1))
    whole: Tensor = g.Floor(g.Add(g.Mul(weights, np.float64(PILLOW)), np.float64(0.5)))
    return whole


# --- the way back ---------------------------------------------------------------------------------------------------


def unmold_boxes(g: Graph, boxes: Tensor, molding: Molding, config: Config) -> Tensor:
    """Bring boxes (D, 4) to the pixels of the original image: ``Molding.unmold_boxes``, in float64 like there.

    Parameters
    ----------
    g : Graph
    boxes : str
        (D, 4), molded pixels, float32.
    molding : Molding
    config : Config
    """
    original, resized = (g.cast(sides, np.float64) for sides in (molding.original, molding.resized))
    scale = g.Div(resized, original)
    if config.box_frame == "centres":
        one = np.float64(1)
        between = g.Div(g.Sub(resized, one), g.Max(g.Sub(original, one), one))
        scale = g.Where(g.Greater(g.Min(resized, original), one), between, scale)
    offset = g.cast(molding.offset, np.float64)
    boxes = g.cast(enter_frame(g, boxes, config), np.float64)
    boxes = g.Sub(boxes, g.Concat(offset, offset, axis=0))
    boxes = g.Div(boxes, g.Concat(scale, scale, axis=0))
    boxes = g.cast(leave_frame(g, boxes, config, np.float64), np.float32)
    return g.Round(boxes) if config.detection_rounded else boxes


def unmold_points(g: Graph, points: Tensor, molding: Molding) -> Tensor:
    """Bring positions ``(y, x)``, (..., 2), to the pixels of the original image: ``Molding.unmold_points``.

    Parameters
    ----------
    g : Graph
    points : str
        (..., 2), molded pixels, float32.
    molding : Molding
    """
    original, resized, offset = (g.cast(x, np.float64) for x in (molding.original, molding.resized, molding.offset))
    points = g.Div(g.Sub(g.cast(points, np.float64), offset), g.Div(resized, original))
    return g.cast(points, np.float32)
