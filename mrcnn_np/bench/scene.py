"""A picture, objects in it, and weights with which an untrained network finds plenty: work for every part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..backbone import backbone
from ..config import Config
from ..data.sample import Sample
from ..fpn import fpn
from ..heads import box_head, mask_head
from ..model import MaskRCNN
from ..molding import Batch, make_batch, mold_image
from ..ops.resize import resize_bilinear
from ..params import Params, initialise
from ..proposals import propose
from ..rpn import rpn_head


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return smooth noise with structure at several scales, (H, W, 3), uint8."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for cells in (2, 5, 16):
        total += resize_bilinear(rng.uniform(-1, 1, (cells, cells, 3)), size)[0]
    return np.clip(128 + 70 * total, 0, 255).astype(np.uint8)


def sample(size: tuple[int, int], image_id: str = "0", *, classes: int = 4) -> Sample:
    """Return a picture with three ellipses marked in it, of a twentieth to a quarter of its area."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    masks, boxes = [], []
    for cy, cx, ry, rx in ((0.3, 0.25, 0.2, 0.2), (0.6, 0.65, 0.3, 0.25), (0.75, 0.3, 0.12, 0.2)):
        mask = ((y / height - cy) / ry) ** 2 + ((x / width - cx) / rx) ** 2 <= 1
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        masks.append(mask)
        boxes.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
    flags = np.zeros(3, bool)
    class_ids = np.arange(3) % (classes - 1) + 1
    return Sample(
        image_id, picture(size), np.array(boxes, np.float32), class_ids, np.array(masks), flags, flags,
        np.zeros(size, bool),
    )  # fmt: skip


def batch(size: tuple[int, int], config: Config) -> Batch:
    """Return ``config.batch_size`` times the same image, ready for training."""
    one = sample(size, classes=config.num_classes)
    return make_batch([replace(one, image_id=str(i)) for i in range(config.batch_size)], config)


def lively_params(config: Config, seed: int = 0) -> Params:
    """Return random weights that make every head decide something.

    As initialised, all scores are alike and all deltas near 0. Here every bias is random, batch norm has random scales
    and statistics around those of a picture, and each predictor is shifted and scaled so that its outputs spread about
    0 on this picture.
    """
    rng = np.random.default_rng(seed)
    params = initialise(config, rng)
    for name, p in params.items():
        if name.endswith((".b", ".beta")):
            p[...] = rng.normal(0, 0.1, p.shape)
        elif name.endswith(".gamma"):
            # small steps at the end of each block, as in trained networks
            p[...] = rng.uniform(*((0.1, 0.4) if ".bn3" in name else (0.5, 1.5)), p.shape)
    molded, molding = mold_image(picture((192, 256)), config.replace(image_min_size=192, image_max_size=256))
    images = molded[None]

    # One pass with the statistics of the batch moves the running ones to them
    backbone(images, params, config.replace(bn_mode="train", bn_momentum=1.0), training=True)
    for name in [name for name in params if name.endswith(".mean")]:
        mean, var = params[name], params[name.removesuffix(".mean") + ".var"]
        mean += (0.2 * np.sqrt(var) * rng.standard_normal(mean.shape)).astype(mean.dtype)
        var *= rng.uniform(0.7, 1.4, var.shape)

    model = MaskRCNN(config, params)
    pyramid = fpn(backbone(images, params, config)[0], params)[0]
    logits, deltas, *_ = rpn_head(pyramid, params, config)
    ratios = len(config.anchor_ratios)
    _spread(params, "rpn.objectness", logits.reshape(-1, ratios), 2.0)
    _spread(params, "rpn.deltas", deltas.reshape(-1, 4 * ratios), 0.3)
    logits, deltas, *_ = rpn_head(pyramid, params, config)

    anchors = model.anchors(images.shape[1:3], pyramid)
    rois, _ = propose(logits[0], deltas[0], anchors, molding.window, config, training=False)
    index = np.zeros(len(rois), np.int64)
    features, _ = model.roi_features(pyramid, rois, index, config.box_pool_size, images.shape)
    class_logits, deltas, *_ = box_head(features, params, config)
    _spread(params, "box_head.class", class_logits, 2.0)
    _spread(params, "box_head.deltas", deltas.reshape(len(rois), -1), 0.7)
    features, _ = model.roi_features(pyramid, rois[:50], index[:50], config.mask_pool_size, images.shape)
    mask_logits, *_ = mask_head(features, params, config)
    _spread(params, "mask_head.logits", mask_logits.reshape(-1, config.num_classes), 2.0)
    return params


def _spread(params: Params, layer: str, outputs: np.ndarray, spread: float) -> None:
    """Change a layer so that its outputs, (rows, channels), have mean 0 in each channel and this deviation over all."""
    factor = outputs.dtype.type(spread / outputs.std())
    params[f"{layer}.w"] *= factor
    params[f"{layer}.b"] -= outputs.mean(axis=0)
    params[f"{layer}.b"] *= factor
