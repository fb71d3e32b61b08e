"""The first half of the configuration, in the order of the data flow: image, backbone, anchors, proposals.

Every field is documented where it stands; ``config.Config`` puts all of them together. Numbers in brackets are rows of
the list of facts that ``tests/test_documents.py`` walks through. The frameworks are matterport/Mask_RCNN (Keras),
torchvision's ``maskrcnn_resnet50_fpn`` and detectron2's ``mask_rcnn_R_50_FPN``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

LOG_1000_16 = math.log(1000.0 / 16.0)  # 4.135166: a decoded side is at most 62.5 times its anchor's


@dataclass(frozen=True)
class IdentityFields:
    """Name and classes.

    Attributes
    ----------
    name : any text
        Stands in messages and files; a preset's name to begin with.
    num_classes : 2 or more
        Classes with the background, which is class 0 here as in matterport and torchvision. detectron2 has it behind
        the others; its readers move it to the front. [77]
    """

    name: str
    num_classes: int


@dataclass(frozen=True)
class ImageFields:
    """Image to molded input (``molding.py``).

    Attributes
    ----------
    resize_mode : "square" or "shortest_edge"
        "square": scale to fit a square of ``image_max_size`` and pad to it (matterport). "shortest_edge": the short
        side becomes ``image_min_size`` unless the long side would pass ``image_max_size``; pad to a multiple of
        ``pad_multiple`` (torchvision, detectron2). [90, 91]
    image_min_size : pixels
        800 in all three; "square" only enlarges to it, never shrinks. [49, 91]
    image_max_size : pixels, a multiple of 32 if "square"
        1024 matterport, 1333 torchvision and detectron2. [91]
    pad_multiple : pixels, a multiple of 32
        32, the stride of C5, in torchvision and detectron2; "square" does not use it.
    resize_rounding : "floor" or "nearest"
        How the resized sides become whole: torchvision rounds down, detectron2 to the nearest, halves up; "square"
        (matterport) always to the nearest, halves to even.
    pad_position : "centre" or "bottom_right"
        Where the padding is: matterport centres the image, the others pad at the bottom and right. [90]
    pad_before_normalise : bool
        True: black pixels are added and then normalised like the others, so that padding is -mean (matterport). False:
        zeros are added afterwards (torchvision, detectron2).
    resize_filter : "bilinear" or "pil"
        "bilinear" interpolates 4 neighbours in float (matterport, torchvision). "pil" low-passes when it shrinks and
        works on 8-bit values (detectron2).
    resize_border : "edge" or "zero"
        What bilinear interpolation finds beyond the edge of an image or a mini mask: the edge again (torchvision), or
        0 (matterport, by scikit-image's mode "constant"): enlarged images have a dark rim. "pil" uses neither.
    resize_truncated : bool
        Cut the resized image to whole grey levels before it is normalised: matterport does, by a cast to the image's
        type; torchvision goes on with fractions; "pil" (detectron2) has rounded already.
    mask_resize : "edges" or "centres"
        Ground-truth masks are resized by the nearest cell, with the edges of both grids aligned (torchvision,
        detectron2), or the centres of their first and last cells (matterport, by ``scipy.ndimage.zoom``).
    gt_boxes_from_masks : bool
        Ground-truth boxes enclose the resized masks, and objects whose mask vanished are dropped (matterport), or they
        are the annotated boxes, scaled (torchvision, detectron2). [92]
    channel_order : "rgb" or "bgr"
        Of the molded image. RGB in matterport and torchvision, BGR in detectron2. [114]
    pixel_scale : grey values
        Input = (pixel / pixel_scale - pixel_mean) / pixel_std. 255 in torchvision, 1 in the others. [114]
    pixel_mean : 3 numbers, in channel_order and after pixel_scale
        (123.7, 116.8, 103.9) matterport, (0.485, 0.456, 0.406) torchvision, (103.53, 116.28, 123.675), which is BGR,
        detectron2. [114]
    pixel_std : 3 numbers, likewise
        (0.229, 0.224, 0.225) torchvision, ones in the others.
    mini_mask_shape : (rows, columns) or None
        Keep each ground-truth mask only inside its box, resized to this shape: (56, 56) in matterport
        (USE_MINI_MASK). None: whole masks (torchvision, detectron2). [76]
    """

    resize_mode: Literal["square", "shortest_edge"] = "shortest_edge"
    image_min_size: int = 800
    image_max_size: int = 1333
    pad_multiple: int = 32
    resize_rounding: Literal["floor", "nearest"] = "nearest"
    pad_position: Literal["centre", "bottom_right"] = "bottom_right"
    pad_before_normalise: bool = False
    resize_filter: Literal["bilinear", "pil"] = "bilinear"
    resize_border: Literal["edge", "zero"] = "edge"
    resize_truncated: bool = False
    mask_resize: Literal["edges", "centres"] = "edges"
    gt_boxes_from_masks: bool = False
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pixel_scale: float = 255.0
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    mini_mask_shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class BackboneFields:
    """Backbone and pyramid (``backbone.py``, ``fpn.py``).

    Attributes
    ----------
    backbone : a name in ``backbone.ARCHITECTURES``
        matterport's default is resnet101; resnet50 is that of the other two presets. [103]
    stride_in_1x1 : bool
        Which convolution of a down-sampling bottleneck has stride 2: its first 1x1 (the original paper, matterport,
        detectron2's MSRA weights) or its 3x3 (torchvision, and detectron2's ResNeXt). Basic blocks have no 1x1. [104]
    conv_bias : bool
        Convolutions before batch norm, of the backbone and elsewhere, have a bias, which the norm makes redundant
        (matterport only).
    bn_mode : "frozen" or "train"
        "frozen": running statistics are constants, in training too (all three frameworks when they fine-tune). "train":
        batch statistics in ``losses``, running ones in ``detect`` (torchvision's v2).
    bn_eps : variance
        Added to it: 1e-3 matterport (Keras' default), 1e-5 torchvision and detectron2. torchvision's published COCO
        weights are an exception: 0.
    bn_momentum : fraction
        running = (1 - momentum) * running + momentum * batch, in "train" mode. 0.1 is PyTorch's; Keras' 0.99 is 0.01
        in these terms. None of the three uses it with frozen statistics.
    stem_pool_padding : "one" or "same"
        Of the 3x3 max pool in the stem: one pixel on each side (torchvision, detectron2), or TensorFlow's SAME
        (matterport): on even sides only at the bottom and right, which shifts every map by a pixel.
    fpn_channels : channels
        Of every level of the pyramid: 256 in all three. [105]
    fpn_norm : bool
        Batch norm after each convolution of the pyramid, before the sum: torchvision's v2. In all three the
        convolutions have a bias instead.
    """

    backbone: str = "resnet50"
    stride_in_1x1: bool = False
    conv_bias: bool = False
    bn_mode: Literal["frozen", "train"] = "frozen"
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1
    stem_pool_padding: Literal["one", "same"] = "one"
    fpn_channels: int = 256
    fpn_norm: bool = False


@dataclass(frozen=True)
class AnchorFields:
    """Anchors and boxes (``anchors.py``, ``boxes.py``).

    Attributes
    ----------
    anchor_sizes : 5 numbers, molded pixels
        Side of the square anchor on P2..P6: 32, 64, 128, 256, 512 in all three. [41]
    anchor_strides : 5 numbers, molded pixels
        Distance of neighbouring anchors on P2..P6: 4, 8, 16, 32, 64 in all three. [37]
    anchor_stride_from_grid : bool
        Take the distance from the padded image divided by the map instead, rounded down: 800 rows over 13 cells give
        61, not 64 (torchvision). [51]
    anchor_ratios : numbers
        0.5, 1, 2 in all three; their count is the number of anchors per cell. [42]
    anchor_ratio_meaning : "height_over_width" or "width_over_height"
        What 0.5 means: a wide anchor (torchvision, detectron2) or a tall one (matterport). [44]
    anchor_rounding : bool
        Round half-sides to whole pixels: 181 x 91 becomes 182 x 90 (torchvision). [43]
    anchor_offset : cells
        The centre of cell i lies at (i + offset) * stride: 0, the cell's corner, in all three (detectron2 has the same
        option); 0.5 is the cell's centre. [46]
    box_frame : "edges" or "centres"
        What proposals, RoIs and detections are measured, moved and compared between: the edges of their pixels, side
        x2 - x1 (torchvision, detectron2), or the centres of the first and last one, side x2 - 1 - x1 (matterport,
        whose normalised coordinates divide that by the image's side - 1). Anchors and their targets are measured
        between edges in all three. [94]
    """

    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    anchor_strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    anchor_stride_from_grid: bool = False
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_ratio_meaning: Literal["height_over_width", "width_over_height"] = "height_over_width"
    anchor_rounding: bool = False
    anchor_offset: float = 0.0
    box_frame: Literal["edges", "centres"] = "edges"


@dataclass(frozen=True)
class ProposalFields:
    """Region proposal network, its targets, and proposals (``rpn.py``, ``targets.py``, ``proposals.py``).

    Attributes
    ----------
    rpn_channels : channels
        Of its 3x3 convolutions: 512 matterport, 256 torchvision and detectron2. [54, 55]
    rpn_convs : layers
        3x3 convolutions, each with a ReLU, before the two 1x1 ones: 1 in all three, 2 in torchvision's v2. [54]
    rpn_objectness : "softmax" or "sigmoid"
        Two logits per anchor, background and object (matterport), or one (torchvision, detectron2). [56]
    rpn_box_std : 4 numbers, of (dy, dx, log dh, log dw)
        Deltas are divided by it when encoded: (0.1, 0.1, 0.2, 0.2) matterport, ones in the others. In memory the order
        is always dy, dx, dh, dw; torchvision and detectron2 store dx, dy, dw, dh. [58, 59]
    max_log_scale : number or None
        log dh and log dw of decoded boxes, of proposals and of detections, are cut off here: ln(1000 / 16) in
        torchvision and detectron2, None (not at all) in matterport. [60]
    rpn_positive_iou : fraction
        Anchors from this IoU with an object on are positive: 0.7 in all three. [61]
    rpn_negative_iou : fraction
        Anchors below it are negative, between the two neutral: 0.3 in all three. [61]
    rpn_match_best : bool
        The best anchor of each object is positive, however low its IoU ("low-quality matches"): True in all three.
        [61]
    rpn_best_ties : "tolerance" or "bit_equal"
        Which anchors share being an object's best: all that are equally good on paper, their IoU within a millionth of
        the largest, or those whose IoU has the very bits of the largest (all three). Anchors that contain a small
        object overlap it equally, and rounding leaves some of them out. matterport measures in float64, where
        it leaves out others than in float32. [71]
    rpn_anchors_per_image : anchors
        Sampled for the loss: 256 in all three. [63]
    rpn_positive_fraction : fraction
        At most this share of them is positive, negatives fill up: 0.5 in all three. [63]
    crowd_iou : fraction or None
        A negative anchor or RoI may overlap no crowd region by this much: 0.001 matterport. None: crowd regions are
        ignored (torchvision and detectron2 drop them before training). [65]
    proposals_pre_nms_train, proposals_pre_nms_test : anchors
        Best ones that are decoded: 6000 of all (matterport), 2000 and 1000 of each level (torchvision, detectron2).
        [52, 67]
    proposals_post_nms_train, proposals_post_nms_test : boxes
        Kept at most: 2000 and 1000 in matterport and torchvision, 1000 and 1000 in detectron2. [52, 67]
    proposals_nms_iou : fraction
        Of two boxes that overlap by more, the worse is dropped: 0.7 in all three. [67, 68]
    proposals_per_level : bool
        Top-k and NMS level by level (torchvision, detectron2), or over all anchors at once (matterport). [52, 67]
    proposals_min_size : molded pixels or None
        Boxes with a shorter side are dropped: 1e-3 torchvision. 0 drops only boxes without area (detectron2), None not
        even those (matterport). [67]
    proposals_window : "image" or "canvas"
        To what proposals are clipped: the image within its padding (torchvision, detectron2), or the whole padded
        canvas (matterport). [67]
    """

    rpn_channels: int = 256
    rpn_convs: int = 1
    rpn_objectness: Literal["softmax", "sigmoid"] = "sigmoid"
    rpn_box_std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    max_log_scale: float | None = LOG_1000_16
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_match_best: bool = True
    rpn_best_ties: Literal["tolerance", "bit_equal"] = "tolerance"
    rpn_anchors_per_image: int = 256
    rpn_positive_fraction: float = 0.5
    crowd_iou: float | None = None
    proposals_pre_nms_train: int = 2000
    proposals_pre_nms_test: int = 1000
    proposals_post_nms_train: int = 2000
    proposals_post_nms_test: int = 1000
    proposals_nms_iou: float = 0.7
    proposals_per_level: bool = True
    proposals_min_size: float | None = 1e-3
    proposals_window: Literal["image", "canvas"] = "image"
