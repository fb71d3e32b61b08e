"""Random flips, quarter turns, cuts, scales and colours; image, boxes, masks, keypoints and void stay consistent.

Keypoints stand as they are annotated; ``keypoint_offset`` makes them positions (``config.keypoint_offset``). A mirror
exchanges left and right, a turn does not; what leaves the image is annotated no more.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..boxes import tight_box as tight_box
from ..config import Config
from .masks import Masks
from .sample import Sample


def augment(
    sample: Sample,
    rng: np.random.Generator,
    *,
    flip: float = 0.5,
    scale_jitter: tuple[float, float] = (1.0, 1.0),
    flip_vertical: float = 0.0,
    quarter_turns: float = 0.0,
    crop: tuple[float, float] = (1.0, 1.0),
    colour_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0),
    keypoint_offset: float = 0.5,
) -> Sample:
    """Return a randomly flipped, turned, cut, rescaled and recoloured copy of a sample.

    Parameters
    ----------
    sample : Sample
    rng : Generator
        Two numbers decide about flip and scale, and two more about the place; all four are drawn at every call, so
        the state afterwards does not depend on the outcome. Two more are drawn if ``flip_vertical`` or
        ``quarter_turns`` is above 0, four more for ``crop``, three more for ``colour_jitter``: without them, all is as
        before there were any.
    flip : float
        Probability of a horizontal flip.
    scale_jitter : (low, high)
        The scale is uniform in this range.
    flip_vertical : float
        Probability of a vertical flip.
    quarter_turns : float
        Probability of a turn by one, two or three quarters, each a third of it.
    crop : (low, high)
        Height and width of the window that is left, as shares of the image's, are uniform in this range.
    colour_jitter : 3 numbers
        Of brightness, contrast and saturation: the factor is uniform in 1 - x .. 1 + x.
    keypoint_offset : float
        What makes annotated keypoints positions.

    Returns
    -------
    augmented : Sample
        ``sample`` is not modified. Instances that the crop removed are left out.
    """
    chance, share, down, right = rng.random(4)
    scale = scale_jitter[0] + (scale_jitter[1] - scale_jitter[0]) * share
    if chance < flip:
        sample = flip_horizontal(sample, keypoint_offset=keypoint_offset)
    if flip_vertical or quarter_turns:
        over, turned = rng.random(2)
        if over < flip_vertical:
            sample = turn(flip_horizontal(sample, keypoint_offset=keypoint_offset), 2, keypoint_offset=keypoint_offset)
        if turned < quarter_turns:
            sample = turn(sample, 1 + int(3 * turned / quarter_turns), keypoint_offset=keypoint_offset)
    if crop != (1, 1):
        shares, place = crop[0] + (crop[1] - crop[0]) * rng.random(2), rng.random(2)
        size = np.array(sample.image.shape[:2])
        window = np.maximum(np.rint(size * shares).astype(int), 1)
        corner = np.floor((size - window) * place + 0.5).astype(int)
        sample = cut(sample, (*corner.tolist(), *(corner + window).tolist()), keypoint_offset=keypoint_offset)
    if scale != 1:
        sample = rescale(sample, scale, (down, right), keypoint_offset=keypoint_offset)
    if any(colour_jitter):
        factors = 1 + np.array(colour_jitter) * rng.uniform(-1, 1, 3)
        sample = sample.replace(image=recoloured(sample.image, *factors.tolist()))
    return sample


def augmented_as(sample: Sample, rng: np.random.Generator, config: Config) -> Sample:
    """Return ``augment`` of a sample with what a configuration asks for: what a step of training sees.

    Parameters
    ----------
    sample : Sample
    rng : Generator
    config : Config
    """
    return augment(
        sample,
        rng,
        flip=config.flip,
        scale_jitter=config.scale_jitter,
        flip_vertical=config.flip_vertical,
        quarter_turns=config.quarter_turns,
        crop=config.crop,
        colour_jitter=config.colour_jitter,
        keypoint_offset=config.keypoint_offset,
    )


def leave_out(count: int, rng: np.random.Generator, config: Config) -> None:
    """Bring a generator to where ``augmented_as`` of so many samples would: they are somebody else's to augment.

    Parameters
    ----------
    count : int
    rng : Generator
        A PCG64, as ``default_rng`` makes.
    config : Config
    """
    each = 4 + 2 * bool(config.flip_vertical or config.quarter_turns)
    each += 4 * (config.crop != (1, 1)) + 3 * any(config.colour_jitter)
    if count:
        rng.bit_generator.advance(count * each)  # type: ignore[attr-defined]


def flip_horizontal(sample: Sample, *, keypoint_offset: float = 0.5) -> Sample:
    """Mirror a sample left to right.

    Half-open boxes make this exact: ``[x1, x2)`` becomes ``[W - x2, W - x1)``. Two flips are the identity. Keypoints
    whose names say left and right change places: what was the left hand looks like a right one now.

    Parameters
    ----------
    sample : Sample
    keypoint_offset : float
        0.5: pixel x becomes pixel W - 1 - x. 0: position x becomes W - x.
    """
    width = sample.image.shape[1]
    y1, x1, y2, x2 = sample.gt_boxes.T
    return sample.replace(
        image=sample.image[:, ::-1].copy(),
        gt_boxes=np.stack([y1, width - x2, y2, width - x1], axis=1),
        gt_masks=_as_given(_masks(sample).flipped(), sample),
        void=sample.void[:, ::-1].copy(),
        gt_keypoints=_mirrored(sample, width - 2 * keypoint_offset),
    )


def _mirrored(sample: Sample, sum_of_both: float) -> np.ndarray | None:
    """Return keypoints whose x and mirrored x have this sum, left and right exchanged."""
    if sample.gt_keypoints is None:
        return None
    y, x, visible = np.moveaxis(sample.gt_keypoints, -1, 0)
    points = _annotated(np.stack([y, sum_of_both - x, visible], axis=-1))
    return points if sample.pose is None else points[:, sample.pose.mirrored]


def _annotated(points: np.ndarray) -> np.ndarray:
    """Put keypoints (G, K, 3) that are not annotated at 0, where COCO has them."""
    return np.where(points[..., 2:] > 0, points, 0)


def turn(sample: Sample, quarters: int, *, keypoint_offset: float = 0.5) -> Sample:
    """Turn a sample counterclockwise by quarters of a circle, as ``numpy.rot90`` does.

    Half-open boxes make this exact, too: by one quarter, rows ``[y1, y2)`` become columns, and columns ``[x1, x2)``
    become rows ``[W - x2, W - x1)``. Four quarters are the identity.

    Parameters
    ----------
    sample : Sample
    quarters : int
        Any whole number; what is beyond 4 goes round again.
    keypoint_offset : float
        As in ``flip_horizontal``.
    """
    for _ in range(quarters % 4):
        width = sample.image.shape[1]
        y1, x1, y2, x2 = sample.gt_boxes.T
        sample = sample.replace(
            image=np.rot90(sample.image).copy(),
            gt_boxes=np.stack([width - x2, y1, width - x1, y2], axis=1),
            gt_masks=_as_given(_masks(sample).turned(), sample),
            void=np.rot90(sample.void).copy(),
            gt_keypoints=_turned(sample, width - 2 * keypoint_offset),
        )
    return sample


def _turned(sample: Sample, sum_of_both: float) -> np.ndarray | None:
    """Return keypoints after a quarter turn: x becomes y counted from the other end."""
    if sample.gt_keypoints is None:
        return None
    y, x, visible = np.moveaxis(sample.gt_keypoints, -1, 0)
    return _annotated(np.stack([sum_of_both - x, y, visible], axis=-1))


def rescale(
    sample: Sample, scale: float, place: tuple[float, float] = (0.5, 0.5), *, keypoint_offset: float = 0.5
) -> Sample:
    """Enlarge a sample and crop it, or shrink it and pad it, to the size it had.

    Parameters
    ----------
    sample : Sample
    scale : float
        Above 1 enlarges.
    place : (down, right)
        Where the crop lies in the enlarged image, or the shrunk image on the canvas: 0 top or left, 1 bottom or right.
    keypoint_offset : float
        As in ``flip_horizontal``.

    Returns
    -------
    rescaled : Sample
        Instances of which no pixel is left are dropped.

    Notes
    -----
    Pixels are resized bilinearly, masks and void by nearest neighbour; padding has the image's mean colour and counts
    as background. A box is the tight box of the new mask, widened by the margins that the old box had around the old
    mask (times the scale) and clipped to the image: tight boxes stay tight, VOC's boxes keep their margin, and an
    object that the crop cuts gets the box of what is left of it. An instance without any mask pixel keeps its box,
    moved, scaled and clipped.
    """
    size = np.array(sample.image.shape[:2])
    new_size = np.maximum(np.rint(size * scale).astype(int), 1)
    offset = np.floor((size - new_size) * np.array(place) + 0.5).astype(int)  # of the new image on the canvas
    factor = np.tile(new_size / size, 2)  # (y, x, y, x): what the rounded size really scales by

    mean = np.rint(sample.image.mean(axis=(0, 1))).astype(np.uint8)
    image = _lay(_resized(sample.image, new_size, Image.Resampling.BILINEAR), offset, size, mean)
    void = _lay(_resized(sample.void, new_size, Image.Resampling.NEAREST), offset, size, np.bool_(False))
    old_masks = _masks(sample)
    # Pillow's choice of the nearest pixel, on a line of numbers instead of every mask
    rows, columns = (_nearest(int(n), int(m)) for n, m in zip(size, new_size))
    masks = old_masks.picked(rows, columns).shifted((int(offset[0]), int(offset[1])), old_masks.size)

    sample = sample.replace(gt_keypoints=_moved(sample, factor[:2], offset, size, keypoint_offset))
    return _with_new_masks(sample, masks, factor, offset).replace(image=image, void=void)


def _moved(
    sample: Sample, factor: np.ndarray, offset: np.ndarray, size: np.ndarray, keypoint_offset: float
) -> np.ndarray | None:
    """Return keypoints that were scaled and moved with the image; those beyond it are annotated no more.

    Parameters
    ----------
    sample : Sample
    factor, offset : ndarray of shape (2,)
        What positions are multiplied by, and what is added to them.
    size : ndarray of shape (2,)
        (H, W) of the new image.
    keypoint_offset : float
        As in ``flip_horizontal``.
    """
    if sample.gt_keypoints is None:
        return None
    positions = (sample.gt_keypoints[..., :2] + keypoint_offset) * factor + offset
    inside = ((positions >= 0) & (positions < size)).all(axis=-1)
    visible = np.where(inside, sample.gt_keypoints[..., 2], 0)
    return _annotated(np.concatenate([positions - keypoint_offset, visible[..., None]], axis=-1))


def cut(sample: Sample, window: tuple[int, int, int, int], *, keypoint_offset: float = 0.5) -> Sample:
    """Cut a window out of a sample.

    Parameters
    ----------
    sample : Sample
    window : tuple of int
        ``(y1, x1, y2, x2)`` in pixels, half-open, within the image.
    keypoint_offset : float
        As in ``flip_horizontal``.

    Returns
    -------
    Sample
        Of the window's size; boxes as in ``rescale``. Instances of which no pixel is left are dropped.
    """
    y1, x1, y2, x2 = window
    masks = _masks(sample).shifted((-y1, -x1), (y2 - y1, x2 - x1))
    corner, size = np.array([-y1, -x1]), np.array([y2 - y1, x2 - x1])
    sample = sample.replace(gt_keypoints=_moved(sample, np.ones(2), corner, size, keypoint_offset))
    return _with_new_masks(sample, masks, np.ones(4), corner).replace(
        image=sample.image[y1:y2, x1:x2].copy(), void=sample.void[y1:y2, x1:x2].copy()
    )


def recoloured(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Multiply an image's colours, then their distance from the mean grey, then from each pixel's own grey.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    brightness, contrast, saturation : float
        1 changes nothing; grey is the luma of ITU-R BT.601, as in Pillow's ``ImageEnhance``.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
        Clipped and rounded once, at the end.
    """
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    colours = image.astype(np.float32) * np.float32(brightness)
    colours = (colours - (mean := (colours @ luma).mean())) * np.float32(contrast) + mean
    grey = (colours @ luma)[:, :, None]
    colours = (colours - grey) * np.float32(saturation) + grey
    return np.rint(np.clip(colours, 0, 255)).astype(np.uint8)


def _with_new_masks(sample: Sample, masks: Masks, factor: np.ndarray, offset: np.ndarray) -> Sample:
    """Give a sample masks that were scaled, moved and perhaps cut, and the boxes that ``rescale`` describes.

    Parameters
    ----------
    sample : Sample
    masks : Masks
        Its masks on the new canvas.
    factor : ndarray of shape (4,)
        What (y1, x1, y2, x2) were scaled by.
    offset : ndarray of shape (2,)
        Where the old left upper corner lies on the new canvas.
    """
    old_masks, size = _masks(sample), masks.size
    keep, boxes = [], []
    for k, old_box in enumerate(sample.gt_boxes.astype(np.float64)):
        if old_masks.areas[k]:
            if not masks.areas[k]:
                continue
            box = masks.boxes[k] + (old_box - old_masks.boxes[k]) * factor
        else:
            box = old_box * factor + np.tile(offset, 2)
        box = np.clip(box, 0, np.tile(size, 2))
        if (box[2:] > box[:2]).all():
            keep.append(k)
            boxes.append(box)
    return sample.of_objects(keep).replace(
        gt_boxes=np.array(boxes, dtype=sample.gt_boxes.dtype).reshape(-1, 4),
        gt_masks=_as_given(masks[keep], sample),
        gt_areas=None,  # the crop may have cut objects: count the new masks
    )


def _masks(sample: Sample) -> Masks:
    return sample.gt_masks if isinstance(sample.gt_masks, Masks) else Masks.of_array(sample.gt_masks)


def _as_given(masks: Masks, sample: Sample) -> np.ndarray | Masks:
    return masks if isinstance(sample.gt_masks, Masks) else np.asarray(masks)


def _nearest(n: int, m: int) -> np.ndarray:
    """Return which of ``n`` pixels in a line Pillow takes for each of ``m`` when it resizes to the nearest, (m,)."""
    line = Image.fromarray(np.arange(n, dtype=np.int32)[None])
    return np.asarray(line.resize((m, 1), Image.Resampling.NEAREST))[0]


def _resized(array: np.ndarray, size: np.ndarray, method: Image.Resampling) -> np.ndarray:
    """Resize an 8-bit image or a mask; pixel centres lie at (i + 0.5) / size on both grids."""
    picture = Image.fromarray(array.astype(np.uint8)).resize((int(size[1]), int(size[0])), method)
    return np.asarray(picture).astype(array.dtype)


def _lay(array: np.ndarray, offset: np.ndarray, size: np.ndarray, fill: np.ndarray | np.bool_) -> np.ndarray:
    """Lay an array on a canvas of ``size`` at ``offset`` (negative: its top and left are cut off)."""
    canvas = np.empty((*size, *array.shape[2:]), dtype=array.dtype)
    canvas[...] = fill
    to = np.maximum(offset, 0)
    start = np.maximum(-offset, 0)
    extent = np.minimum(np.array(array.shape[:2]) - start, size - to)
    source = array[start[0] : start[0] + extent[0], start[1] : start[1] + extent[1]]
    canvas[to[0] : to[0] + extent[0], to[1] : to[1] + extent[1]] = source
    return canvas
