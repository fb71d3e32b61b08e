"""Random weights with which an untrained network finds plenty, and a picture to find it in.

As initialised, all scores are alike and all deltas near 0: half of the code would have nothing to decide, and a
comparison nothing to compare.
"""

from __future__ import annotations

import numpy as np

from .backbone import backbone
from .config import Config
from .fpn import fpn
from .heads import box_head, mask_head
from .model import MaskRCNN
from .molding import mold_image
from .network import initialise
from .ops.activation import softmax
from .ops.resize import resize_bilinear
from .params import Params
from .proposals import propose
from .rpn import rpn_head


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return smooth noise with structure at several scales, (H, W, 3), uint8."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for cells in (2, 5, 16):
        total += resize_bilinear(rng.uniform(-1, 1, (cells, cells, 3)), size)[0]
    return np.clip(128 + 70 * total, 0, 255).astype(np.uint8)


def lively_params(config: Config, seed: int = 0, image: np.ndarray | None = None) -> Params:
    """Return random float32 weights that make every head decide something.

    Every bias is random, batch norm has random scales and statistics around those of a picture, and each predictor is
    shifted and scaled so that its outputs spread about 0 on this picture; the classes' more widely if otherwise fewer
    than 20 would pass ``config.detection_score_threshold``. Without an image of its own the picture is noise; for a
    photograph, whose contrasts are others, such weights give logits of 40, and probabilities that float32 rounds to 1.
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
    _shake(params, "backbone.", rng)

    if config.fpn_norm:
        fpn(backbone(images, params, config)[0], params, measuring, training=True)
        _shake(params, "fpn.", rng)

    model = MaskRCNN(config, params)
    pyramid = fpn(backbone(images, params, config)[0], params, config)[0]
    logits, deltas, *_ = rpn_head(pyramid, params, config)
    _spread(params, "rpn.objectness", logits, 2.0)
    _spread(params, "rpn.deltas", deltas, 0.3)
    logits, deltas, *_ = rpn_head(pyramid, params, config)

    anchors = model.anchors(images.shape[1:3], pyramid)
    rois, _ = propose(logits[0], deltas[0], anchors, molding.window, config, training=False)
    index = np.zeros(len(rois), np.int64)
    features, _ = model.roi_features(pyramid, rois, index, config.box_pool_size, images.shape)
    if config.box_head != "fc":
        box_head(features, params, measuring, training=True)
        _shake(params, "box_head.", rng)
    class_logits, deltas, *_ = box_head(features, params, config)
    _spread(params, "box_head.class", class_logits, _class_spread(class_logits, config))
    _spread(params, "box_head.deltas", deltas, 0.7)
    features, _ = model.roi_features(pyramid, rois[:50], index[:50], config.mask_pool_size, images.shape)
    if config.mask_head_norm:
        mask_head(features, params, measuring, training=True)
        _shake(params, "mask_head.", rng)
    mask_logits, *_ = mask_head(features, params, config)
    _spread(params, "mask_head.logits", mask_logits, 2.0)
    return params


def _shake(params: Params, part: str, rng: np.random.Generator) -> None:
    """Move the running statistics of a part a little away from those that were measured."""
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


def _spread(params: Params, layer: str, outputs: np.ndarray, spread: float) -> None:
    """Change a layer so that its outputs have mean 0 in each channel and this deviation over all."""
    outputs = outputs.reshape(-1, len(params[f"{layer}.b"]))
    factor = outputs.dtype.type(spread / outputs.std())
    params[f"{layer}.w"] *= factor
    params[f"{layer}.b"] -= outputs.mean(axis=0)
    params[f"{layer}.b"] *= factor
