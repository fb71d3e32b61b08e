"""Image -> molded input and back: resize, pad, normalise, and the exact inverse for boxes.

The network wants maps whose sides are multiples of 32 and pixels around zero. *Molding* resizes the image to the
network's scale, puts it in a padded canvas and normalises its colours. The *window* is the part of the canvas that is
image rather than padding; boxes go over by one scale and one shift per axis::

    molded = original * scale + offset          original = (molded - offset) / scale

The scale is taken from the resized shape (after rounding to pixels), which makes the inverse exact.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from kernels import as_array, to_device

from .boxes import boxes_from_xyxy, enter_frame, has_sides, leave_frame
from .config import Config
from .data.images import pillow_quiet, read_image
from .data.masks import Masks
from .data.pixels import to_rgb
from .data.sample import Sample, check_sample
from .errors import ConfigError, DataWarning
from .resizing import enclosing_boxes, nearest, resize_image, resize_masks, resize_with_border


@dataclass(frozen=True)
class Molding:
    """Where an image went.

    Attributes
    ----------
    original_shape : tuple of int
        (H, W) of the image as read.
    resized_shape : tuple of int
        (H, W) after resizing, before padding.
    molded_shape : tuple of int
        (H, W) of the canvas.
    offset : tuple of int
        (top, left) padding.
    """

    original_shape: tuple[int, int]
    resized_shape: tuple[int, int]
    molded_shape: tuple[int, int]
    offset: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Vertical and horizontal scale, molded pixels per original pixel."""
        (h, w), (rh, rw) = self.original_shape, self.resized_shape
        return rh / h, rw / w

    @property
    def window(self) -> tuple[int, int, int, int]:
        """``(y1, x1, y2, x2)`` of the image within the canvas, half-open."""
        (top, left), (h, w) = self.offset, self.resized_shape
        return top, left, top + h, left + w

    def mold_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Bring ``(y1, x1, y2, x2)`` from original to molded pixels."""
        (sy, sx), (top, left) = self.scale, self.offset
        return (boxes * np.array([sy, sx, sy, sx]) + np.array([top, left, top, left])).astype(boxes.dtype)

    def unmold_boxes(self, boxes: np.ndarray, frame: str = "edges") -> np.ndarray:
        """Bring ``(y1, x1, y2, x2)`` from molded to original pixels, the inverse of ``mold_boxes``.

        In the frame "centres" the first and last pixels of the two images correspond, not their edges.
        """
        (sy, sx), (top, left) = self.scale, self.offset
        if frame == "centres":
            pairs = zip(self.resized_shape, self.original_shape)
            sy, sx = ((r - 1) / (o - 1) if min(r, o) > 1 else r / o for r, o in pairs)
        shifted = enter_frame(boxes, frame) - np.array([top, left, top, left], like=boxes)
        return leave_frame(shifted / np.array([sy, sx, sy, sx], like=boxes), frame).astype(boxes.dtype)

    def mold_points(self, points: np.ndarray) -> np.ndarray:
        """Bring positions ``(y, x)``, of shape (..., 2), from original to molded pixels."""
        return (points * np.array(self.scale) + np.array(self.offset)).astype(points.dtype)

    def unmold_points(self, points: np.ndarray) -> np.ndarray:
        """Bring positions ``(y, x)``, of shape (..., 2), back from molded to original pixels."""
        return ((points - np.array(self.offset)) / np.array(self.scale)).astype(points.dtype)

    def mold_masks(self, masks: np.ndarray | Masks, align: str = "edges") -> np.ndarray | Masks:
        """Bring (G, H, W) boolean masks onto the canvas by nearest neighbour; ``align`` is ``config.mask_resize``.

        Run lengths stay run lengths.
        """
        top, left, bottom, right = self.window
        if isinstance(masks, Masks):
            rows, columns = (nearest(n, m, align) for n, m in zip(masks.size, self.resized_shape))
            return masks.picked(rows, columns).shifted((top, left), self.molded_shape)
        molded = np.zeros((len(masks), *self.molded_shape), bool)
        molded[:, top:bottom, left:right] = resize_masks(masks, self.resized_shape, align)
        return molded

    def proposal_window(self, config: Config) -> tuple[int, int, int, int]:
        """``(y1, x1, y2, x2)`` that proposals are clipped to: the image's window, or the whole canvas."""
        return self.window if config.proposals_window == "image" else (0, 0, *self.molded_shape)


@dataclass(frozen=True)
class Batch:
    """Molded images and their ground truth, what ``MaskRCNN.losses`` takes.

    Attributes
    ----------
    image_ids : tuple of str
    images : ndarray of shape (N, H, W, 3)
        Normalised, padded to one size.
    moldings : tuple of Molding
    gt_boxes : tuple of ndarray of shape (G, 4)
        ``(y1, x1, y2, x2)`` in molded pixels, one array per image.
    gt_class_ids : tuple of ndarray of shape (G,)
    gt_masks : tuple of Masks, or of ndarray of shape (G, H, W), bool
        On the canvas; of shape (G, h, w) inside the box if ``config.mini_mask_shape`` is set.
    gt_crowd : tuple of ndarray of shape (G,), bool
    active_class_ids : ndarray of shape (N, K), bool
        The classes that the image's data set annotates (all, unless data sets are mixed).
    gt_keypoints : tuple of ndarray of shape (G, K, 3)
        ``(y, x, visibility)``, positions in molded pixels; empty without a keypoint branch.
    """

    image_ids: tuple[str, ...]
    images: np.ndarray
    moldings: tuple[Molding, ...]
    gt_boxes: tuple[np.ndarray, ...]
    gt_class_ids: tuple[np.ndarray, ...]
    gt_masks: tuple[np.ndarray | Masks, ...]
    gt_crowd: tuple[np.ndarray, ...]
    active_class_ids: np.ndarray
    gt_keypoints: tuple[np.ndarray, ...] = ()

    def on_device(self) -> Batch:
        """Return the batch with its arrays on the device, each copied once; masks become pixels.

        The crowd flags stay: how many objects there are decides shapes.
        """
        return replace(
            self,
            images=to_device(self.images),
            gt_boxes=to_device(self.gt_boxes),
            gt_class_ids=to_device(self.gt_class_ids),
            gt_masks=tuple(to_device(as_array(masks)) for masks in self.gt_masks),
            active_class_ids=to_device(self.active_class_ids),
            gt_keypoints=to_device(self.gt_keypoints),
        )

    def __repr__(self) -> str:
        """Return the size of the images and how many objects each has: the arrays are millions of numbers."""
        count, height, width = self.images.shape[:3]
        objects = " ".join(str(len(boxes)) for boxes in self.gt_boxes)
        return f"Batch({count} images of {height} x {width} {self.images.dtype}, objects in each: {objects})"


def resized_shape(shape: tuple[int, int], config: Config) -> tuple[int, int]:
    """Return the size an image of ``shape`` (H, W) is resized to; no side falls below one pixel.

    Each rule multiplies and rounds in the order of the framework that it comes from. It matters: 1235 * (1333 / 1235)
    falls short of 1333 by one bit, so torchvision resizes 447 x 1235 to 482 x 1332.
    """
    short, long = min(shape), max(shape)
    h, w = float(shape[0]), float(shape[1])
    if config.resize_mode == "square":
        # Never shrunk for the short side's sake, only to fit the square: matterport's rule
        scale = max(1.0, config.image_min_size / short)
        if round(long * scale) > config.image_max_size:
            scale = config.image_max_size / long
        h, w = round(h * scale), round(w * scale)  # halves to even
    elif config.resize_rounding == "floor":
        scale = min(config.image_min_size / short, config.image_max_size / long)
        h, w = h * scale, w * scale
    else:
        h, w = (side * (config.image_min_size / short) for side in shape)
        if max(h, w) > config.image_max_size:
            scale = config.image_max_size / max(h, w)
            h, w = h * scale, w * scale
        h, w = h + 0.5, w + 0.5  # halves up
    return max(1, int(h)), max(1, int(w))


def at_size(config: Config, size: int, keep: Sequence[str] = ()) -> Config:
    """Return a configuration that looks at pictures of another size, with as many more proposals as the area is larger.

    Parameters
    ----------
    config : Config
    size : int
        Pixels: of the square, or of the short side; then the longest side grows along.
    keep : sequence of str
        Fields that stay as they are.

    Raises
    ------
    ConfigError
        A square's side must be a multiple of 32.
    """
    square, stride = config.resize_mode == "square", 32
    if square and size % stride:
        near = max(stride, size // stride * stride)
        raise ConfigError(f"size is {size}; expected a multiple of {stride}, such as {near} or {near + stride}")
    longest = size if square else round(size * config.image_max_size / config.image_min_size)
    more = max(1.0, (longest / config.image_max_size) ** 2)
    limits = [name for name in config.to_dict() if name.endswith("_nms_test") or name == "detections_per_image"]
    changes = {name: round(getattr(config, name) * more) for name in limits if name not in keep}
    return config.replace(image_min_size=size, image_max_size=longest, **changes)


def plan(shape: tuple[int, int], config: Config) -> Molding:
    """Decide where an image of ``shape`` (H, W) goes."""
    h, w = resized_shape(shape, config)
    m = config.image_max_size if config.resize_mode == "square" else config.pad_multiple
    canvas = (-(-h // m) * m, -(-w // m) * m)
    centred = config.pad_position == "centre"
    offset = ((canvas[0] - h) // 2, (canvas[1] - w) // 2) if centred else (0, 0)
    return Molding((int(shape[0]), int(shape[1])), (h, w), canvas, offset)


def as_images(images: Any) -> Iterator[np.ndarray]:
    """Yield arrays (H, W, 3) of uint8 for whatever stands for one image or several.

    Parameters
    ----------
    images : array, Pillow image, path, or several of these
        Grey arrays (H, W) of 8 or 16 bits, arrays (H, W, 4) with alpha and Pillow's images become colours by the rules
        of `data.images.read_image`; each change of pixels is a `DataWarning`.

    Raises
    ------
    TypeError
        Something else was given.
    DataError
        A file cannot be read, or a Pillow image holds floating-point values.
    """
    expected = "expected an array (H, W, 3) of uint8, a grey one (H, W), a Pillow image, or a path"
    one = isinstance(images, (str, os.PathLike, Image.Image)) or (isinstance(images, np.ndarray) and images.ndim <= 3)
    try:
        several = iter([images] if one else images)
    except TypeError:
        raise TypeError(f"images is {images!r:.60}; {expected}, or several of these") from None
    for n, image in enumerate(several):
        if isinstance(image, (str, os.PathLike)):
            yield read_image(Path(image))
        elif isinstance(image, Image.Image):
            with pillow_quiet():
                turned = ImageOps.exif_transpose(image)
            yield _as_colours(turned, n)
        elif isinstance(image, np.ndarray):
            grey = (image.ndim == 2 or image.shape[2:] == (1,)) and image.dtype in (np.uint8, np.uint16, bool)
            if 0 not in image.shape and (grey or (image.shape[2:] == (4,) and image.dtype == np.uint8)):
                image = _as_colours(Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image), n)
            yield image
        else:
            kind = type(image).__name__
            raise TypeError(f"image {n} is {kind}; {expected}")


def _as_colours(picture: Image.Image, n: int) -> np.ndarray:
    """Return image ``n`` as a file with these pixels would be read."""

    def note(kind: str) -> None:
        warnings.warn(f"image {n}: {kind}", DataWarning, stacklevel=5)

    with pillow_quiet():
        return to_rgb(picture, note, f"image {n}", None)


def mold_image(
    image: np.ndarray, config: Config, dtype: type = np.float32, *, device: bool = False
) -> tuple[np.ndarray, Molding]:
    """Resize, pad and normalise one image.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    config : Config
        The fields under "image".
    dtype : type
        float32 or float64.
    device : bool
        The result lies on the device, which normalises; of an image that keeps its size only bytes are copied there.

    Returns
    -------
    molded : ndarray of shape (H', W', 3)
        ``(pixel / pixel_scale - mean) / std`` in ``config.channel_order``.
    molding : Molding
        The way back.

    Raises
    ------
    ValueError
        If the image is not (H, W, 3) of uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        what = f"image has shape {image.shape} and type {image.dtype}; expected (H, W, 3) of uint8"
        if image.ndim == 3 and image.shape[0] == 3:
            what += "; this looks like (3, H, W): image.transpose(1, 2, 0) brings the channels last"
        elif image.ndim == 4:
            what += "; this is a batch: give its images one by one"
        elif image.dtype.kind == "f":
            what += "; grey levels are whole numbers from 0 to 255"
        raise ValueError(what)
    molding = plan((image.shape[0], image.shape[1]), config)
    resized = image
    if image.shape[:2] != tuple(molding.resized_shape):
        resized = resize_image(image, molding.resized_shape, config, dtype)
    if device:
        resized = to_device(resized)
    if config.channel_order == "bgr":
        resized = resized[..., ::-1]

    def normalise(x: np.ndarray) -> np.ndarray:
        # Repeated along a line of pixels, so that NumPy's inner loop runs over lines and not over three channels
        width = x.shape[1]
        mean: np.ndarray = np.tile(np.array(config.pixel_mean, dtype, like=x), width)
        std: np.ndarray = np.tile(np.array(config.pixel_std, dtype, like=x), width)
        lines = np.divide(x.reshape(len(x), -1), dtype(config.pixel_scale), dtype=dtype)
        lines -= mean
        lines /= std
        return lines.reshape(x.shape)

    top, left, bottom, right = molding.window
    molded: np.ndarray = np.zeros((*molding.molded_shape, 3), dtype, like=resized)
    if config.pad_before_normalise:
        molded[top:bottom, left:right] = resized
        return normalise(molded), molding
    molded[top:bottom, left:right] = normalise(resized)
    return molded, molding


def make_batch(
    samples: Sequence[Sample], config: Config, dtype: type = np.float32, *, least: tuple[int, int] = (0, 0)
) -> Batch:
    """Mold several samples into one batch; smaller canvases are padded at the bottom and right to the largest.

    Parameters
    ----------
    samples : sequence of Sample
        At least one; sizes may differ.
    config : Config
    dtype : type
        float32 or float64.
    least : (height, width)
        The canvas is no smaller: what belongs to the same batch elsewhere may need more room.

    Returns
    -------
    Batch

    Raises
    ------
    ValueError
        There is no sample, an image is not (H, W, 3) of uint8, or its ground truth contradicts itself.
    """
    if not samples:
        raise ValueError("make_batch needs at least one sample")
    for sample in samples:
        check_sample(sample, config.num_classes)
        _warn_of_xyxy(sample)
    pairs = [mold_image(s.image, config, dtype) for s in samples]
    height, width = (max(least[axis], *(m.molded_shape[axis] for _, m in pairs)) for axis in (0, 1))
    images: np.ndarray = np.zeros((len(samples), height, width, 3), dtype)
    moldings = []
    for n, (image, m) in enumerate(pairs):
        images[n, : image.shape[0], : image.shape[1]] = image
        moldings.append(Molding(m.original_shape, m.resized_shape, (height, width), m.offset))
    objects = [_mold_objects(s, m, config, dtype) for s, m in zip(samples, moldings)]
    boxes, class_ids, masks, crowd, keypoints = zip(*objects)
    return Batch(
        image_ids=tuple(s.image_id for s in samples),
        images=images,
        moldings=tuple(moldings),
        gt_boxes=boxes,
        gt_class_ids=class_ids,
        gt_masks=masks,
        gt_crowd=crowd,
        active_class_ids=np.ones((len(samples), config.num_classes), bool),
        gt_keypoints=keypoints if config.keypoints else (),
    )


def _warn_of_xyxy(sample: Sample) -> None:
    """Warn if the boxes of a sample fit its masks only with x and y exchanged."""
    tight = enclosing_boxes(sample.gt_masks, np.float64)
    seen = has_sides(tight)
    boxes, tight = sample.gt_boxes[seen].astype(np.float64), tight[seen]
    off, exchanged = (np.abs(b - tight).max(axis=1, initial=0) for b in (boxes, boxes_from_xyxy(boxes)))
    if len(boxes) and ((exchanged <= 1) & (off > 2)).sum() * 2 > len(boxes):
        warnings.warn(
            f"image {sample.image_id}: gt_boxes fit gt_masks only when read as (x1, y1, x2, y2); expected (y1, x1, y2, "
            "x2), which boxes.boxes_from_xyxy returns",
            stacklevel=3,
        )


def _mold_objects(
    sample: Sample, molding: Molding, config: Config, dtype: type
) -> tuple[np.ndarray, np.ndarray, np.ndarray | Masks, np.ndarray, np.ndarray | None]:
    """Bring boxes, class ids, masks, crowd flags and keypoints of a sample's objects onto the canvas."""
    boxes, class_ids, crowd = molding.mold_boxes(sample.gt_boxes.astype(dtype)), sample.gt_class_ids, sample.gt_crowd
    masks = molding.mold_masks(sample.gt_masks, config.mask_resize)
    keypoints = _mold_keypoints(sample, molding, config, dtype) if config.keypoints else None
    if config.gt_boxes_from_masks:
        seen = masks.areas > 0 if isinstance(masks, Masks) else masks.any(axis=(1, 2))
        boxes, class_ids, masks, crowd = enclosing_boxes(masks[seen], dtype), class_ids[seen], masks[seen], crowd[seen]
        keypoints = None if keypoints is None else keypoints[seen]
    if config.mini_mask_shape is not None:
        masks = minimise_masks(boxes, masks, config.mini_mask_shape, border=config.resize_border)
    return boxes, class_ids, masks, crowd, keypoints


def _mold_keypoints(sample: Sample, molding: Molding, config: Config, dtype: type) -> np.ndarray:
    """Return keypoints (G, K, 3) as positions on the canvas; ``ValueError`` if they are not those of the network."""
    found = sample.gt_keypoints
    if found is None:
        raise ValueError(
            f"image {sample.image_id} has no keypoints; expected {config.keypoints} for each object (config.keypoints)"
        )
    if found.shape != (len(sample.gt_boxes), config.keypoints, 3):
        raise ValueError(
            f"image {sample.image_id}: gt_keypoints has shape {found.shape}, expected "
            f"{(len(sample.gt_boxes), config.keypoints, 3)}: objects, config.keypoints, and y, x, visibility"
        )
    molded: np.ndarray = found.astype(dtype)
    molded[..., :2] = molding.mold_points(molded[..., :2] + dtype(config.keypoint_offset))
    return molded


# --- mini masks -----------------------------------------------------------------------------------------------------


def minimise_masks(
    boxes: np.ndarray, masks: np.ndarray | Masks, shape: tuple[int, int], *, border: str = "edge"
) -> np.ndarray:
    """Keep of each mask only what lies in its box, resized to ``shape``: memory falls by the image's area.

    The price: what is thinner than a mini pixel is lost, and what lies outside the box is gone. ``expand_masks`` shows
    the damage. The box is widened to whole pixels.

    Parameters
    ----------
    boxes : ndarray of shape (G, 4)
    masks : Masks, or ndarray of shape (G, H, W), bool
    shape : tuple of int
        (h, w), (56, 56) in the Keras implementation.
    border : {"edge", "zero"}
        ``config.resize_border``: "zero" makes the outline of an object that is enlarged recede.

    Returns
    -------
    ndarray of shape (G, h, w), bool
    """
    mini = np.zeros((len(masks), *shape), bool)
    for g, (y1, x1, y2, x2) in enumerate(whole_pixels(boxes, masks.shape[1:])):
        crop = masks[g, y1:y2, x1:x2][..., None].astype(np.float64)  # float32 would not land on the half
        mini[g] = resize_with_border(crop, shape, border)[..., 0] > 0.5  # rounded, a half to even
    return mini


def expand_masks(boxes: np.ndarray, mini: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Put mini masks back on a canvas of ``shape`` (H, W): the approximate inverse of ``minimise_masks``.

    Parameters
    ----------
    boxes : ndarray of shape (G, 4)
        ``(y1, x1, y2, x2)`` in pixels of the canvas.
    mini : ndarray of shape (G, h, w), bool
    shape : tuple of int
        (H, W) of the canvas.
    """
    masks = np.zeros((len(mini), *shape), bool)
    for g, (y1, x1, y2, x2) in enumerate(whole_pixels(boxes, shape)):
        full = resize_with_border(mini[g, :, :, None].astype(np.float32), (y2 - y1, x2 - x1), "edge")
        masks[g, y1:y2, x1:x2] = full[..., 0] > 0.5
    return masks


def whole_pixels(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Widen boxes (G, 4) to whole pixels within a canvas (H, W), at least one pixel each: the frame of a mini mask."""
    end = np.array(shape, like=boxes)
    low = np.clip(np.floor(boxes[:, :2] + 1e-3).astype(np.int64), 0, end - 1)
    high = np.clip(np.ceil(boxes[:, 2:] - 1e-3).astype(np.int64), low + 1, end)
    return np.concatenate([low, high], axis=1)


# --- image meta -----------------------------------------------------------------------------------------------------


def compose_meta(image_id: int, molding: Molding, active_class_ids: np.ndarray) -> np.ndarray:
    """Pack what the Keras network is told about an image into one vector of 1 + 3 + 3 + 4 + 1 + K numbers.

    The order is: id, original shape, molded shape, window, scale, active classes.

    Parameters
    ----------
    image_id : int
    molding : Molding
    active_class_ids : ndarray of shape (K,)
        1 for each class that the image's data set has.
    """
    return np.concatenate(
        [
            [image_id],
            [*molding.original_shape, 3],
            [*molding.molded_shape, 3],
            molding.window,
            [molding.scale[0]],
            np.asarray(active_class_ids, float),
        ]
    )


def parse_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """Unpack ``compose_meta``'s vector (or rows of them) into named parts."""
    cuts = {"image_id": (0, 1), "original_shape": (1, 4), "molded_shape": (4, 7), "window": (7, 11), "scale": (11, 12)}
    parts = {name: meta[..., a:b] for name, (a, b) in cuts.items()}
    return {**parts, "active_class_ids": meta[..., 12:]}
