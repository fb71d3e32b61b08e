"""Boxes: area, overlap, and the one codec between boxes and the deltas the network predicts.

A box is ``(y1, x1, y2, x2)`` in pixels, float, half-open: it covers ``[y1, y2) x [x1, x2)``, so its height is
``y2 - y1`` and the box of the single pixel in row 3, column 5 is ``(3, 5, 4, 6)``; that pixel's centre is (3.5, 5.5).
"""

from __future__ import annotations

import numpy as np

from kernels import accelerated, as_array, on_device

from .config import LOG_1000_16
from .errors import NonFiniteError


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Return the area of each box; a box with a negative side has area 0.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)
        ``(y1, x1, y2, x2)``, half-open, in any unit.

    Returns
    -------
    ndarray of shape (...)
        Area in square units, in the dtype of ``boxes``.
    """
    boxes = _checked(boxes, "boxes")
    return np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the area shared by each pair: ``(A, 4)`` and ``(B, 4)`` -> ``(A, B)``."""
    # One coordinate at a time: four (A, B) temporaries instead of an (A, B, 4) block, about twice as fast.
    top = np.maximum(a[:, None, 0], b[None, :, 0])
    left = np.maximum(a[:, None, 1], b[None, :, 1])
    height = np.minimum(a[:, None, 2], b[None, :, 2]) - top
    width = np.minimum(a[:, None, 3], b[None, :, 3]) - left
    return np.maximum(height, 0) * np.maximum(width, 0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, and 0 where ``whole`` is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


@accelerated
def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return intersection over union of every box of ``a`` with every box of ``b``.

    ``iou = |a & b| / (|a| + |b| - |a & b|)``.

    Parameters
    ----------
    a : ndarray of shape (A, 4)
        ``(y1, x1, y2, x2)``, half-open, in any unit.
    b : ndarray of shape (B, 4)
        In the same unit.

    Returns
    -------
    ndarray of shape (A, B)
        In [0, 1], in the common dtype of ``a`` and ``b``. A box without area overlaps nothing: 0, also with itself.

    Notes
    -----
    Anchors that all contain a small object overlap it equally on paper and can differ in the last bit here, and which
    of them wins then depends on the dtype: compare with a tolerance wherever a tie has a meaning.
    """
    a, b = _checked(a, "a", 2), _checked(b, "b", 2)
    shared = _intersection(a, b)
    return _ratio(shared, box_area(a)[:, None] + box_area(b)[None, :] - shared)


def intersection_over_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the fraction of each box of ``a`` that lies inside each box of ``b``: COCO's overlap with a crowd.

    ``ioa = |a & b| / |a|``: a detection entirely inside a crowd region counts as 1 however large the region is.

    Parameters
    ----------
    a : ndarray of shape (A, 4)
        Detections, ``(y1, x1, y2, x2)``, half-open, in any unit.
    b : ndarray of shape (B, 4)
        Crowd regions in the same unit.

    Returns
    -------
    ndarray of shape (A, B)
        In [0, 1]; 0 for a box of ``a`` without area.
    """
    a, b = _checked(a, "a", 2), _checked(b, "b", 2)
    shared = _intersection(a, b)
    return _ratio(shared, np.broadcast_to(box_area(a)[:, None], shared.shape))


def _centres_and_sides(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centres ``(cy, cx)`` and sides ``(h, w)``, each of shape (..., 2)."""
    sides = boxes[..., 2:] - boxes[..., :2]
    half = boxes.dtype.type(0.5)
    return boxes[..., :2] + half * sides, sides


def encode_boxes(
    boxes: np.ndarray, anchors: np.ndarray, *, std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
) -> np.ndarray:
    """Describe boxes relative to anchors: the regression targets of the RPN and of the box head.

    With centres ``(cy, cx)`` and sides ``(h, w)``, and ``a`` for the anchor::

        dy = (cy - cy_a) / h_a      dlog_h = log(h / h_a)
        dx = (cx - cx_a) / w_a      dlog_w = log(w / w_a)

    and each of the four divided by its ``std``.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)
        ``(y1, x1, y2, x2)``, half-open, pixels.
    anchors : ndarray of shape (..., 4)
        Same order and unit; broadcast against ``boxes``.
    std : tuple of 4 floats
        Expected standard deviation of ``(dy, dx, log dh, log dw)``: dividing by it brings all four to about unit size.

    Returns
    -------
    ndarray of shape (..., 4)
        ``(dy, dx, log dh, log dw) / std``. torchvision and the papers write ``(dx, dy, dw, dh)`` instead.

    Raises
    ------
    ValueError
        A box or an anchor has a side that is not positive; the message names the row. Boxes on a device are not looked
        at, which would keep the host waiting: there the deltas, and the losses with them, become infinite or NaN.

    References
    ----------
    Girshick et al., "Rich feature hierarchies", appendix C; Ren et al., "Faster R-CNN", eq. 2.
    """
    boxes, anchors = _checked(boxes, "boxes"), _checked(anchors, "anchors")
    _require_sides(boxes, "boxes")
    _require_sides(anchors, "anchors")
    centres, sides = _centres_and_sides(boxes)
    anchor_centres, anchor_sides = _centres_and_sides(anchors)
    deltas = np.concatenate([(centres - anchor_centres) / anchor_sides, np.log(sides / anchor_sides)], axis=-1)
    return deltas / np.asarray(std, dtype=deltas.dtype, like=deltas)


@accelerated
def decode_boxes(
    deltas: np.ndarray,
    anchors: np.ndarray,
    *,
    std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    max_log_scale: float | None = LOG_1000_16,
) -> np.ndarray:
    """Move and scale anchors by predicted deltas: the inverse of ``encode_boxes``.

    ``cy = cy_a + dy h_a``, ``cx = cx_a + dx w_a``, ``h = h_a exp(dlog_h)``, ``w = w_a exp(dlog_w)``.

    Parameters
    ----------
    deltas : ndarray of shape (..., 4)
        ``(dy, dx, log dh, log dw) / std``.
    anchors : ndarray of shape (..., 4)
        ``(y1, x1, y2, x2)``, half-open, pixels; broadcast against ``deltas``: class-specific deltas (R, K, 4) go with
        anchors (R, 1, 4).
    std : tuple of 4 floats
        What the deltas were divided by.
    max_log_scale : float or None
        ``log dh`` and ``log dw`` (after multiplying by ``std``) are cut off here, so that an untrained network cannot
        overflow ``exp``. None: no limit.

    Returns
    -------
    ndarray of shape (..., 4)
        Boxes ``(y1, x1, y2, x2)``, not clipped to any image.
    """
    deltas, anchors = _checked(deltas, "deltas"), _checked(anchors, "anchors")
    deltas = deltas * np.asarray(std, dtype=deltas.dtype, like=deltas)
    centres, sides = _centres_and_sides(anchors)
    log_scale = deltas[..., 2:]
    if max_log_scale is not None:
        log_scale = np.minimum(log_scale, log_scale.dtype.type(max_log_scale))
    new_sides = sides * np.exp(log_scale)
    new_centres = centres + deltas[..., :2] * sides
    half = new_sides.dtype.type(0.5) * new_sides
    return np.concatenate([new_centres - half, new_centres + half], axis=-1)


def boxes_from_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Return boxes ``(x1, y1, x2, y2)``, as torchvision and detectron2 have them, as ``(y1, x1, y2, x2)``."""
    return _checked(boxes, "boxes")[..., [1, 0, 3, 2]]


def boxes_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Return boxes ``(y1, x1, y2, x2)`` as ``(x1, y1, x2, y2)``: the inverse of ``boxes_from_xyxy``."""
    return _checked(boxes, "boxes")[..., [1, 0, 3, 2]]


def enter_frame(boxes: np.ndarray, frame: str) -> np.ndarray:
    """Express half-open pixel boxes by what a dialect measures them between.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)
        ``(y1, x1, y2, x2)``, half-open, pixels.
    frame : {"edges", "centres"}
        ``config.box_frame``. "edges": as they are. "centres": ``(y1, x1, y2 - 1, x2 - 1)``, from the first pixel to
        the last, as in matterport's normalised coordinates (which divide this by the image's sides - 1; deltas and
        IoU do not depend on that). The box of one pixel has no area there.

    Returns
    -------
    ndarray of shape (..., 4)
    """
    return boxes if frame == "edges" else boxes - np.array([0, 0, 1, 1], boxes.dtype, like=boxes)


def leave_frame(boxes: np.ndarray, frame: str) -> np.ndarray:
    """Return half-open pixel boxes: the inverse of ``enter_frame``."""
    return boxes if frame == "edges" else boxes + np.array([0, 0, 1, 1], boxes.dtype, like=boxes)


def clip_boxes(boxes: np.ndarray, window: tuple[float, float, float, float] | np.ndarray) -> np.ndarray:
    """Move every corner into the window; a box entirely outside becomes one without area on the window's edge.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)
        ``(y1, x1, y2, x2)``, half-open, pixels.
    window : 4 floats
        ``(y1, x1, y2, x2)`` to clip to: ``(0, 0, H, W)`` for a whole image, or the part of it that is not padding.

    Returns
    -------
    ndarray of shape (..., 4)
        A new array in the dtype of ``boxes``.

    Raises
    ------
    ValueError
        The window is inside out.
    """
    boxes = _checked(boxes, "boxes")
    y1, x1, y2, x2 = (float(v) for v in window)
    if not (y1 <= y2 and x1 <= x2):
        raise ValueError(f"window is {(y1, x1, y2, x2)}; expected (y1, x1, y2, x2) with y1 <= y2 and x1 <= x2")
    clipped = np.empty_like(boxes)
    clipped[..., 0::2] = np.clip(boxes[..., 0::2], y1, y2)
    clipped[..., 1::2] = np.clip(boxes[..., 1::2], x1, x2)
    return clipped


def has_sides(boxes: np.ndarray, minimum: float | None = 0.0) -> np.ndarray:
    """Tell which boxes have an area, and both sides at least ``minimum`` long.

    A box without area is no region at all, whatever the minimum; only ``minimum=None`` lets every box pass.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)
        ``(y1, x1, y2, x2)``, half-open, in any unit.
    minimum : float or None
        In the same unit.

    Returns
    -------
    ndarray of shape (...), bool
        False for a box that holds NaN.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    if minimum is None:
        return np.ones_like(sides[..., 0], bool)
    return ((sides >= minimum) & (sides > 0)).all(axis=-1)


def require_finite(what: str, boxes: np.ndarray) -> np.ndarray:
    """Return the boxes; stop at sides that overflowed, which weights of another network bring about."""
    if not np.isfinite(boxes).all():
        raise NonFiniteError(f"{what} holds NaN or infinity: exp(delta) overflows, which max_log_scale would prevent")
    return boxes


def tight_box(mask: np.ndarray) -> np.ndarray:
    """Return the tight box of a mask with at least one pixel.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool

    Returns
    -------
    box : ndarray of shape (4,), float64
        ``(y1, x1, y2, x2)`` half-open: y2 and x2 are the last row and column plus one.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], dtype=np.float64)


def _checked(boxes: np.ndarray, name: str, ndim: int | None = None) -> np.ndarray:
    """Return ``boxes`` as a float array with 4 columns (integers become float32), or say what came instead."""
    boxes = as_array(boxes)
    if boxes.shape[-1:] != (4,) or (ndim is not None and boxes.ndim != ndim):
        expected = "(N, 4)" if ndim == 2 else "(..., 4)"
        raise ValueError(f"{name} has shape {boxes.shape}; expected {expected}")
    return boxes if np.issubdtype(boxes.dtype, np.floating) else boxes.astype(np.float32)


def _require_sides(boxes: np.ndarray, name: str) -> None:
    """Refuse boxes whose height or width is not positive (NaN included): their logarithm means nothing."""
    if on_device(boxes):
        return
    bad = ~has_sides(boxes)
    if bad.any():
        row = tuple(int(i) for i in np.argwhere(bad)[0])
        where = row[0] if len(row) == 1 else row
        y1, x1, y2, x2 = (float(v) for v in boxes[row])
        raise ValueError(f"{name} row {where} is ({y1:g}, {x1:g}, {y2:g}, {x2:g}); expected y2 > y1 and x2 > x1")


def whole_boxes(boxes: np.ndarray, image_shape: tuple[int, int]) -> np.ndarray:
    """Return the masks of a network without mask branch: all pixels whose centre lies in the box.

    Parameters
    ----------
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels of the image; pixel i spans [i, i + 1).
    image_shape : tuple of int
        (H, W).

    Returns
    -------
    ndarray of shape (D, H, W), bool
    """
    y, x = (np.arange(side, like=boxes) + 0.5 for side in image_shape)
    rows = (y >= boxes[:, :1]) & (y < boxes[:, 2:3])  # (D, H)
    columns = (x >= boxes[:, 1:2]) & (x < boxes[:, 3:])
    return rows[:, :, None] & columns[:, None, :]
