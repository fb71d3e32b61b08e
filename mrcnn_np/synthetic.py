"""Made-up pictures, objects marked in them, and random weights with which an untrained network finds plenty.

As initialised, all scores are alike and all deltas near 0: half of the code would have nothing to decide, and a
comparison nothing to compare.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kernels import host_work

from .backbone import backbone
from .config import Config
from .data.sample import Sample, without_objects
from .data.scene import draw_scene
from .data.voc import VOID
from .fpn import fpn
from .heads import box_head, c5_head, mask_head
from .keypoints.head import keypoint_head
from .keypoints.pose import pose_of
from .model import MaskRCNN
from .molding import Batch, make_batch, mold_image, resized_shape
from .network import initialise
from .ops.activation import softmax
from .ops.resize import resize_bilinear
from .params import Params
from .proposals import propose
from .resizing import enclosing_boxes
from .rpn import rpn_head


@host_work
def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return smooth noise with structure at several scales, (H, W, 3), uint8."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for cells in (2, 5, 16):
        total += resize_bilinear(rng.uniform(-1, 1, (cells, cells, 3)), size)[0]
    return np.clip(128 + 70 * total, 0, 255).astype(np.uint8)


def sample_of(
    image: np.ndarray,
    masks: np.ndarray,
    class_ids: np.ndarray,
    *,
    image_id: str = "0",
    void: np.ndarray | None = None,
) -> Sample:
    """Return an image with these objects, each in the smallest box around its mask; none is a crowd or difficult.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    masks : ndarray of shape (G, H, W), bool
        Each with at least one pixel.
    class_ids : ndarray of shape (G,), int64
    image_id : str
    void : ndarray of shape (H, W), bool, optional
        Pixels that nobody labelled; by default none.
    """
    return without_objects(image, image_id).replace(
        gt_boxes=enclosing_boxes(masks, np.float32),
        gt_class_ids=class_ids,
        gt_masks=masks,
        gt_crowd=np.zeros(len(masks), bool),
        gt_difficult=np.zeros(len(masks), bool),
        void=np.zeros(masks.shape[1:], bool) if void is None else void,
    )


def sample(size: tuple[int, int], image_id: str = "0", *, classes: int = 4) -> Sample:
    """Return a picture with three ellipses marked in it, of a twentieth to a quarter of its area.

    Parameters
    ----------
    size : tuple of int
        (H, W).
    image_id : str
    classes : int
        With background; the three objects take the others in turn.
    """
    places = np.array([(0.3, 0.25, 0.2, 0.2), (0.6, 0.65, 0.3, 0.25), (0.75, 0.3, 0.12, 0.2)])
    masks = _ellipses(size, places[:, :2] * size, places[:, 2:] * size)
    return sample_of(picture(size), masks, np.arange(3) % (classes - 1) + 1, image_id=image_id)


@host_work
def sample_from(image: np.ndarray, config: Config, *, image_id: str = "0", seed: int = 0, count: int = 3) -> Sample:
    """Return an image, at the size that the network sees it, with ellipses marked in it as if they were objects.

    For two implementations that are to learn the same; what, does not matter.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    config : Config
        Its resizing, and how many classes there are.
    image_id : str
    seed : int
        Of the ellipses and their classes.
    count : int
        How many; they may overlap.
    """
    for _ in range(3):  # rounding can ask for a second resize
        shape = resized_shape((image.shape[0], image.shape[1]), config)
        if shape != image.shape[:2]:
            image = np.round(resize_bilinear(image.astype(np.float32), shape)[0]).astype(np.uint8)
    size = image.shape[:2]
    rng = np.random.default_rng(seed)
    drawn = np.array([(rng.uniform(0.1, 0.3, 2), rng.uniform(0.2, 0.8, 2)) for _ in range(count)]).reshape(-1, 2, 2)
    masks = _ellipses(size, drawn[:, 1] * size, drawn[:, 0] * size)
    made = sample_of(image, masks, rng.integers(1, config.num_classes, count), image_id=image_id)
    return with_keypoints(made, config, seed)


def with_keypoints(sample: Sample, config: Config, seed: int = 0) -> Sample:
    """Put keypoints all over each object of a sample, if a configuration has any; a third is not annotated.

    Parameters
    ----------
    sample : Sample
    config : Config
    seed : int
    """
    if not config.keypoints:
        return sample
    rng, low, high = np.random.default_rng(seed), sample.gt_boxes[:, None, :2], sample.gt_boxes[:, None, 2:]
    points = low + rng.random((len(low), config.keypoints, 2)) * (high - low) - config.keypoint_offset
    visible = rng.integers(0, 3, (len(low), config.keypoints, 1))
    keypoints = np.where(visible > 0, np.concatenate([np.round(points, 2), visible], axis=2), 0)
    return sample.replace(gt_keypoints=keypoints, pose=pose_of(config))


def _ellipses(size: tuple[int, ...], centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) for each centre (y, x) and radii (along y, along x), all in pixels.

    Parameters
    ----------
    size : tuple of int
        (H, W).
    centres, radii : ndarray of shape (G, 2)
        Along y and along x, in pixels.
    """
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    masks = [((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1 for (cy, cx), (ry, rx) in zip(centres, radii)]
    return np.array(masks, bool).reshape(-1, *size)


def generated_sample(config: Config, seed: int = 0) -> Sample:
    """Draw shapes in an image that has to be resized and padded, so that those conventions have something to do.

    Parameters
    ----------
    config : Config
        Half as large again as its ``image_max_size``, but at most 640 pixels wide.
    seed : int

    Returns
    -------
    Sample
        With boxes and masks; five sixths as high as wide.
    """
    side = min(config.image_max_size * 3 // 2, 640)
    height = side * 5 // 6
    scene = draw_scene(side, np.random.default_rng(seed))
    indices, class_ids = scene.indices[:height], np.array(scene.class_ids, np.int64)
    masks = indices == np.arange(1, len(class_ids) + 1)[:, None, None]
    kept = masks.any(axis=(1, 2)) & (class_ids < config.num_classes)
    image, void = scene.image[:height].copy(), indices == VOID
    made = sample_of(image, masks[kept], class_ids[kept], image_id="shapes", void=void)
    return with_keypoints(made, config, seed)


def batch(size: tuple[int, int], config: Config) -> Batch:
    """Return ``config.batch_size`` times the same image, ready for training."""
    one = with_keypoints(sample(size, classes=config.num_classes), config)
    return make_batch([replace(one, image_id=str(i)) for i in range(config.batch_size)], config)


@host_work
def params_that_detect(config: Config, seed: int = 0, image: np.ndarray | None = None) -> Params:
    """Return random float32 weights that make every head decide something.

    Every bias is random, norms have random scales, batch norm statistics around those of a picture, and each
    predictor is shifted and scaled so that its outputs spread about 0 on this picture; the classes' more widely if
    otherwise fewer than 20 would pass ``config.detection_score_threshold``. Without an image of its own the picture
    is noise; for a photograph, whose contrasts are others, such weights give logits of 40, and probabilities that
    float32 rounds to 1.

    Parameters
    ----------
    config : Config
    seed : int
    image : ndarray of shape (H, W, 3), uint8, optional
        What the network is to find plenty in.
    """
    rng = np.random.default_rng(seed)
    params = initialise(config, rng)
    for name, p in params.items():
        if name.endswith((".b", ".beta")):
            p[...] = rng.normal(0, 0.1, p.shape)
        elif name.endswith(".gamma"):
            # Small steps at the end of each block, as in trained networks: large ones would multiply rounding errors
            p[...] = rng.uniform(*((0.1, 0.4) if ".bn3" in name else (0.5, 1.5)), p.shape)
    small = config.replace(image_min_size=192, image_max_size=256)
    molded, molding = mold_image(picture((192, 256)) if image is None else image, small)
    images = molded[None]

    # One pass with the statistics of the batch moves the running ones to them
    measuring = config.replace(bn_mode="train", bn_momentum=1.0)
    backbone(images, params, measuring, training=True)
    _move_statistics(params, "backbone.", rng)

    if config.neck == "fpn" and config.fpn_norm:
        fpn(backbone(images, params, config)[0], params, measuring, training=True)
        _move_statistics(params, "fpn.", rng)

    model = MaskRCNN(config, params)
    pyramid = backbone(images, params, config)[0]
    pyramid = fpn(pyramid, params, config)[0] if config.neck == "fpn" else pyramid[-1:]
    logits, deltas, *_ = rpn_head(pyramid, params, config)
    spread_outputs(params, "rpn.objectness", logits, 2.0)
    spread_outputs(params, "rpn.deltas", deltas, 0.3)
    logits, deltas, *_ = rpn_head(pyramid, params, config)

    anchors = model.anchors(images.shape[1:3], pyramid)
    rois, _ = propose(logits[0], deltas[0], anchors, molding.window, config, training=False)
    index = np.zeros(len(rois), np.int64)
    if config.box_head == "c5":  # its statistics are those of regions
        features, _ = model.roi_features(pyramid, rois, index, config.box_pool_size, images.shape)
        c5_head(features, params, measuring, training=True)
        _move_statistics(params, "backbone.c5.", rng)
    features = model.head_features(pyramid, rois, index, config.box_pool_size, images.shape)
    if config.box_head in ("conv", "conv_fc"):
        box_head(features, params, measuring, training=True)
        _move_statistics(params, "box_head.", rng)
    class_logits, deltas, *_ = box_head(features, params, config)
    spread_outputs(params, "box_head.class", class_logits, _class_spread(class_logits, config))
    spread_outputs(params, "box_head.deltas", deltas, 0.7)
    where = pyramid, rois[:50], index[:50]
    if config.mask_branch:
        features = model.head_features(*where, config.mask_pool_size, images.shape)
        if config.mask_head_norm:
            mask_head(features, params, measuring, training=True)
            _move_statistics(params, "mask_head.", rng)
        spread_outputs(params, "mask_head.logits", mask_head(features, params, config)[0], 2.0)
    if config.keypoints:
        features, _ = model.roi_features(*where, config.keypoint_pool_size, images.shape)
        spread_outputs(params, "keypoint_head.deconv", keypoint_head(features, params, config)[0], 2.0)
    return params


def _move_statistics(params: Params, part: str, rng: np.random.Generator) -> None:
    """Move the running statistics of a part a little away from those that were measured.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed in place.
    part : str
        What the names begin with.
    rng : numpy.random.Generator
    """
    for name in [name for name in params if name.startswith(part) and name.endswith(".mean")]:
        mean, var = params[name], params[name.removesuffix(".mean") + ".var"]
        mean += (0.2 * np.sqrt(var) * rng.standard_normal(mean.shape)).astype(mean.dtype)
        var *= rng.uniform(0.7, 1.4, var.shape)


def _class_spread(logits: np.ndarray, config: Config) -> float:
    """Return how far the class logits must spread for 20 scores to pass the threshold (or 12, which is enough)."""
    centred = logits - logits.mean(axis=0)
    for spread in (2.0, 3.0, 4.0, 6.0, 8.0):
        probabilities = softmax(centred * logits.dtype.type(spread / logits.std()))[0][:, 1:]
        if (probabilities > config.detection_score_threshold).sum() >= 20:
            return spread
    return 12.0


def spread_outputs(params: Params, layer: str, outputs: np.ndarray, spread: float) -> None:
    """Change a layer so that its outputs have mean 0 in each channel and this deviation over all.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed in place.
    layer : str
        Its weights are ``layer.w`` and ``layer.b``.
    outputs : ndarray
        What it puts out now; the last axis, or the last few together, are its channels.
    spread : float
    """
    outputs = outputs.reshape(-1, len(params[f"{layer}.b"]))
    factor = outputs.dtype.type(spread / outputs.std())
    params[f"{layer}.w"] *= factor
    params[f"{layer}.b"] -= outputs.mean(axis=0)
    params[f"{layer}.b"] *= factor
