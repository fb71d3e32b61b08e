"""How images and ground-truth masks are resized: the choices between filters, borders and grids."""

from __future__ import annotations

import numpy as np
from PIL import Image

from kernels import host_work

from .boxes import tight_box
from .config import Config
from .data.masks import Masks
from .ops.resize import neighbours, resize_bilinear, resize_nearest

#: a grey level of 100 that float arithmetic makes 99.9999999 must not become 99
LEVEL_TOLERANCE = 1e-6
#: numbers of an image that is resized at once; a larger one, whose copies as floats would fill the memory, in strips
WHOLE = 1 << 25
#: numbers of a strip
STRIP = 1 << 21


def resize_image(image: np.ndarray, size: tuple[int, int], config: Config, dtype: type) -> np.ndarray:
    """Resize an image by ``config.resize_filter``, ``resize_border`` and ``resize_truncated``.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    size : (int, int)
        New height and width.
    config : Config
    dtype : type
        Of the result.

    Returns
    -------
    ndarray of shape (h, w, 3)
        Grey levels, 0 .. 255. An image that has the size already stays as it is.
    """
    if image.shape[:2] == tuple(size):
        return image.astype(dtype)
    if config.resize_filter == "pil":
        pil = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(pil).astype(dtype)
    # Whether 100 is reached must not depend on float32
    exact = np.float64 if config.resize_truncated else dtype
    if image.size > WHOLE:
        resized = _resize_in_strips(image, size, config.resize_border, exact)
    else:
        resized = resize_with_border(image.astype(exact), size, config.resize_border)
    if config.resize_truncated:
        resized = np.floor(resized + LEVEL_TOLERANCE)
    return resized.astype(dtype)


@host_work
def resize_with_border(x: np.ndarray, size: tuple[int, int], border: str) -> np.ndarray:
    """Interpolate bilinearly; beyond the edge lies the edge again ("edge") or 0 ("zero").

    With "zero", pixels outside the centres of the first and last cells fade, as in scikit-image's
    ``resize(mode="constant")``; like there nothing falls below the smallest value of ``x``.

    Parameters
    ----------
    x : ndarray of shape (H, W, C), float
    size : (int, int)
    border : {"edge", "zero"}
        ``config.resize_border``.

    Returns
    -------
    ndarray of shape (h, w, C)
    """
    resized = resize_bilinear(x, size)[0]
    return resized if border == "edge" else _faded(resized, x.shape, x.min())


@host_work
def _resize_in_strips(image: np.ndarray, size: tuple[int, int], border: str, dtype: type) -> np.ndarray:
    """Return ``resize_with_border(image.astype(dtype), size, border)`` without a copy of the image in that type.

    The rows that some output rows lie between become floats and are mixed, as ``resize_bilinear`` does first; it does
    the rest.
    """
    height, width, channels = image.shape
    low, high, fraction = neighbours(height, size[0], np.dtype(dtype))
    weights: np.ndarray = fraction.astype(dtype)[:, None, None]
    resized: np.ndarray = np.empty((*size, channels), dtype)
    step = max(1, STRIP // (width * channels))
    for start in range(0, size[0], step):
        rows = slice(start, start + step)
        mixed = image[low[rows]].astype(dtype)
        mixed *= 1 - weights[rows]
        mixed += image[high[rows]].astype(dtype) * weights[rows]
        resized[rows] = resize_bilinear(mixed, (len(mixed), size[1]))[0]
    return resized if border == "edge" else _faded(resized, image.shape, dtype(image.min()))


def _faded(resized: np.ndarray, shape: tuple[int, ...], least: np.generic) -> np.ndarray:
    """Let what was resized from ``shape`` fade beyond the centres of the outer cells, to ``least`` at most."""
    rows, columns = (_inside(n, m).astype(resized.dtype) for n, m in zip(shape, resized.shape[:2]))
    return np.maximum(resized * rows[:, None, None] * columns[None, :, None], least)


def _inside(n: int, m: int) -> np.ndarray:
    """Return, for each of ``m`` cells read from ``n``, the share of its two neighbours that exist, (m,)."""
    u = (np.arange(m) + 0.5) * (n / m) - 0.5
    return 1 - np.maximum(np.maximum(-u, u - (n - 1)), 0)


@host_work
def resize_masks(masks: np.ndarray, size: tuple[int, int], align: str) -> np.ndarray:
    """Resize (G, H, W) masks to the nearest cell, with the grids aligned as ``config.mask_resize`` says.

    Output ``i`` of ``m`` reads a cell of ``n``: "exact" cell ``(i + 1/2) n / m``, rounded down, like Pillow; "edges",
    which is ``resize_nearest``, cell ``i n / m``; "centres" maps first cell to first and last to last: cell
    ``i (n - 1) / (m - 1)``, halves up, as ``scipy.ndimage.zoom`` of order 0.

    Parameters
    ----------
    masks : ndarray of shape (G, H, W), bool
    size : tuple of int
        (H', W').
    align : {"exact", "edges", "centres"}
        See above.
    """
    if align == "edges":
        return resize_nearest(masks, size)
    rows, columns = (nearest(n, m, align) for n, m in zip(masks.shape[1:], size))
    return masks[:, rows[:, None], columns]


def nearest(n: int, m: int, align: str) -> np.ndarray:
    """Return the cell, of ``n`` in a row, that each of ``m`` cells is read from, (m,); see ``resize_masks``.

    Parameters
    ----------
    n, m : int
        Cells there are, cells wanted.
    align : {"exact", "edges", "centres"}
    """
    if align == "exact":
        return (2 * np.arange(m) + 1) * n // (2 * m)
    if align == "edges":
        return np.arange(m) * n // m
    return np.floor(np.arange(m) * ((n - 1) / max(m - 1, 1)) + 0.5).astype(np.intp)


def enclosing_boxes(masks: np.ndarray | Masks, dtype: type) -> np.ndarray:
    """Return the smallest box of whole pixels around each of (G, H, W) masks, ``(0, 0, 0, 0)`` for an empty one."""
    if isinstance(masks, Masks):
        return masks.boxes.astype(dtype)
    boxes: np.ndarray = np.zeros((len(masks), 4), dtype)
    for box, mask in zip(boxes, masks):
        if mask.any():
            box[:] = tight_box(mask)
    return boxes
