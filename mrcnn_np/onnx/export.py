"""The wiring: a network as a file of ONNX. Read ``detector`` beside ``MaskRCNN.detect_molded``.

======================= ========================================= =====================================================
part                    inputs                                    outputs
======================= ========================================= =====================================================
whole                   image (H, W, 3) uint8, RGB                boxes (D, 4), class_ids (D,), scores (D,),
                                                                  masks (D, H, W), mask_probabilities (D, m, m)
first_stage             molded (N, H, W, 3)                       p2 ... p6 (N, C, H_l, W_l), rpn_logits (N, A) or
                                                                  (N, A, 2), rpn_deltas (N, A, 4)
box_head                box_features (R, C, 7, 7)                 class_logits (R, K), box_deltas (R, K, 4)
mask_head               mask_features (R, C, 14, 14)              mask_logits (R, 28, 28, K)
======================= ========================================= =====================================================

Boxes are ``(y1, x1, y2, x2)`` in pixels of the image, half-open, as everywhere here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from kernels import to_host

from ..errors import UserError
from ..files import atomic_write
from ..model import MaskRCNN
from .anchors import anchors
from .backbone import backbone
from .detections import own_masks, refine
from .fpn import fpn
from .graph import Graph
from .heads import box_head, mask_head
from .molding import mold_image, unmold_boxes
from .pasting import paste_masks
from .proposals import propose
from .pyramid import roi_features
from .rpn import rpn_head
from .support import require_supported

PARTS = ("whole", "first_stage", "box_head", "mask_head")
FLOAT = np.float32


def write_onnx(path: str | Path, model: MaskRCNN, *, part: str = "whole") -> None:
    """Write a network as ONNX.

    Parameters
    ----------
    path : path
        Replaced atomically.
    model : MaskRCNN
    part : str
        One of ``PARTS``, see above.

    Raises
    ------
    UserError
        The package onnx is missing, the part is unknown, or the file would be too large.
    ConfigError
        The graph cannot compute what the configuration says; the message names the field.
    """
    atomic_write(Path(path), onnx_file(model, part=part))


def onnx_file(model: MaskRCNN, *, part: str = "whole") -> bytes:
    """Return the file that ``write_onnx`` writes; the same bytes for the same network."""
    if part not in PARTS:
        raise UserError(f"unknown part {part!r}; expected one of {', '.join(PARTS)}")
    config = model.config
    require_supported(config)
    g = Graph(to_host(model.params))
    {"whole": detector, "first_stage": first_stage, "box_head": box_head_alone, "mask_head": mask_head_alone}[part](
        g, model
    )
    left_out = [name for name in model.params if name not in g.used]
    if part == "whole" and left_out:
        some = ", ".join(left_out[:3]) + (" ..." if len(left_out) > 3 else "")
        raise UserError(f"parameters that have no place in the ONNX graph: {some} ({len(left_out)} of them)")
    facts = {
        "part": part,
        "class_names": json.dumps(list(model.class_names), ensure_ascii=False),
        "config": json.dumps(config.to_dict()),
    }
    documentation = f"Mask R-CNN, {config.backbone} with FPN, {config.num_classes} classes with the background first."
    return g.to_bytes(f"mrcnn_np {part}", documentation, facts)


def detector(g: Graph, model: MaskRCNN) -> None:
    """Add everything, from the image to the masks in it."""
    config = model.config
    image = g.input("image", np.uint8, ("height", "width", 3))
    with g.part("molding"):
        molded, molding = mold_image(g, image, config)
    with g.part("backbone"):
        features = backbone(g, molded, config)
    with g.part("fpn"):
        pyramid = fpn(g, features, config)
    with g.part("rpn"):
        logits, deltas = rpn_head(g, pyramid, config)
    with g.part("anchors"):
        places = anchors(g, pyramid, molding.canvas, config)
    with g.part("proposals"):
        window = molding.window
        if config.proposals_window == "canvas":
            window = g.cast(g.Concat([0, 0], molding.canvas, axis=0), FLOAT)
        proposals = propose(g, logits, deltas, places, window, config)
    with g.part("box_head"):
        roi = roi_features(g, pyramid, proposals, config.box_pool_size, molding.canvas, config)
        class_logits, box_deltas = box_head(g, roi, config)
    with g.part("detections"):
        boxes, class_ids, scores = refine(g, proposals, class_logits, box_deltas, molding.window, config)
    with g.part("mask_head"):
        roi = roi_features(g, pyramid, boxes, config.mask_pool_size, molding.canvas, config)
        masks = own_masks(g, mask_head(g, roi, config), class_ids)
    with g.part("masks"):
        boxes = unmold_boxes(g, boxes, molding, config)
        pasted = paste_masks(g, masks, boxes, molding.original, config)
    side = 2 * config.mask_pool_size
    g.output(boxes, "boxes", FLOAT, ("detections", 4))
    g.output(class_ids, "class_ids", np.int64, ("detections",))
    g.output(scores, "scores", FLOAT, ("detections",))
    g.output(pasted, "masks", np.bool_, ("detections", "height", "width"))
    g.output(masks, "mask_probabilities", FLOAT, ("detections", side, side))


def first_stage(g: Graph, model: MaskRCNN) -> None:
    """Add backbone, pyramid and proposal head: convolutions only, for a runtime that has no more."""
    config = model.config
    molded = g.input("molded", FLOAT, ("images", "height", "width", 3))
    with g.part("backbone"):
        features = backbone(g, molded, config)
    with g.part("fpn"):
        pyramid = fpn(g, features, config)
    with g.part("rpn"):
        logits, deltas = (g.Concat(*parts, axis=1) for parts in rpn_head(g, pyramid, config))
    for level, p in enumerate(pyramid, start=2):
        g.output(p, f"p{level}", FLOAT, ("images", config.fpn_channels, f"height{level}", f"width{level}"))
    pair = () if config.rpn_objectness == "sigmoid" else (2,)
    g.output(logits, "rpn_logits", FLOAT, ("images", "anchors", *pair))
    g.output(deltas, "rpn_deltas", FLOAT, ("images", "anchors", 4))


def box_head_alone(g: Graph, model: MaskRCNN) -> None:
    """Add the class and box head."""
    config, size = model.config, model.config.box_pool_size
    features = g.input("box_features", FLOAT, ("regions", config.fpn_channels, size, size))
    with g.part("box_head"):
        logits, deltas = box_head(g, features, config)
    g.output(logits, "class_logits", FLOAT, ("regions", config.num_classes))
    g.output(deltas, "box_deltas", FLOAT, ("regions", config.num_classes, 4))


def mask_head_alone(g: Graph, model: MaskRCNN) -> None:
    """Add the mask head."""
    config, size = model.config, model.config.mask_pool_size
    features = g.input("mask_features", FLOAT, ("regions", config.fpn_channels, size, size))
    with g.part("mask_head"):
        logits = mask_head(g, features, config)
    g.output(logits, "mask_logits", FLOAT, ("regions", 2 * size, 2 * size, config.num_classes))
