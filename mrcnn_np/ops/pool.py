"""Max pooling."""

from __future__ import annotations

import numpy as np

from kernels import accelerated
from kernels.contract import MaxPoolCache, Padding, Pair, as_floating

from .conv import as_padding, as_pair, crop_maps, pad_maps


@accelerated
def max_pool2d(
    x: np.ndarray, *, kernel_size: Pair, stride: Pair | None = None, padding: Padding = 0
) -> tuple[np.ndarray, MaxPoolCache]:
    r"""Take the largest value of every window.

    .. math:: y[n, p, q, c] = \max_{i, j} x_{pad}[n, p s_y + i, q s_x + j, c]

    Kernel 3, stride 2, padding 1 is the stem of a ResNet; kernel 1, stride 2 subsamples P5 to P6.

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C)
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel's size if not given.
    padding : int or ((top, bottom), (left, right))
        Cells of minus infinity: they never win against a finite value. Each side is smaller than the kernel, so that
        every window holds a cell of ``x``.

    Returns
    -------
    y : ndarray of shape (N, (top + H + bottom - kh) // sy + 1, (left + W + right - kw) // sx + 1, C)
    cache : MaxPoolCache

    Raises
    ------
    ValueError
        A kernel larger than the padded map; padding as large as the kernel.

    Notes
    -----
    Ties: the first of the equal cells in row-major order wins and gets the whole gradient. A window
    with NaN gives NaN.
    """
    kernel = kh, kw = as_pair(kernel_size, "kernel_size")
    stride = kernel if stride is None else as_pair(stride, "stride")
    padding = as_padding(padding)
    if x.ndim != 4:
        raise ValueError(f"max_pool2d: x has shape {x.shape}, expected (N, H, W, C)")
    if max(padding[0]) >= kh or max(padding[1]) >= kw:
        raise ValueError(f"max_pool2d: padding {padding} must be smaller than the kernel of {kh}x{kw}")
    padded = pad_maps(as_floating(x), padding, -np.inf)
    if padded.shape[1] < kh or padded.shape[2] < kw:
        raise ValueError(f"max_pool2d: the kernel of {kh}x{kw} is larger than the padded map of {padded.shape[1:3]}")

    taps = _taps(padded.shape, kernel, stride)
    y = padded[taps[0]].copy()
    winner = np.zeros_like(y, np.min_scalar_type(kh * kw - 1))
    for k, tap in enumerate(taps[1:], start=1):
        candidate = padded[tap]
        better = candidate > y  # not ">=": the first of equals stays
        # k grows, so the largest k that was better so far is the winner; this is far faster than winner[better] = k.
        np.maximum(winner, better * winner.dtype.type(k), out=winner)
        np.maximum(y, candidate, out=y)
    return y, MaxPoolCache(winner, x.shape, kernel, stride, padding)


@accelerated
def max_pool2d_backward(dy: np.ndarray, cache: MaxPoolCache) -> np.ndarray:
    """Return ``dx``: every cell collects ``dy`` of the windows it won.

    Notes
    -----
    In each window ``y`` equals its winner, so the derivative is 1 there and 0 elsewhere. Windows overlap if the stride
    is smaller than the kernel, hence the sum.
    """
    winner, shape, kernel, stride, padding = cache
    (top, bottom), (left, right) = padding
    n, height, width, channels = shape
    dx = np.zeros((n, top + height + bottom, left + width + right, channels), dy.dtype, like=dy)
    for k, tap in enumerate(_taps(dx.shape, kernel, stride)):
        dx[tap] += dy * (winner == k)
    return crop_maps(dx, padding)


def _taps(shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int]) -> list[tuple[slice, ...]]:
    """Return, for each cell of the kernel in row-major order, the slices that pick this cell of every window."""
    (kh, kw), (sy, sx) = kernel, stride
    rows, columns = (shape[1] - kh) // sy + 1, (shape[2] - kw) // sx + 1
    return [
        (slice(None), slice(i, i + (rows - 1) * sy + 1, sy), slice(j, j + (columns - 1) * sx + 1, sx))
        for i in range(kh)
        for j in range(kw)
    ]
