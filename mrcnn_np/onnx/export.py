"""The wiring: a network as a file of ONNX. Read ``detector`` beside ``MaskRCNN.detect_molded``.

======================= ========================================= =====================================================
part                    inputs                                    outputs
======================= ========================================= =====================================================
whole                   image (H, W, 3) uint8, RGB                boxes (D, 4), class_ids (D,), scores (D,),
                                                                  masks (D, H, W), mask_probabilities (D, m, m),
                                                                  keypoints (D, K, 2), keypoint_scores (D, K)
first_stage             molded (N, H, W, 3)                       p2 ... p6 (N, C, H_l, W_l), rpn_logits (N, A) or
                                                                  (N, A, 2), rpn_deltas (N, A, 4)
box_head                box_features (R, C, 7, 7)                 class_logits (R, K), box_deltas (R, K, 4)
mask_head               mask_features (R, C, 14, 14)              mask_logits (R, 28, 28, K)
keypoint_head           keypoint_features (R, C, 14, 14)          keypoint_logits (R, 56, 56, K)
======================= ========================================= =====================================================

Boxes are ``(y1, x1, y2, x2)`` and keypoints ``(y, x)`` in pixels of the image, as everywhere here. A network without a
branch lacks what that puts out; one without pyramid has c4 or conv5_3 in the place of p2 ... p6. Where C5 is the box
head, it is a part of both heads' pieces, which read C4.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from kernels import to_host

from ..backbone import map_channels
from ..config import Config
from ..errors import UserError, some_of
from ..files import atomic_write
from ..keypoints.head import ENLARGED
from ..keypoints.pose import pose_of
from ..model import MaskRCNN
from .anchors import anchors
from .backbone import backbone
from .detections import own_masks, refine
from .fpn import fpn
from .graph import Graph, Tensor
from .heads import box_head, c5_head, mask_head
from .keypoints import heatmap_peaks, keypoint_head
from .molding import Molding, mold_image, unmold_boxes, unmold_points
from .pasting import paste_masks
from .proposals import propose
from .pyramid import roi_features
from .rpn import rpn_head
from .support import require_supported

PARTS = ("whole", "first_stage", "box_head", "mask_head", "keypoint_head")
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
        The package onnx is missing, the part is unknown or the network lacks it, or the file would be too large.
    ConfigError
        The graph cannot compute what the configuration says; the message names the field.
    """
    atomic_write(Path(path), onnx_file(model, part=part))


def onnx_file(model: MaskRCNN, *, part: str = "whole") -> bytes:
    """Return the file that ``write_onnx`` writes; the same bytes for the same network."""
    if part not in PARTS:
        raise UserError(f"unknown part {part!r}; expected one of {', '.join(PARTS)}")
    config = model.config
    for name, field in (("mask_head", "mask_branch"), ("keypoint_head", "keypoints")):
        if part == name and not getattr(config, field):
            raise UserError(f"the network has no part {part!r}: {field} is {getattr(config, field)}")
    require_supported(config)
    g = Graph(to_host(model.params))
    {
        "whole": detector, "first_stage": first_stage, "box_head": box_head_alone, "mask_head": mask_head_alone,
        "keypoint_head": keypoint_head_alone,
    }[part](g, config)  # fmt: skip
    left_out = [name for name in model.params if name not in g.used]
    if part == "whole" and left_out:
        raise UserError(f"parameters that have no place in the ONNX graph: {some_of(left_out, 3)}")
    facts = {
        "part": part,
        "class_names": json.dumps(list(model.class_names), ensure_ascii=False),
        "config": json.dumps(config.to_dict()),
    }
    pose = pose_of(config)
    if pose is not None:
        facts["keypoint_names"] = json.dumps(list(pose.names), ensure_ascii=False)
        facts["keypoint_skeleton"] = json.dumps(pose.skeleton)
    kind = "Mask R-CNN" if config.mask_branch else "Faster R-CNN"
    neck = "FPN" if config.neck == "fpn" else "one map"
    documentation = f"{kind}, {config.backbone} with {neck}, {config.num_classes} classes with the background first."
    return g.to_bytes(f"mrcnn_np {part}", documentation, facts)


def detector(g: Graph, config: Config) -> None:
    """Add everything, from the image to the masks and keypoints in it."""
    image = g.input("image", np.uint8, ("height", "width", 3))
    with g.part("molding"):
        molded, molding = mold_image(g, image, config)
    pyramid = maps(g, molded, config)
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
        roi = head_features(g, pyramid, proposals, config.box_pool_size, molding.canvas, config, head="box")
        class_logits, box_deltas = box_head(g, roi, config)
    with g.part("detections"):
        placed, class_ids, scores = refine(g, proposals, class_logits, box_deltas, molding.window, config)
        boxes = unmold_boxes(g, placed, molding, config)
    g.output(boxes, "boxes", FLOAT, ("detections", 4))
    g.output(class_ids, "class_ids", np.int64, ("detections",))
    g.output(scores, "scores", FLOAT, ("detections",))
    if config.mask_branch:
        add_masks(g, pyramid, placed, boxes, class_ids, molding, config)
    if config.keypoints:
        add_keypoints(g, pyramid, placed, molding, config)


def add_masks(
    g: Graph, pyramid: list[Tensor], placed: Tensor, boxes: Tensor, class_ids: Tensor, molding: Molding, config: Config
) -> None:
    """Add the mask branch, from the final boxes to its outputs.

    Parameters
    ----------
    g : Graph
    pyramid : list of str
        As from ``maps``.
    placed, boxes : str
        (D, 4), in molded pixels and in those of the image.
    class_ids : str
        (D,), int64.
    molding : Molding
    config : Config
    """
    with g.part("mask_head"):
        roi = head_features(g, pyramid, placed, config.mask_pool_size, molding.canvas, config, head="mask")
        masks = own_masks(g, mask_head(g, roi, config), class_ids)
    with g.part("masks"):
        pasted = paste_masks(g, masks, boxes, molding.original, config)
    side = 2 * config.mask_pool_size
    g.output(pasted, "masks", np.bool_, ("detections", "height", "width"))
    g.output(masks, "mask_probabilities", FLOAT, ("detections", side, side))


def add_keypoints(g: Graph, pyramid: list[Tensor], placed: Tensor, molding: Molding, config: Config) -> None:
    """Add the keypoint branch, from the final boxes to its outputs.

    Parameters
    ----------
    g : Graph
    pyramid : list of str
        As from ``maps``.
    placed : str
        (D, 4), molded pixels.
    molding : Molding
    config : Config
    """
    with g.part("keypoint_head"):
        roi = roi_features(g, pyramid, placed, config.keypoint_pool_size, molding.canvas, config)
        logits = keypoint_head(g, roi, config)
    with g.part("keypoints"):
        points, scores = heatmap_peaks(g, logits, placed, config)
        points = g.Sub(unmold_points(g, points, molding), float(config.keypoint_offset))
    g.output(points, "keypoints", FLOAT, ("detections", config.keypoints, 2))
    g.output(scores, "keypoint_scores", FLOAT, ("detections", config.keypoints))


def maps(g: Graph, molded: Tensor, config: Config) -> list[Tensor]:
    """Add backbone and pyramid.

    Parameters
    ----------
    g : Graph
    molded : str
        (N, H, W, 3).
    config : Config

    Returns
    -------
    list of str
        ``[p2, ..., p6]``, or without a pyramid the backbone's last map.
    """
    with g.part("backbone"):
        features = backbone(g, molded, config)
    if config.neck == "none":
        return features[-1:]
    with g.part("fpn"):
        return fpn(g, features, config)


def head_features(
    g: Graph, pyramid: list[Tensor], rois: Tensor, size: int, canvas: Tensor, config: Config, *, head: str
) -> Tensor:
    """Read what a head reads: ``roi_features``, and behind them C5 where that is the head.

    Parameters
    ----------
    g, pyramid, rois, size, canvas, config
        As in ``roi_features``; of C5, which both heads share, the size is always ``box_pool_size``.
    head : {"box", "mask"}
    """
    size = config.box_pool_size if config.box_head == "c5" else size
    return c5_head(g, roi_features(g, pyramid, rois, size, canvas, config), config, level=f".{head}")


def first_stage(g: Graph, config: Config) -> None:
    """Add backbone, pyramid and proposal head: convolutions only, for a runtime that has no more."""
    molded = g.input("molded", FLOAT, ("images", "height", "width", 3))
    pyramid = maps(g, molded, config)
    with g.part("rpn"):
        logits, deltas = (g.Concat(*parts, axis=1) for parts in rpn_head(g, pyramid, config))
    for name, p in zip(config.levels, pyramid):
        g.output(p, name, FLOAT, ("images", map_channels(config), f"height_{name}", f"width_{name}"))
    pair = () if config.rpn_objectness == "sigmoid" else (2,)
    g.output(logits, "rpn_logits", FLOAT, ("images", "anchors", *pair))
    g.output(deltas, "rpn_deltas", FLOAT, ("images", "anchors", 4))


def box_head_alone(g: Graph, config: Config) -> None:
    """Add the class and box head, with C5 before it if that is the head."""
    size = config.box_pool_size
    features = g.input("box_features", FLOAT, ("regions", map_channels(config), size, size))
    with g.part("box_head"):
        logits, deltas = box_head(g, c5_head(g, features, config, level=".box"), config)
    g.output(logits, "class_logits", FLOAT, ("regions", config.num_classes))
    g.output(deltas, "box_deltas", FLOAT, ("regions", config.num_classes, 4))


def mask_head_alone(g: Graph, config: Config) -> None:
    """Add the mask head, with C5 before it if that is the box head."""
    size, side = config.box_pool_size if config.box_head == "c5" else config.mask_pool_size, 2 * config.mask_pool_size
    features = g.input("mask_features", FLOAT, ("regions", map_channels(config), size, size))
    with g.part("mask_head"):
        logits = mask_head(g, c5_head(g, features, config, level=".mask"), config)
    g.output(logits, "mask_logits", FLOAT, ("regions", side, side, config.num_classes))


def keypoint_head_alone(g: Graph, config: Config) -> None:
    """Add the keypoint head."""
    size, side = config.keypoint_pool_size, ENLARGED * config.keypoint_pool_size
    features = g.input("keypoint_features", FLOAT, ("regions", map_channels(config), size, size))
    with g.part("keypoint_head"):
        logits = keypoint_head(g, features, config)
    g.output(logits, "keypoint_logits", FLOAT, ("regions", side, side, config.keypoints))
