"""Which pyramid level a region is read from, and RoIAlign over all levels at once with its gradient scattered back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import numpy as np

from kernels import as_array, to_host

from .boxes import box_area
from .ops.crop_and_resize import crop_and_resize, crop_and_resize_backward
from .ops.roi_align import check_rois, roi_align, roi_align_backward
from .ops.roi_pool import roi_pool, roi_pool_backward


def roi_level(
    rois: np.ndarray,
    *,
    canonical_size: float = 224,
    canonical_level: int = 4,
    rounding: Literal["floor", "round"] = "floor",
    min_level: int = 2,
    max_level: int = 5,
) -> np.ndarray:
    """Return the pyramid level whose cells suit the size of each RoI.

    ``k = k0 + log2(sqrt(h w) / canonical_size)``, made whole and kept within ``[min_level, max_level]``: a RoI of the
    size that the backbone was pre-trained on (224 pixels) is read from P4, one of half that from P3.

    Parameters
    ----------
    rois : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)``, half-open, pixels.
    canonical_size : float
        Side in pixels of the square RoI that belongs to ``canonical_level``.
    canonical_level : int
        ``k0``.
    rounding : {"floor", "round"}
        "floor" is the paper, torchvision and detectron2; torchvision's 1e-6 is added first, so that a RoI of exactly
        112 pixels does not fall a level for the last bit of its logarithm. "round" is matterport: the nearest level,
        a half of the logarithm (k0 not yet added) going to the even number.
    min_level, max_level : int
        First and last level that exists.

    Returns
    -------
    ndarray of shape (R,), int64
        A RoI without area goes to ``min_level``.

    Raises
    ------
    ValueError
        ``rounding`` is unknown or the levels are out of order.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", eq. 1.
    """
    if rounding not in ("floor", "round"):
        raise ValueError(f"rounding is {rounding!r}; expected 'floor' or 'round'")
    if min_level > max_level:
        raise ValueError(f"min_level is {min_level} and max_level {max_level}; expected min_level <= max_level")
    side = np.sqrt(box_area(rois))
    # Any side this small belongs to the lowest level anyway, and it has a logarithm.
    ratio = np.maximum(side / side.dtype.type(canonical_size), side.dtype.type(1e-30))
    if rounding == "floor":
        level = np.floor(canonical_level + np.log2(ratio) + side.dtype.type(1e-6))
    else:
        level = canonical_level + np.round(np.log2(ratio))
    return np.clip(level, min_level, max_level).astype(np.int64)


class PyramidAlignCache(NamedTuple):
    """What ``pyramid_roi_align_backward`` needs.

    Attributes
    ----------
    method : str
        ``"roi_align"``, ``"crop_and_resize"`` or ``"roi_pool"``.
    members : list of ndarray
        For each level the indices of the RoIs that were read from it.
    levels : list of tuple
        For each level the cache of its pooling.
    """

    method: str
    members: list[np.ndarray]
    levels: list[Any]


def pyramid_roi_align(
    features: Sequence[np.ndarray],
    rois: np.ndarray,
    batch_index: np.ndarray,
    *,
    output_size: int | tuple[int, int],
    strides: Sequence[int],
    canonical_size: float = 224.0,
    canonical_level: int = 4,
    rounding: Literal["floor", "round"] = "floor",
    method: Literal["roi_align", "crop_and_resize", "roi_pool"] = "roi_align",
    sampling_ratio: int = 2,
    aligned: bool = False,
    reduce: Literal["mean", "max"] = "mean",
    image_shape: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, PyramidAlignCache]:
    """Read every RoI from the level that suits its size.

    Parameters
    ----------
    features : sequence of L ndarrays of shape (N, H_l, W_l, C)
        P2, P3, P4, P5 (P6 only serves the region proposal network), or the one map of a network without pyramid, which
        then every RoI is read from.
    rois : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)``, half-open, pixels of the padded image.
    batch_index : ndarray of shape (R,), int
        Which image each RoI lies in.
    output_size : int or (int, int)
        Bins ``(ph, pw)``: 7 for the class and box head, 14 for the mask head.
    strides : sequence of L ints
        Image pixels per cell of each level.
    canonical_size, canonical_level, rounding
        As in ``roi_level``; the first of ``features`` is level 2.
    method : {"roi_align", "crop_and_resize", "roi_pool"}
        "crop_and_resize" is matterport's: one sample per bin, at positions normalised by the image's size minus 1;
        the level, too, is chosen by the normalised sides, ``H (h - 1) / (H - 1)`` for a RoI of height h. "roi_pool" is
        that of Fast R-CNN, with ``split="caffe"``.
    sampling_ratio, aligned, reduce
        As in ``roi_align``; the others have no use for them.
    image_shape : tuple ``(H, W, ...)``, optional
        The padded image, in pixels; needed by "crop_and_resize" only.

    Returns
    -------
    pooled : ndarray of shape (R, ph, pw, C)
        In the order of ``rois``.
    cache : PyramidAlignCache

    Raises
    ------
    ValueError
        The number of strides differs from that of features, levels have different channels, ``image_shape`` is missing,
        or what the pooling refuses.
    """
    if len(features) != len(strides) or not features:
        raise ValueError(f"{len(features)} feature maps, {len(strides)} strides: expected one stride per feature map")
    if len({feature.shape[-1] for feature in features}) > 1:
        raise ValueError(
            f"feature maps have shapes {', '.join(str(feature.shape) for feature in features)}; expected (N, H, W, C), "
            "the same number of channels on every level"
        )
    if method not in _BACKWARD:
        raise ValueError(f"method is {method!r}; expected 'roi_align', 'crop_and_resize' or 'roi_pool'")
    rois, batch_index = as_array(rois), as_array(batch_index)
    bins = check_rois(features[0], rois, batch_index, output_size)
    boxes = measured = rois
    if method == "crop_and_resize":
        if image_shape is None:
            raise ValueError("image_shape is None; crop_and_resize normalises boxes by it and expects (H, W)")
        boxes = normalise_boxes(rois, image_shape)
        measured = boxes * np.array([*image_shape[:2], *image_shape[:2]], boxes.dtype, like=boxes)
    levels = roi_level(
        measured,
        canonical_size=canonical_size,
        canonical_level=canonical_level,
        rounding=rounding,
        min_level=2,
        max_level=1 + len(features),
    )
    members = _members(levels - 2, len(features))
    pooled = np.empty((len(rois), *bins, features[0].shape[-1]), features[0].dtype, like=features[0])
    caches = []
    for feature, stride, rows in zip(features, strides, members):
        if method == "roi_align":
            pooled[rows], cache = roi_align(
                feature,
                boxes[rows],
                batch_index[rows],
                output_size=output_size,
                spatial_scale=1.0 / stride,
                sampling_ratio=sampling_ratio,
                aligned=aligned,
                reduce=reduce,
            )
        elif method == "roi_pool":
            pooled[rows], cache = roi_pool(
                feature, boxes[rows], batch_index[rows], output_size=output_size, spatial_scale=1.0 / stride
            )
        else:
            pooled[rows], cache = crop_and_resize(feature, boxes[rows], batch_index[rows], output_size=output_size)
        caches.append(cache)
    return pooled, PyramidAlignCache(method, members, caches)


def _roi_pool_backward(dy: np.ndarray, cache: Any, *, into: np.ndarray | None = None) -> np.ndarray:
    """Do what ``roi_pool_backward`` does, and add the gradient to ``into``, in place, as the other two can."""
    dfeatures = roi_pool_backward(dy, cache)
    if into is None:
        return dfeatures
    into += dfeatures
    return into


_BACKWARD = {
    "roi_align": roi_align_backward,
    "crop_and_resize": crop_and_resize_backward,
    "roi_pool": _roi_pool_backward,
}


def _members(groups: np.ndarray, count: int) -> list[np.ndarray]:
    """List for each group (0 .. count - 1) the indices of its members, ascending; the host asks once for all sizes."""
    order = np.argsort(groups, kind="stable")
    sizes = to_host((groups[:, None] == np.arange(count, like=groups)).sum(axis=0)).tolist()
    return [order[end - size : end] for size, end in zip(sizes, accumulate(sizes))]


def pyramid_roi_align_backward(
    dy: np.ndarray, cache: PyramidAlignCache, *, into: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """Return the gradient of each level: every RoI's gradient goes back to the level it was read from, no other.

    Parameters
    ----------
    dy : ndarray of shape (R, ph, pw, C)
    cache : PyramidAlignCache
    into : sequence of L ndarrays of shape (N, H_l, W_l, C), optional
        Add the gradients to these, in place: what the levels receive from elsewhere.

    Returns
    -------
    list of L ndarrays of shape (N, H_l, W_l, C)
        Zero for a level without RoIs. There is no gradient to the boxes, nor through the choice of the level.
    """
    backward = _BACKWARD[cache.method]
    sums: Sequence[np.ndarray | None] = [None] * len(cache.members) if into is None else into
    return [backward(dy[rows], level, into=x) for rows, level, x in zip(cache.members, cache.levels, sums)]


def normalise_boxes(boxes: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Turn half-open pixel boxes into the coordinates of ``crop_and_resize``: matterport's ``norm_boxes``.

    ``(box - [0, 0, 1, 1]) / [H - 1, W - 1, H - 1, W - 1]``: the first and the last pixel of the box, as fractions of
    the way from the centre of the image's first pixel to that of its last.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)
        ``(y1, x1, y2, x2)``, half-open, pixels.
    image_shape : tuple ``(H, W, ...)``
        In pixels. An image one pixel high or wide has only the position 0.

    Returns
    -------
    ndarray of shape (..., 4)
        In the dtype of ``boxes``.
    """
    height, width = image_shape[:2]
    sides = max(height - 1, 1), max(width - 1, 1)
    scale = np.array(sides * 2, boxes.dtype, like=boxes)
    return (boxes - np.array([0, 0, 1, 1], boxes.dtype, like=boxes)) / scale
