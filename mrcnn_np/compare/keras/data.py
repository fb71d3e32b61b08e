"""What matterport does to images, masks and boxes in NumPy: molding, ground truth, anchor targets, unmolding.

``resize`` is scikit-image's ``transform.resize(order=1, mode="constant")`` as it was in matterport's time (0.13 to
0.17): between the four neighbours, those outside the image being 0, then clipped to the image's range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...config import Config
from ...data.sample import Sample
from .regions import denormalise, normalise

Choose = Callable[[np.ndarray, int], np.ndarray]


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) or (H, W, C) bilinearly, in float64."""
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(x.shape, size)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    planes = np.moveaxis(x[..., None] if x.ndim == 2 else x, 2, 0).astype(float)
    out = [ndimage.map_coordinates(plane, grid, order=1, mode="grid-constant") for plane in planes]
    return np.clip(np.stack(out, axis=-1), x.min(), x.max()).reshape(*size, *x.shape[2:])


@dataclass(frozen=True)
class Molded:
    """An image on its canvas.

    Attributes
    ----------
    image : ndarray of shape (S, S, 3), float32
    window : tuple of int
        ``(y1, x1, y2, x2)`` of the image within the canvas.
    scale : float
    """

    image: np.ndarray
    window: tuple[int, int, int, int]
    scale: float


def mold(image: np.ndarray, config: Config) -> Molded:
    """Resize to ``IMAGE_MIN_DIM``, ``IMAGE_MAX_DIM`` in mode "square", pad, subtract ``MEAN_PIXEL``."""
    height, width = image.shape[:2]
    scale = max(1.0, config.image_min_size / min(height, width))
    if round(max(height, width) * scale) > config.image_max_size:
        scale = config.image_max_size / max(height, width)
    size = round(height * scale), round(width * scale)
    if scale != 1:
        # back to uint8, which truncates; 1e-6 because 100 may come out as 99.99999999999999
        image = np.floor(resize(image, size) + 1e-6).astype(np.uint8)
    (top, bottom), (left, right) = _padding(size, config)
    image = np.pad(image, [(top, bottom), (left, right), (0, 0)])
    window = (top, left, top + size[0], left + size[1])
    return Molded(image.astype(np.float32) - np.array(config.pixel_mean, np.float32), window, scale)


def _padding(size: tuple[int, int], config: Config) -> list[tuple[int, int]]:
    missing = [config.image_max_size - side for side in size]
    return [(m // 2, m - m // 2) for m in missing]


@dataclass(frozen=True)
class Truth:
    """The objects of one image; the class id of a crowd is negative.

    Attributes
    ----------
    class_ids : ndarray of shape (G,)
    boxes : ndarray of shape (G, 4)
        Whole pixels of the canvas, half-open.
    masks : ndarray of shape (G, h, w), bool
        Mini masks, or on the canvas.
    """

    class_ids: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray


def ground_truth(sample: Sample, config: Config) -> Truth:
    """Do what ``load_image_gt`` does to the masks: zoom, pad, find their boxes, minimise."""
    molded = mold(sample.image, config)
    size = molded.window[2] - molded.window[0], molded.window[3] - molded.window[1]
    masks, boxes, class_ids = [], [], []
    for mask, class_id, crowd in zip(sample.gt_masks, sample.gt_class_ids, sample.gt_crowd):
        # "nearest" only matters where round-off leads a hair's breadth beyond the last cell
        zoomed = ndimage.zoom(mask.astype(np.uint8), molded.scale, order=0, mode="nearest").astype(bool)
        canvas = np.pad(zoomed, _padding(size, config))
        rows, columns = np.flatnonzero(canvas.any(1)), np.flatnonzero(canvas.any(0))
        if not len(rows):
            continue
        y1, x1, y2, x2 = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        if config.mini_mask_shape is not None:
            canvas = np.around(resize(canvas[y1:y2, x1:x2], config.mini_mask_shape)).astype(bool)
        masks.append(canvas)
        boxes.append((y1, x1, y2, x2))
        class_ids.append(-class_id if crowd else class_id)
    shape = config.mini_mask_shape or (config.image_max_size,) * 2
    return Truth(
        class_ids=np.array(class_ids, np.int64),
        boxes=np.array(boxes, np.int64).reshape(-1, 4),
        masks=np.array(masks, bool).reshape(-1, *shape),
    )


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of all pairs, (A, B)."""
    shared = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.maximum(shared, 0).prod(axis=2)
    areas = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def anchor_targets(anchors: np.ndarray, truth: Truth, config: Config, choose: Choose) -> tuple[np.ndarray, np.ndarray]:
    """Do what ``build_rpn_targets`` does, in pixels and float64; ``choose(indices, count)`` stands in for chance.

    Parameters
    ----------
    anchors : ndarray of shape (A, 4)
        In pixels.
    truth : Truth
    config : Config
    choose : callable
        Returns at most ``count`` of the indices.

    Returns
    -------
    match : ndarray of shape (A,)
        1 positive, -1 negative, 0 neutral.
    deltas : ndarray of shape (RPN_TRAIN_ANCHORS_PER_IMAGE, 4)
        Of the positive anchors in their order, then zeros.
    """
    boxes, crowds = truth.boxes[truth.class_ids > 0], truth.boxes[truth.class_ids < 0]
    iou = overlaps(anchors, boxes)
    best = iou.max(axis=1)
    match = np.where(best < 0.3, -1, 0)
    if len(crowds):
        match[overlaps(anchors, crowds).max(axis=1) >= 0.001] = 0
    match[(iou == iou.max(axis=0)).any(axis=1)] = 1
    match[best >= 0.7] = 1
    total = config.rpn_anchors_per_image
    for label, count in ((1, total // 2), (-1, None)):
        indices = np.flatnonzero(match == label)
        count = total - int((match == 1).sum()) if count is None else count
        match[np.setdiff1d(indices, choose(indices, count))] = 0
    positive = np.flatnonzero(match == 1)
    deltas = np.zeros((total, 4))
    for row, i in enumerate(positive):
        deltas[row] = refinement(anchors[i], boxes[iou[i].argmax()]) / np.array(config.rpn_box_std)
    return match, deltas


def refinement(box: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return (dy, dx, log dh, log dw) from one box to another."""
    (cy, cx, h, w), (ty, tx, th, tw) = (
        ((y1 + y2) / 2, (x1 + x2) / 2, y2 - y1, x2 - x1) for y1, x1, y2, x2 in (box, target)
    )
    return np.array([(ty - cy) / h, (tx - cx) / w, np.log(th / h), np.log(tw / w)])


def unmold(
    detections: np.ndarray, masks: np.ndarray, shape: tuple[int, int], canvas: tuple[int, int], window: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Do what ``unmold_detections`` does.

    Parameters
    ----------
    detections : ndarray of shape (D, 6)
    masks : ndarray of shape (D, m, m)
        Of each detection's own class.
    shape, canvas : (int, int)
        Of the original image, of the molded one.
    window : 4 ints
        Of the image in the molded one.

    Returns
    -------
    boxes : ndarray of shape (D, 4), int64
    pasted : ndarray of shape (D, H, W), bool
    """
    y1, x1, y2, x2 = normalise(np.array(window), canvas)
    relative = (detections[:, :4] - np.array([y1, x1, y1, x1])) / np.array([y2 - y1, x2 - x1] * 2)
    boxes = np.around(denormalise(relative, shape)).astype(np.int64)
    pasted = np.zeros((len(boxes), *shape), bool)
    for plane, mask, (top, left, bottom, right) in zip(pasted, masks, boxes):
        if bottom > top and right > left:
            plane[top:bottom, left:right] = resize(mask, (bottom - top, right - left)) >= 0.5
    return boxes, pasted
