"""Changing the size of maps: nearest (FPN, masks) and bilinear (images)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import accelerated
from kernels.contract import ResizeCache, UpsampleCache


@accelerated
def upsample_nearest(x: np.ndarray, *, scale: int = 2) -> tuple[np.ndarray, UpsampleCache]:
    r"""Repeat every cell ``scale`` times down and across: the top-down path of the FPN.

    .. math:: y[n, p, q, c] = x[n, \lfloor p / s \rfloor, \lfloor q / s \rfloor, c]

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C)
    scale : int

    Returns
    -------
    y : ndarray of shape (N, H * scale, W * scale, C)
    cache : UpsampleCache

    Raises
    ------
    ValueError
        If x is no batch of maps or the scale is below 1.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", section 3.
    """
    if x.ndim != 4:
        raise ValueError(f"upsample_nearest: x has shape {x.shape}, expected (N, H, W, C)")
    if scale < 1:
        raise ValueError(f"upsample_nearest: scale is {scale}, expected 1 or more")
    return x.repeat(scale, axis=1).repeat(scale, axis=2), UpsampleCache(scale)


@accelerated
def upsample_nearest_backward(dy: np.ndarray, cache: UpsampleCache) -> np.ndarray:
    """Return ``dx``: every cell was copied to a block of ``scale`` x ``scale`` cells and collects their gradients."""
    (scale,) = cache
    dx = dy[:, ::scale, ::scale].copy()
    for i in range(scale):
        for j in range(scale):
            if (i, j) != (0, 0):
                dx += dy[:, i::scale, j::scale]
    return dx


@accelerated
def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, ResizeCache]:
    r"""Resize by linear interpolation, first down, then across.

    Along an axis that shrinks or grows from ``n`` to ``m`` cells, the centre of output cell ``i`` lies at the input
    coordinate

    .. math:: u = (i + 0.5) \frac{n}{m} - 0.5, \quad u \leftarrow \min(\max(u, 0), n - 1), \qquad
        y_i = (1 - f) \, x_{\lfloor u \rfloor} + f \, x_{\lfloor u \rfloor + 1}, \quad f = u - \lfloor u \rfloor

    The centre of cell ``i`` lies at ``i + 0.5`` in pixels, so that both images cover the same area; beyond the outer
    centres the edge value continues. This is ``align_corners=False`` in PyTorch. There is no low-pass filter:
    shrinking below half the size skips pixels.

    Parameters
    ----------
    image : ndarray of shape (H, W, C) or (N, H, W, C), floating point
    size : (int, int)
        New height and width.

    Returns
    -------
    y : ndarray of shape (h, w, C) or (N, h, w, C)
    cache : ResizeCache

    Raises
    ------
    ValueError
        Wrong rank, an integer image (its dtype could not hold the result), an empty image or size.
    """
    if image.ndim not in (3, 4):
        raise ValueError(f"resize_bilinear: image has shape {image.shape}, expected (H, W, C) or (N, H, W, C)")
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"resize_bilinear: image is {image.dtype}, expected floating point")
    height, width = image.shape[-3:-1]
    _check_size("resize_bilinear", (height, width), size)
    y = _interpolate(_interpolate(image, -3, size[0]), -2, size[1])
    return y, ResizeCache((height, width), size)


@accelerated
def resize_bilinear_backward(dy: np.ndarray, cache: ResizeCache) -> np.ndarray:
    """Return ``dx``.

    Notes
    -----
    Along one axis output ``i`` read two cells with weights ``1 - f`` and ``f``; backward it adds ``(1 - f) dy_i`` and
    ``f dy_i`` to them. The axes are undone in the opposite order.
    """
    (height, width), _ = cache
    return _interpolate_backward(_interpolate_backward(dy, -2, width), -3, height)


@accelerated
def resize_nearest(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    r"""Resize masks by picking cells; no new values appear, so it suits labels. It has no backward pass.

    .. math:: y[g, i, j] = x[g, \lfloor i H / h \rfloor, \lfloor j W / w \rfloor]

    Parameters
    ----------
    masks : ndarray of shape (G, H, W)
        Any dtype.
    size : (int, int)
        New height and width ``(h, w)``.

    Returns
    -------
    ndarray of shape (G, h, w)

    Raises
    ------
    ValueError
        Wrong rank, an empty mask or size.

    Notes
    -----
    PyTorch's ``"nearest"`` (not ``"nearest-exact"``, which takes the cell under the output's centre). The index is
    computed with integers and therefore exact.
    """
    if masks.ndim != 3:
        raise ValueError(f"resize_nearest: masks have shape {masks.shape}, expected (G, H, W)")
    height, width = masks.shape[1:]
    _check_size("resize_nearest", (height, width), size)
    rows = np.arange(size[0]) * height // size[0]
    columns = np.arange(size[1]) * width // size[1]
    return masks[:, rows[:, None], columns]


def neighbours(n: int, m: int, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two cells that each of ``m`` outputs lies between, of ``n``, and the weight of the second.

    Parameters
    ----------
    n, m : int
        Cells there are, cells wanted.
    dtype : dtype
        Of the maps.
    """
    # In the type of the maps, rounded as by a fused multiply-add: so the positions are PyTorch's, to the last bit
    scale = np.float64(dtype.type(n) / dtype.type(m))
    u = np.clip(((np.arange(m) + 0.5) * scale - 0.5).astype(dtype), 0, n - 1)
    low = np.floor(u).astype(np.intp)
    return low, np.minimum(low + 1, n - 1), u - low


def _interpolate(x: np.ndarray, axis: int, m: int) -> np.ndarray:
    """Resize one axis to ``m`` cells."""
    if x.shape[axis] == m:
        return x.copy()  # all weights are 0: nothing to compute
    low, high, fraction = neighbours(x.shape[axis], m, x.dtype)
    fraction = fraction.astype(x.dtype).reshape((m,) + (1,) * (-axis - 1))
    return x.take(low, axis) * (1 - fraction) + x.take(high, axis) * fraction


def _interpolate_backward(dy: np.ndarray, axis: int, n: int) -> np.ndarray:
    """Return the gradient of an axis of ``n`` cells."""
    dy = np.moveaxis(dy, axis, 0)
    dx = np.zeros((n, *dy.shape[1:]), dy.dtype)
    # Several outputs may add to one cell, which dx[low] += ... would drop; one output at a time cannot.
    for i, (low, high, fraction) in enumerate(zip(*neighbours(n, len(dy), dy.dtype))):
        dx[low] += dy[i] * dy.dtype.type(1 - fraction)
        dx[high] += dy[i] * dy.dtype.type(fraction)
    return np.moveaxis(dx, 0, axis)


def _check_size(name: str, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Refuse to resize from or to a map without rows or columns."""
    if len(new) != 2 or min(*old, *new) < 1:
        raise ValueError(f"{name}: cannot resize {old} to {new}; expected a height and a width of at least 1")
