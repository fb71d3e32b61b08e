r"""Convolution and transposed convolution, NHWC, with weights ``(kh, kw, C_in, C_out)``.

Both are made of the same three sums over the taps ``(i, j)`` of the kernel, where ``p, q`` are the rows and columns
of the smaller map and ``(sy, sx)`` is the stride:

======================  ====================================================  ==========================
``_gather``             ``small[p, q]  = sum_ij big[p sy + i, q sx + j] w_ij``   every window meets the kernel
``_scatter``            ``big[p sy + i, q sx + j] += small[p, q] w_ij^T``      its transpose
``_weight_gradient``    ``dw_ij = sum_pq big[p sy + i, q sx + j]^T small_pq``  how much each weight was used
======================  ====================================================  ==========================

``conv2d`` gathers forward and scatters backward; ``conv2d_transpose`` scatters forward and gathers backward. That is
all the difference between them.

``_gather`` copies the windows into rows of a matrix ("im2col") so that one matrix product does the work. The whole
matrix would be ``kh * kw`` times the input, so it is made block by block and never kept: the backward pass makes it
again. Blocks of 4 MB are about twice as fast as one large matrix on small maps, because they stay in the processor's
cache. ``_scatter`` needs no such matrix: one product per tap, added where the tap points, is as fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kernels import accelerated, contract
from kernels.contract import ConvCache, Padding, Pair, ReluCache, Sides, TransposedConvCache

from .activation import relu, relu_backward
from .linear import channel_sum

BLOCK_BYTES = 4 * 2**20  # of columns held at once


@accelerated
def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    groups: int = 1,
) -> tuple[np.ndarray, ConvCache]:
    r"""Convolve a batch of maps with a kernel (cross-correlation: the kernel is not flipped).

    .. math:: y[n, p, q, o] = b[o] + \sum_{i, j, c} x_{pad}[n, p s_y + i, q s_x + j, c] \, w[i, j, c, o]

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C_in)
    w : ndarray of shape (kh, kw, C_in // groups, C_out)
    b : ndarray of shape (C_out,), optional
    stride : int or (int, int)
        Down and across.
    padding : int or ((top, bottom), (left, right))
        Zeros added around each map.
    groups : int
        Split the channels into this many equal, independent convolutions (ResNeXt: 32).

    Returns
    -------
    y : ndarray of shape (N, (top + H + bottom - kh) // sy + 1, (left + W + right - kw) // sx + 1, C_out)
    cache : ConvCache

    Raises
    ------
    ValueError
        Channels that do not fit the kernel or the groups; a kernel larger than the padded map.

    References
    ----------
    Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", section 3.3 (groups).
    """
    stride, padding = as_pair(stride, "stride"), as_padding(padding)
    _check_conv(x, w, b, padding, groups)
    y = _join([_gather(xg, wg, stride) for xg, wg in zip(_split(pad_maps(x, padding), groups), _split(w, groups))])
    if b is not None:
        y += b
    return y, ConvCache(x, w, b is not None, stride, padding, groups)


@accelerated
def conv2d_backward(
    dy: np.ndarray, cache: ConvCache, *, need_dx: bool = True
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Return ``(dx, dw, db)``; ``db`` is None if there was no bias, ``dx`` if it is not needed (an image's gradient).

    Parameters
    ----------
    dy : ndarray of shape (N, H', W', C_out)
    cache : ConvCache
    need_dx : bool

    Notes
    -----
    ``y`` is linear in ``x`` and in ``w``. Input cell ``x[p sy + i, q sx + j]`` entered ``y[p, q]`` with the weight
    ``w_ij``, so it collects ``dy[p, q] w_ij^T`` from every window it was part of (``_scatter``). Weight ``w_ij``
    multiplied that cell at every position, so it collects ``x^T dy`` over all positions. The gradient of the
    padding is cut off: nobody computed those zeros.
    """
    x, w, has_bias, stride, padding, groups = cache
    padded = pad_maps(x, padding)
    size = padded.shape[1:3]
    dys, ws = _split(dy, groups), _split(w, groups)
    dx = None
    if need_dx:
        dx = _join([_scatter(dyg, wg.swapaxes(2, 3), stride, size) for dyg, wg in zip(dys, ws)])
        dx = crop_maps(dx, padding)
    dw = _join([_weight_gradient(xg, dyg, w.shape[:2], stride) for xg, dyg in zip(_split(padded, groups), dys)])
    return dx, dw, channel_sum(dy) if has_bias else None


@accelerated
def conv2d_transpose(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, stride: Pair = 2, activate: bool = False
) -> tuple[np.ndarray, TransposedConvCache]:
    r"""Enlarge maps: every cell stamps the kernel, times its value, onto the output ("deconvolution").

    .. math:: y[n, p s_y + i, q s_x + j, o] \mathrel{+}= \sum_c x[n, p, q, c] \, w[i, j, c, o]

    It is the adjoint of ``conv2d`` without padding (not its inverse): with ``w^T`` the weights whose two channel
    axes are exchanged, ``<conv2d(u, w^T), x> = <u, conv2d_transpose(x, w)>`` for all ``u`` and ``x``. With a 2x2
    kernel and stride 2, as in the mask head, the stamps do not overlap.

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C_in)
    w : ndarray of shape (kh, kw, C_in, C_out)
    b : ndarray of shape (C_out,), optional
    stride : int or (int, int)
    activate : bool
        Apply ReLU.

    Returns
    -------
    y : ndarray of shape (N, (H - 1) * sy + kh, (W - 1) * sx + kw, C_out)
    cache : TransposedConvCache

    Raises
    ------
    ValueError
        Channels that do not fit the kernel; an empty map.

    References
    ----------
    He et al., "Mask R-CNN", figure 4 (the 2x2 deconvolution from 14x14 to 28x28).
    """
    sy, sx = as_pair(stride, "stride")
    _check_ranks("conv2d_transpose", x, w, b)
    if x.shape[3] != w.shape[2]:
        raise ValueError(f"conv2d_transpose: x has {x.shape[3]} channels, w expects {w.shape[2]}")
    _, height, width, _ = x.shape
    if height == 0 or width == 0:
        raise ValueError(f"conv2d_transpose: x has maps of {height}x{width} cells, expected at least 1x1")
    y = _scatter(x, w, (sy, sx), ((height - 1) * sy + w.shape[0], (width - 1) * sx + w.shape[1]))
    if b is not None:
        y += b
    if activate:
        y, _ = relu(y)
    return y, TransposedConvCache(x, w, b is not None, y if activate else None, (sy, sx))


@accelerated
def conv2d_transpose_backward(
    dy: np.ndarray, cache: TransposedConvCache
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return ``(dx, dw, db)``; ``db`` is None if there was no bias.

    Notes
    -----
    The adjoint of a scatter is the gather: ``dx[p, q]`` is the window of ``dy`` that ``x[p, q]`` was stamped on, times
    the transposed kernel. In ``dw`` the roles of the large and the small map are those of ``conv2d``, so the
    product comes out as ``(kh, kw, C_out, C_in)`` and its channel axes are exchanged.
    """
    x, w, has_bias, y, stride = cache
    if y is not None:
        dy = relu_backward(dy, ReluCache(y))
    dx = _gather(dy, w.swapaxes(2, 3), stride)
    dw = np.ascontiguousarray(_weight_gradient(dy, x, w.shape[:2], stride).swapaxes(2, 3))
    return dx, dw, channel_sum(dy) if has_bias else None


# --- the three sums -------------------------------------------------------------------------------------------------


def _gather(x: np.ndarray, w: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    """Multiply every window of ``x`` by the kernel: the forward pass of a convolution without padding."""
    windows = _windows(x, w.shape[:2], stride)
    n, rows, columns = windows.shape[:3]
    y = np.empty((n, rows, columns, w.shape[3]), np.result_type(x, w))
    matrix = w.reshape(-1, w.shape[3])  # (kh kw C_in, C_out)
    for block in _blocks(n, rows, windows[:1, :1].size * x.itemsize):
        # A block of y is one run of memory: the product is written in place. Windows of a 1x1 kernel are x itself.
        np.matmul(windows[block].reshape(-1, len(matrix)), matrix, out=y[block].reshape(-1, w.shape[3]))
    return y


def _scatter(y: np.ndarray, w: np.ndarray, stride: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Add every cell of ``y`` times the kernel ``(kh, kw, C_y, C_x)`` to a map of ``size``: ``_gather`` transposed."""
    n, rows, columns, channels = y.shape
    (kh, kw, _, c), (sy, sx) = w.shape, stride
    x = np.zeros((n, *size, c), np.result_type(y, w))
    for images, lines in _blocks(n, rows, columns * max(c, channels) * x.itemsize):
        part = y[images, lines]
        flat = part.reshape(-1, channels)
        top, bottom = lines.start * sy, (lines.start + part.shape[1]) * sy
        for i in range(kh):
            for j in range(kw):
                target = x[images, top + i : bottom + i - sy + 1 : sy, j : j + (columns - 1) * sx + 1 : sx]
                target += (flat @ w[i, j]).reshape(target.shape)
    return x


def _weight_gradient(x: np.ndarray, dy: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """Multiply every window of ``x`` by the gradient of its output and sum: ``(kh, kw, C_x, C_y)``."""
    windows = _windows(x, kernel, stride)
    matrix = np.zeros((int(np.prod(windows.shape[3:])), dy.shape[3]), np.result_type(x, dy))
    for block in _blocks(len(windows), windows.shape[1], windows[:1, :1].size * x.itemsize):
        matrix += windows[block].reshape(-1, len(matrix)).T @ dy[block].reshape(-1, dy.shape[3])
    return matrix.reshape(*kernel, x.shape[3], dy.shape[3])


def _windows(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """View ``x`` as its windows, ``(N, rows, columns, kh, kw, C)``. Nothing is copied."""
    windows = sliding_window_view(x, kernel, axis=(1, 2))  # (N, H - kh + 1, W - kw + 1, C, kh, kw)
    return windows[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def _blocks(n: int, rows: int, bytes_per_row: int) -> Iterator[tuple[slice, slice]]:
    """Cut ``n`` maps of ``rows`` rows into blocks of about ``BLOCK_BYTES``: several whole maps, or rows of one map."""
    images = max(1, BLOCK_BYTES // max(1, bytes_per_row * rows))
    lines = min(rows, max(1, BLOCK_BYTES // max(1, bytes_per_row)))
    for image in range(0, n, images):
        for line in range(0, rows, lines):
            yield slice(image, image + images), slice(line, line + lines)


# --- arguments ------------------------------------------------------------------------------------------------------


def as_pair(value: Pair, name: str) -> tuple[int, int]:
    """Return ``(down, across)``, both at least 1."""
    pair = contract.as_pair(value)
    if pair is None:
        raise ValueError(f"{name} is {value!r}, expected a positive integer or two of them")
    return pair


def as_padding(value: Padding) -> Sides:
    """Return ``((top, bottom), (left, right))``, none negative."""
    sides = contract.as_padding(value)
    if sides is None:
        raise ValueError(f"padding is {value!r}, expected an integer or ((top, bottom), (left, right)), not negative")
    return sides


def pad_maps(x: np.ndarray, padding: Sides, value: float = 0.0) -> np.ndarray:
    """Surround every map with ``value``; ``x`` itself if there is nothing to add.

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C)
    padding : ((top, bottom), (left, right))
    value : float

    Returns
    -------
    ndarray of shape (N, top + H + bottom, left + W + right, C)
    """
    if not np.any(padding):
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def crop_maps(x: np.ndarray, padding: Sides) -> np.ndarray:
    """Remove what ``pad_maps`` added (its adjoint)."""
    (top, bottom), (left, right) = padding
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def _split(a: np.ndarray, groups: int) -> list[np.ndarray]:
    """Cut the last axis into ``groups`` equal views."""
    return [a] if groups == 1 else np.split(a, groups, axis=-1)


def _join(parts: list[np.ndarray]) -> np.ndarray:
    """Undo ``_split``."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _check_ranks(name: str, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> None:
    """Refuse arrays of the wrong number of axes, and a bias that does not fit the weights."""
    if x.ndim != 4:
        raise ValueError(f"{name}: x has shape {x.shape}, expected (N, H, W, C_in)")
    if w.ndim != 4:
        raise ValueError(f"{name}: w has shape {w.shape}, expected (kh, kw, C_in, C_out)")
    if b is not None and b.shape != w.shape[3:]:
        raise ValueError(f"{name}: b has shape {b.shape}, expected {w.shape[3:]}")


def _check_conv(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, padding: Sides, groups: int) -> None:
    """Refuse channels that do not fit the kernel or the groups, and a kernel larger than the padded map."""
    _check_ranks("conv2d", x, w, b)
    (_, height, width, channels), (kh, kw, c_in, c_out) = x.shape, w.shape
    if groups < 1 or channels % groups or c_out % groups:
        raise ValueError(f"conv2d: {groups} groups do not divide {channels} input and {c_out} output channels")
    if channels != c_in * groups:
        order = "; x looks like (N, C, H, W): x.transpose(0, 2, 3, 1)" if x.shape[1] == c_in * groups else ""
        raise ValueError(f"conv2d: x has {channels} channels, w expects {c_in * groups} (groups={groups}){order}")
    padded = (height + sum(padding[0]), width + sum(padding[1]))
    if kh > padded[0] or kw > padded[1]:
        raise ValueError(f"conv2d: the kernel of {kh}x{kw} is larger than the padded map of {padded[0]}x{padded[1]}")
