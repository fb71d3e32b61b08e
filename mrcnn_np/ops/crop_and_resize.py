"""Crop boxes out of images and resize them bilinearly, with TensorFlow's semantics: one sample per output pixel.

Boxes are normalised: 0 is the centre of the first pixel and 1 that of the last, so ``y`` stands for pixel index
``y (H - 1)``. Pixel boxes become that by ``(box - [0, 0, 1, 1]) / (H - 1, W - 1, H - 1, W - 1)``.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from kernels import accelerated
from kernels.contract import CropAndResizeCache

from .roi_align import check_rois


@accelerated
def crop_and_resize(
    image: np.ndarray,
    boxes: np.ndarray,
    box_index: np.ndarray,
    *,
    output_size: int | tuple[int, int],
    extrapolation_value: float = 0.0,
) -> tuple[np.ndarray, CropAndResizeCache]:
    """Sample each box at ``ph x pw`` points whose first and last lie on its corners.

    Row ``i`` of the output reads the image at ``y1 (H - 1) + i (y2 - y1) (H - 1) / (ph - 1)``; a single row reads the
    centre, ``(y1 + y2) (H - 1) / 2``. Likewise along x.

    Parameters
    ----------
    image : ndarray of shape (N, H, W, C)
        Integers and booleans are read as float32.
    boxes : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)``, normalised to centres of pixels (see above). ``y1 > y2`` flips the crop.
    box_index : ndarray of shape (R,), int
        Which of the N images each box reads.
    output_size : int or (int, int)
        ``(ph, pw)``.
    extrapolation_value : float
        The value of every point outside ``[0, H - 1] x [0, W - 1]``, however little outside.

    Returns
    -------
    crops : ndarray of shape (R, ph, pw, C)
        In the dtype of ``image``.
    cache : CropAndResizeCache

    Raises
    ------
    ValueError
        A shape is wrong, a box is not finite, or an index is out of range.

    Notes
    -----
    Linear in the image, like RoIAlign: ``crops = W image + constant`` with four weights per output pixel, and the
    backward pass is ``W^T dy``. Unlike RoIAlign, a bin far larger than a pixel is still read at one point.
    """
    image, boxes, box_index = np.asarray(image), np.asarray(boxes), np.asarray(box_index)
    size = check_rois(image, boxes, box_index, output_size, name="image")
    if not np.issubdtype(image.dtype, np.floating):
        image = image.astype(np.float32)
    matrix, inside = _sampling_matrix(image.shape, image.dtype, boxes, box_index, size)
    crops = (matrix @ image.reshape(-1, image.shape[3])).reshape(len(boxes), *size, image.shape[3])
    crops[~inside] = extrapolation_value
    return crops, CropAndResizeCache(image.shape, image.dtype, boxes, box_index, size)


@accelerated
def crop_and_resize_backward(
    dy: np.ndarray, cache: CropAndResizeCache, *, into: np.ndarray | None = None
) -> np.ndarray:
    """Return the gradient with respect to the image: every point hands its gradient to the four pixels it read.

    Parameters
    ----------
    dy : ndarray of shape (R, ph, pw, C)
    cache : CropAndResizeCache
    into : ndarray of shape (N, H, W, C), optional
        Add the gradient to this array, in place, and return it.

    Returns
    -------
    dimage : ndarray of shape (N, H, W, C)

    Notes
    -----
    There is no gradient to the boxes: they are proposals, and training them through the pixels they read would bypass
    the losses that are meant for them.
    """
    shape, dtype, boxes, box_index, size = cache
    matrix, _ = _sampling_matrix(shape, dtype, boxes, box_index, size)
    dimage = np.zeros(shape, dy.dtype) if into is None else into
    dimage += (matrix.T @ dy.reshape(-1, shape[3])).reshape(shape)
    return dimage


def _axis_points(
    low: np.ndarray, high: np.ndarray, points: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return neighbours (R, points, 2), their weights, and whether each point (R, points) is inside, on one axis."""
    last = low.dtype.type(size - 1)
    if points > 1:
        step = (high - low) * last / low.dtype.type(points - 1)
        coordinate = (low * last)[:, None] + np.arange(points, dtype=low.dtype) * step[:, None]
    else:
        coordinate = (low.dtype.type(0.5) * (low + high) * last)[:, None]
    inside = (coordinate >= 0) & (coordinate <= last)
    coordinate = np.where(inside, coordinate, 0)
    lower, upper = np.floor(coordinate), np.ceil(coordinate)
    fraction = coordinate - lower
    weights = np.stack([1 - fraction, fraction], axis=-1) * inside[..., None]
    return np.stack([lower, upper], axis=-1).astype(np.int32), weights, inside


def _sampling_matrix(
    image_shape: tuple[int, ...], dtype: np.dtype, boxes: np.ndarray, box_index: np.ndarray, size: tuple[int, int]
) -> tuple[sparse.csr_array, np.ndarray]:
    """Return W of shape (R * ph * pw, N * H * W) and which points are inside their image, (R, ph, pw)."""
    maps, height, width, _ = image_shape
    boxes = boxes.astype(dtype)
    iy, wy, inside_y = _axis_points(boxes[:, 0], boxes[:, 2], size[0], height)
    ix, wx, inside_x = _axis_points(boxes[:, 1], boxes[:, 3], size[1], width)
    row = (box_index.astype(np.int32)[:, None, None] * height + iy) * width
    pixel = row[:, :, None, :, None] + ix[:, None, :, None, :]  # (R, ph, pw, 2, 2)
    weight = wy[:, :, None, :, None] * wx[:, None, :, None, :]
    shape = (len(boxes) * size[0] * size[1], maps * height * width)
    matrix = sparse.csr_array((weight.ravel(), pixel.ravel(), np.arange(0, pixel.size + 1, 4)), shape=shape)
    return matrix, inside_y[:, :, None] & inside_x[:, None, :]
