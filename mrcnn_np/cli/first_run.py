"""A training step and a detection for what they compile, not for what comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..config import Config

if TYPE_CHECKING:
    from ..detections import Detections
    from ..model import MaskRCNN

Say = Callable[[str], None]


def warm_up(config: Config, *, say: Say = lambda line: None) -> None:
    """Run one training step and one detection of a preset on a small image.

    Sizes do not matter to compiled code, but small maps take other kernels than large ones; at 256 pixels the levels of
    the pyramid are of both kinds.
    """
    from ..model import MaskRCNN
    from ..synthetic import batch, picture
    from ..training.loop import train_step
    from ..training.optim import zero_velocity

    side = min(256, config.image_min_size)
    if config.name not in ("tiny", "small"):
        config = config.replace(image_min_size=side, image_max_size=side, batch_size=1)
    model = MaskRCNN(config)
    say("training step")
    batches = batch((side, side), config)
    velocity = zero_velocity(model.params, config)
    train_step(model, batches, velocity, step=0, rng=np.random.default_rng(0))

    say("detection")
    warm_detection(model, picture((side, side)))


def warm_the_rest() -> None:
    """Do what ``warm_up`` does not come to.

    That is to resize a picture, to cut masks out of a canvas that the picture does not fill, whose lines are then
    apart, and to compare as many boxes as ``explain`` does.
    """
    from ..boxes import iou
    from ..ops.resize import resize_bilinear
    from ..targets import crop_masks

    resize_bilinear(np.zeros((128, 128, 3), np.float32), (160, 160))
    boxes = np.tile(np.array([0, 0, 8, 8], np.float32), (128, 1))
    part_of_canvas = np.zeros((1, 16, 16), np.bool_)[:, :8, :8]
    crop_masks(part_of_canvas, np.zeros(1, np.int64), boxes[:1], output_size=2, method="roi_align", aligned=True)
    iou(boxes, boxes)


def warm_detection(model: MaskRCNN, image: np.ndarray) -> list[Detections]:
    """Detect once in an image with a copy of a model that finds something everywhere, and draw its masks.

    An untrained network finds nothing, and its masks would be compiled when it has learnt something; with equal scores
    it finds something everywhere.
    """
    from ..model import MaskRCNN

    config = model.config.replace(detection_score_threshold=0.0, detection_classes="all", detections_per_image=10)
    probe = MaskRCNN(config, copy.deepcopy(model.params))
    for name, p in probe.params.items():
        if name.startswith(("rpn.deltas.", "box_head.class.", "box_head.deltas.")):
            p[...] = 0
    return probe.detect([image])
