"""From maps to points: where each map is highest, in the pixels of its box."""

from __future__ import annotations

import numpy as np

#: of the cubic convolution kernel; PyTorch's and OpenCV's
CUBIC = -0.75


def heatmap_peaks(logits: np.ndarray, boxes: np.ndarray, *, method: str = "bicubic") -> tuple[np.ndarray, np.ndarray]:
    """Return the highest place of each map.

    - ``"argmax"``: the centre of the highest cell. A box 224 pixels wide has cells of 4 pixels: up to 2 are lost.
    - ``"quarter"``: moved by a quarter of a cell towards the higher neighbour, along each axis; not in the outermost
      cells, which have one neighbour only.
    - ``"bicubic"``: each map is first enlarged to the size of its box, rounded up, by bicubic interpolation; then the
      centre of the highest pixel.

    Of equally high places the first one counts, row by row.

    Parameters
    ----------
    logits : ndarray of shape (D, s, s, K)
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels; a side below 1 counts as 1.
    method : {"bicubic", "quarter", "argmax"}

    Returns
    -------
    points : ndarray of shape (D, K, 2)
        ``(y, x)`` in pixels, in the frame of the boxes.
    scores : ndarray of shape (D, K)
        The logits there, of the enlarged map if it was.

    References
    ----------
    Newell et al., "Stacked Hourglass Networks" (2016), for the quarter; Detectron, torchvision and detectron2 enlarge.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)  # (D, 2)
    if method == "bicubic":
        cells, scores, grids = _enlarged_peaks(logits, np.ceil(sides).astype(np.int64))
    elif method in ("quarter", "argmax"):
        cells, scores = _cells(logits)
        grids = np.full_like(sides, logits.shape[1])
        if method == "quarter":
            cells = cells + 0.25 * _slopes(logits, cells)
    else:
        raise ValueError(f"method is {method!r}; expected 'bicubic', 'quarter' or 'argmax'")
    centres = (cells + 0.5).astype(boxes.dtype)
    points = boxes[:, None, :2] + centres * (sides / grids)[:, None].astype(boxes.dtype)
    return points, scores


def _cells(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the highest cell of every map (D, rows, columns, K), and its height."""
    d, rows, columns, k = maps.shape
    flat = maps.reshape(d, rows * columns, k)
    if not flat.size:
        return np.zeros((d, k, 2), np.int64), np.zeros((d, k), maps.dtype)
    best = flat.argmax(axis=1)  # (D, K)
    scores = np.take_along_axis(flat, best[:, None], axis=1)[:, 0]
    return np.stack(np.divmod(best, columns), axis=-1), scores


def _slopes(maps: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return 1 where the next cell along an axis is higher than the one before, -1 where it is lower, (D, K, 2)."""
    size = maps.shape[1]
    if size < 3:
        return np.zeros(cells.shape)
    d, k = np.indices(cells.shape[:2])
    row, column = np.clip(cells, 1, size - 2).transpose(2, 0, 1)
    along_y = np.sign(maps[d, row + 1, cells[..., 1], k] - maps[d, row - 1, cells[..., 1], k])
    along_x = np.sign(maps[d, cells[..., 0], column + 1, k] - maps[d, cells[..., 0], column - 1, k])
    inner = (cells > 0) & (cells < size - 1)
    return np.where(inner, np.stack([along_y, along_x], axis=-1), 0)


def _enlarged_peaks(maps: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Enlarge the maps of each box to its own size (D, 2), and return cells, heights and sizes."""
    d, size, _, k = maps.shape
    cells, scores = np.zeros((d, k, 2), np.int64), np.zeros((d, k), maps.dtype)
    for i, (rows, columns) in enumerate(sizes.tolist()):
        down, across = (cubic_weights(size, n).astype(maps.dtype) for n in (rows, columns))
        for j in range(k):  # one after the other: 17 maps of a whole photograph are 100 MB
            enlarged = down @ maps[i, :, :, j] @ across.T
            best = int(enlarged.argmax())
            cells[i, j], scores[i, j] = divmod(best, columns), enlarged.reshape(-1)[best]
    return cells, scores, sizes


def cubic_weights(n: int, m: int) -> np.ndarray:
    r"""Return how much of each of ``n`` cells every one of ``m`` new cells consists of, by cubic convolution.

    .. math::
        w(t) = \begin{cases} (a + 2) t^3 - (a + 3) t^2 + 1 & t \le 1 \\
        a t^3 - 5 a t^2 + 8 a t - 4 a & 1 < t < 2 \end{cases} \qquad a = -3/4

    Cell centres lie at i + 1/2, as in ``ops.resize``; beyond the first and last cell their values go on.

    Parameters
    ----------
    n, m : int

    Returns
    -------
    ndarray of shape (m, n), float64
        Rows sum to 1.

    References
    ----------
    Keys, "Cubic convolution interpolation for digital image processing" (1981), equation 15 with its parameter free.
    """
    u = (np.arange(m) + 0.5) * (n / m) - 0.5
    first = np.floor(u).astype(np.int64)
    weights = np.zeros((m, n))
    for step in (-1, 0, 1, 2):
        t = np.abs(u - (first + step))
        near = ((CUBIC + 2) * t - (CUBIC + 3)) * t**2 + 1
        far = ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC
        # several steps may end at the same border cell, but each row meets each step once
        weights[np.arange(m), np.clip(first + step, 0, n - 1)] += np.where(t <= 1, near, far)
    return weights
