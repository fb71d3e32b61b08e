"""The fields of the configuration, in the order of the data flow, from the image to the schedule of training.

Each group says in its docstring what its fields mean, and then declares them: default, range, what other frameworks
have instead, and what depends on the value (``config/declare.py``). ``config.Config`` puts the groups together. Numbers
in brackets are rows of the list of facts that ``tests/test_documents.py`` walks through. The frameworks are
matterport/Mask_RCNN (Keras), torchvision's ``maskrcnn_resnet50_fpn`` and detectron2's ``mask_rcnn_R_50_FPN``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from .declare import Range, convention, identity, schedule, size

LOG_1000_16 = math.log(1000.0 / 16.0)  # 4.135166: a decoded side is at most 62.5 times its anchor's

FRACTION = Range(0, 1)
COUNT = Range(1, 10**6)  # of anchors, boxes and RoIs
CHANNELS = Range(1, 4096)  # a 3x3 convolution of 4096 channels has 0.6 GB of weights
SIDE = Range(1, 16384)  # pixels of an image; its canvas takes 3 GB then
LENGTH = Range(0, 1e5, above=True)  # molded pixels
DEVIATION = Range(0, 1e6, above=True)
STEPS = Range(0, 10**9)


@dataclass(frozen=True)
class IdentityFields:
    """Name and classes.

    Attributes
    ----------
    name : any text
        Stands in messages and files; a preset's name to begin with.
    num_classes : classes
        Classes with the background, which is class 0 here as in matterport and torchvision. detectron2 has it behind
        the others; its readers move it to the front. [77]
    """

    name: str = identity()
    num_classes: int = identity(range=Range(2, 20000), weights="network", shown_by=("box_head.class.b",))


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
    mask_resize : "exact", "edges" or "centres"
        Ground-truth masks are resized by the nearest cell. "exact": a new cell reads the one in which its centre lies
        (detectron2, by Pillow). "edges": the one in which its first corner lies (torchvision), so that a mask shrunk by
        5 moves down and to the right by 2 of its old pixels. "centres": the first and last cells stay what they are
        (matterport, by ``scipy.ndimage.zoom``), so that masks move towards the middle, those at the border as far.
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

    resize_mode: Literal["square", "shortest_edge"] = convention(
        "shortest_edge", matterport="square", built_in=("matterport",)
    )
    image_min_size: int = size(800, replace(SIDE, words="between 1 and image_max_size"))
    image_max_size: int = size(1333, SIDE, matterport=1024, together="resize_mode")
    pad_multiple: int = size(32, Range(1, 2048))
    resize_rounding: Literal["floor", "nearest"] = convention("nearest", torchvision="floor")
    pad_position: Literal["centre", "bottom_right"] = convention("bottom_right", matterport="centre")
    pad_before_normalise: bool = convention(False, matterport=True)
    resize_filter: Literal["bilinear", "pil"] = convention("bilinear", detectron2="pil")
    resize_border: Literal["edge", "zero"] = convention("edge", matterport="zero")
    resize_truncated: bool = convention(False, matterport=True)
    mask_resize: Literal["exact", "edges", "centres"] = convention("edges", matterport="centres", detectron2="exact")
    gt_boxes_from_masks: bool = convention(False, matterport=True)
    channel_order: Literal["rgb", "bgr"] = convention("rgb", detectron2="bgr", weights="backbone")
    pixel_scale: float = convention(
        255.0, DEVIATION, matterport=1.0, detectron2=1.0, together="pixel_mean", weights="backbone"
    )
    pixel_mean: tuple[float, float, float] = convention(
        (0.485, 0.456, 0.406),
        Range(-1e6, 1e6),
        matterport=(123.7, 116.8, 103.9),
        detectron2=(103.53, 116.28, 123.675),
        weights="backbone",
    )
    pixel_std: tuple[float, float, float] = convention(
        (0.229, 0.224, 0.225),
        DEVIATION,
        matterport=(1.0, 1.0, 1.0),
        detectron2=(1.0, 1.0, 1.0),
        together="pixel_mean",
        weights="backbone",
    )
    mini_mask_shape: tuple[int, int] | None = convention(None, Range(1, 1024), matterport=(56, 56))


#: the names in ``backbone.ARCHITECTURES``
RESNETS = (
    "tiny", "small", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
    "resnext101_32x8d",
)  # fmt: skip
#: the names in ``vgg.VGGS``
VGGS = ("tiny_vgg", "vgg16")
BACKBONES = (*RESNETS, *VGGS)


@dataclass(frozen=True)
class BackboneFields:
    """Backbone and pyramid (``backbone.py``, ``vgg.py``, ``fpn.py``).

    Attributes
    ----------
    backbone : a name in ``backbone.ARCHITECTURES`` or ``vgg.VGGS``
        matterport's default is resnet101; resnet50 is that of the other two presets. [103] vgg16 is that of Faster
        R-CNN: its convolutions have a bias and no norm.
    neck : "fpn" or "none"
        What the proposal network and the heads read. "fpn": the pyramid P2..P6 (all three). "none": one map at 1/16 of
        the image, C4 of a ResNet (detectron2's C4 configurations) or conv5_3 of a VGG, as in Faster R-CNN.
    stride_in_1x1 : bool
        Which convolution of a down-sampling bottleneck has stride 2: its first 1x1 (the original paper, matterport,
        detectron2's MSRA weights) or its 3x3 (torchvision, and detectron2's ResNeXt). Basic blocks have no 1x1. [104]
    conv_bias : bool
        Convolutions before a norm, of the backbone and elsewhere, have a bias, which the norm makes redundant
        (matterport only).
    norm : "batch", "group" or "instance"
        What follows the convolutions that have a norm. "batch": all three, statistics of the batch or running ones
        (``bn_mode``). "group": those of each map by itself, over groups of channels, in training as in ``detect``
        (Wu and He 2018; detectron2's GN models). "instance": each channel of each map by itself.
    norm_groups : groups
        Of "group": 32 in the paper and in detectron2. It divides the channels of every layer that has a norm, so the
        presets tiny and small need 8, 4, 2 or 1; any other value is refused.
    bn_mode : "frozen" or "train"
        Of "batch". "frozen": running statistics are constants, in training too (all three frameworks when they
        fine-tune). "train": batch statistics in ``losses``, running ones in ``detect`` (torchvision's v2).
    bn_eps : variance
        Added to it, whatever the norm: 1e-3 matterport (Keras' default), 1e-5 torchvision and detectron2. torchvision's
        published COCO weights are an exception: 0.
    bn_momentum : fraction
        running = (1 - momentum) * running + momentum * batch, in "train" mode. 0.1 is PyTorch's; Keras' 0.99 is 0.01
        in these terms. None of the three uses it with frozen statistics.
    stem_pool_padding : "one" or "same"
        Of the 3x3 max pool in the stem: one pixel on each side (torchvision, detectron2), or TensorFlow's SAME
        (matterport): on even sides only at the bottom and right, which shifts every map by a pixel.
    fpn_channels : channels
        Of every level of the pyramid: 256 in all three. [105]
    fpn_norm : bool
        A norm after each convolution of the pyramid, before the sum: torchvision's v2. In all three the
        convolutions have a bias instead.
    """

    backbone: str = size("resnet50", matterport="resnet101", weights="backbone", in_tensors=True)
    neck: Literal["fpn", "none"] = size("fpn", weights="network")
    stride_in_1x1: bool = convention(False, matterport=True, detectron2=True, weights="backbone")
    conv_bias: bool = convention(
        False, matterport=True, weights="backbone", in_tensors=True, built_in=("matterport", "torchvision")
    )
    norm: Literal["batch", "group", "instance"] = size(
        "batch", weights="backbone", in_tensors=True, built_in=("matterport",)
    )
    norm_groups: int = size(32, CHANNELS, weights="backbone", in_tensors=True)
    bn_mode: Literal["frozen", "train"] = convention("frozen", built_in=("matterport",))
    bn_eps: float = convention(1e-5, Range(0, 1), matterport=0.001, weights="backbone")
    bn_momentum: float = schedule(0.1, FRACTION)
    stem_pool_padding: Literal["one", "same"] = convention("one", matterport="same", weights="backbone")
    fpn_channels: int = size(256, CHANNELS, weights="network", shown_by=("fpn.lateral2.w",), built_in=("torchvision",))
    fpn_norm: bool = convention(False, weights="network")


@dataclass(frozen=True)
class AnchorFields:
    """Anchors and boxes (``anchors.py``, ``boxes.py``).

    Attributes
    ----------
    anchor_sizes : numbers, molded pixels
        Sides of the square anchors. With ``neck`` "fpn" five, one on each of P2..P6: 32, 64, 128, 256, 512 in all
        three. [41] With "none" any number, all of them on every cell of the one map: 128, 256, 512 in Faster R-CNN, and
        the five above in detectron2's C4 configurations.
    anchor_strides : numbers, molded pixels
        Distance of neighbouring anchors. With ``neck`` "fpn" five, on P2..P6: 4, 8, 16, 32, 64 in all three. [37] With
        "none" one: 16.
    anchor_stride_from_grid : bool
        Take the distance from the padded image divided by the map instead, rounded down: 800 rows over 13 cells give
        61, not 64 (torchvision). [51]
    anchor_ratios : numbers
        0.5, 1, 2 in all three; their count is the number of anchors per cell and size. [42]
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

    anchor_sizes: tuple[float, ...] = size((32.0, 64.0, 128.0, 256.0, 512.0), LENGTH)
    anchor_strides: tuple[int, ...] = size((4, 8, 16, 32, 64), Range(1, 4096))
    anchor_stride_from_grid: bool = convention(False, torchvision=True)
    anchor_ratios: tuple[float, ...] = size((0.5, 1.0, 2.0), Range(0, 1000, above=True), weights="network")
    anchor_ratio_meaning: Literal["height_over_width", "width_over_height"] = convention(
        "height_over_width", matterport="width_over_height", weights="network"
    )
    anchor_rounding: bool = convention(False, torchvision=True)
    anchor_offset: float = convention(0.0, Range(-10, 10), others={0.5: "centres of cells"}, weights="network")
    box_frame: Literal["edges", "centres"] = convention("edges", matterport="centres")


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
        object overlap it equally, and rounding leaves some of them out. matterport measures in float64, where it
        leaves out others than in float32. [71]
    rpn_anchors_per_image : anchors
        Sampled for the loss: 256 in all three. [63]
    rpn_positive_fraction : fraction
        At most this share of them is positive, negatives fill up: 0.5 in all three. [63]
    crowd_iou : fraction or None
        A negative anchor or RoI may overlap no crowd region by this much: 0.001 matterport. None: what lies
        on a crowd is background like all else (torchvision and detectron2 drop crowds before training). [65]
    proposals_pre_nms_train : anchors
        Best ones that are decoded in training: 6000 of all (matterport), 2000 of each level (torchvision, detectron2).
        [52, 67]
    proposals_pre_nms_test : anchors
        The same in detection: 6000 of all (matterport), 1000 of each level (torchvision, detectron2). [52, 67]
    proposals_post_nms_train : boxes
        Kept at most, in training: 2000 in matterport and torchvision, 1000 in detectron2. [52, 67]
    proposals_post_nms_test : boxes
        Kept at most, in detection: 1000 in all three. [52, 67]
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

    rpn_channels: int = size(
        256, CHANNELS, matterport=512, weights="network", shown_by=("rpn.conv.b",), built_in=("torchvision",)
    )
    rpn_convs: int = size(1, Range(1, 32), weights="network", counted_by=r"rpn\.conv(\d*)\.w$")
    rpn_objectness: Literal["softmax", "sigmoid"] = convention(
        "sigmoid", matterport="softmax", weights="network", built_in=("matterport", "torchvision")
    )
    rpn_box_std: tuple[float, float, float, float] = convention(
        (1.0, 1.0, 1.0, 1.0), DEVIATION, matterport=(0.1, 0.1, 0.2, 0.2), weights="network"
    )
    max_log_scale: float | None = convention(LOG_1000_16, Range(0, 50), matterport=None)
    rpn_positive_iou: float = convention(0.7, FRACTION)
    rpn_negative_iou: float = convention(0.3, FRACTION)
    rpn_match_best: bool = convention(True, others={False: "thresholds only"})
    rpn_best_ties: Literal["tolerance", "bit_equal"] = convention(
        "tolerance", matterport="bit_equal", torchvision="bit_equal", detectron2="bit_equal",
        others={"tolerance": "tiny, small"},
    )  # fmt: skip
    rpn_anchors_per_image: int = convention(256, COUNT)
    rpn_positive_fraction: float = convention(0.5, FRACTION)
    crowd_iou: float | None = convention(None, FRACTION, matterport=0.001)
    proposals_pre_nms_train: int = convention(2000, COUNT, matterport=6000)
    proposals_pre_nms_test: int = convention(1000, COUNT, matterport=6000)
    proposals_post_nms_train: int = convention(2000, COUNT, detectron2=1000)
    proposals_post_nms_test: int = convention(1000, COUNT)
    proposals_nms_iou: float = convention(0.7, FRACTION)
    proposals_per_level: bool = convention(True, matterport=False)
    proposals_min_size: float | None = convention(1e-3, Range(0, 1e5), matterport=None, detectron2=0.0)
    proposals_window: Literal["image", "canvas"] = convention("image", matterport="canvas")


@dataclass(frozen=True)
class RoiFields:
    """Regions of interest: their features, their sampling and their targets (``pyramid.py``, ``targets.py``).

    Attributes
    ----------
    roi_level_rounding : "floor" or "round"
        How k0 + log2(sqrt(area) / canonical size) becomes a level: rounded down (the paper, torchvision, detectron2) or
        to the nearest, halves to even (matterport). Before rounding down 1e-6 is added, as in torchvision; detectron2
        adds 1e-8 inside the logarithm, which differs for sides within a millionth of a power of two. [31, 33]
    roi_canonical_size : molded pixels
        Side of the square RoI that belongs to the canonical level: 224 in all three. [31, 36]
    roi_canonical_level : level
        k0: 4 in all three. [31]
    roi_method : "roi_align", "crop_and_resize" or "roi_pool"
        RoIAlign (torchvision, detectron2), or one sample per bin, in coordinates normalised by size - 1 (matterport),
        or what RoIAlign replaced: the largest value of bins rounded to whole cells (Fast and Faster R-CNN). [6, 15]
    roi_sampling_ratio : samples per bin and axis, or 0
        2 in torchvision, 0 (adaptive: the bin's side in cells, rounded up) in detectron2; "crop_and_resize" always
        takes 1. [24]
    roi_aligned : bool
        Shift by half a cell so that centres of cells lie at i + 0.5: detectron2's correction. torchvision does not.
        With "roi_align" it holds for the mask targets, too. [5, 15]
    roi_reduce : "mean" or "max"
        What becomes of the samples of a bin: their mean in all three; the largest in the walkthrough documents. [6, 7]
    box_pool_size : bins per axis
        What the box head reads: 7 in all three [26]; 14 where ``box_head`` is "c5", which halves it.
    mask_pool_size : bins per axis
        What the mask head reads: 14 in all three; predicted masks and mask targets have twice as many cells. [26, 80]
        Where ``box_head`` is "c5" it reads what C5 made of the box head's bins: half as many, 7.
    gt_joins_proposals : bool
        Ground-truth boxes join the proposals before RoIs are sampled (torchvision, detectron2; not matterport). [73]
    rois_per_image : RoIs
        Sampled for the heads: 200 matterport, 512 torchvision and detectron2. [73]
    roi_positive_fraction : fraction
        Largest share of positives: 0.33 matterport, 0.25 torchvision and detectron2. [73, 74]
    roi_positive_iou : fraction
        RoIs from this IoU with an object on are positive, all others negative: 0.5 in all three. [72]
    roi_negatives : "fill" or "ratio"
        Negatives fill the batch (torchvision, detectron2), or are as many as the share of positives asks for, and the
        batch stays short (matterport). [73]
    rois_padded : bool
        Fill a short batch up with RoIs of the image's first pixel, which count as background (matterport's zeros).
    mask_target_method : "roi_align" or "crop_and_resize"
        How a ground-truth mask is brought into its RoI's frame: RoIAlign with adaptive sampling, of the mask without
        the image's padding (torchvision, detectron2's bitmasks), or one sample per cell (matterport). [75]
    mask_target_rounded : bool
        Round the target to 0 and 1 (matterport, halves to even; detectron2, halves up) or keep fractions (torchvision).
        [75]
    """

    roi_level_rounding: Literal["floor", "round"] = convention("floor", matterport="round")
    roi_canonical_size: float = size(224.0, LENGTH)
    roi_canonical_level: int = size(4, Range(2, 5))
    roi_method: Literal["roi_align", "crop_and_resize", "roi_pool"] = convention(
        "roi_align", matterport="crop_and_resize", weights="network"
    )
    roi_sampling_ratio: int = convention(2, Range(0, 64), detectron2=0)
    roi_aligned: bool = convention(False, detectron2=True, weights="network")
    roi_reduce: Literal["mean", "max"] = convention("mean", others={"max": "the documents"})
    box_pool_size: int = size(7, Range(1, 64), weights="network", built_in=("torchvision",))
    mask_pool_size: int = size(14, Range(1, 64), weights="network", built_in=("torchvision",))
    gt_joins_proposals: bool = convention(True, matterport=False)
    rois_per_image: int = convention(512, COUNT, matterport=200)
    roi_positive_fraction: float = convention(0.25, Range(0, 1, above=True), matterport=0.33)
    roi_positive_iou: float = convention(0.5, FRACTION)
    roi_negatives: Literal["fill", "ratio"] = convention("fill", matterport="ratio")
    rois_padded: bool = convention(False, matterport=True)
    mask_target_method: Literal["roi_align", "crop_and_resize"] = convention("roi_align", matterport="crop_and_resize")
    mask_target_rounded: bool = convention(False, matterport=True, detectron2=True)


@dataclass(frozen=True)
class HeadFields:
    """The heads (``heads.py``).

    Attributes
    ----------
    box_head : "fc", "conv", "conv_fc" or "c5"
        "fc": two fully connected layers (torchvision, detectron2). "conv": a 7x7 and a 1x1 convolution with a norm
        (matterport). "conv_fc": 3x3 convolutions with a norm, then one fully connected layer (torchvision's v2).
        [78] "c5", only without a pyramid: the last stage of the ResNet, run on each RoI, and the mean of its map
        (detectron2's C4 configurations); the mask head reads the same map.
    box_head_convs : layers
        3x3 convolutions of "conv_fc", as wide as the pyramid: 4 in torchvision's v2. The others do not use it.
    box_head_channels : channels
        Of both layers, or of the fully connected one: 1024 in all three, 4096 in Faster R-CNN with VGG-16. [78] "c5"
        does not use it.
    head_box_std : 4 numbers, of (dy, dx, log dh, log dw)
        Deltas of the box head are divided by it: (0.1, 0.1, 0.2, 0.2) in all three; torchvision and detectron2 write
        its inverse, weights (10, 10, 5, 5). [59]
    mask_branch : bool
        There is a mask head. False is Faster R-CNN: no mask loss, and the mask of a detection is all of its box.
    mask_head_convs : layers
        3x3 convolutions before the transposed one: 4 in all three, 0 in detectron2's C4 configurations. [79]
    mask_head_channels : channels
        256 in all three. [79]
    mask_head_norm : bool
        A norm after each of these convolutions: matterport, whose convolutions keep their bias, and torchvision's
        v2, where they have none, see ``conv_bias``. [79]
    """

    box_head: Literal["fc", "conv", "conv_fc", "c5"] = convention(
        "fc", matterport="conv", weights="network", built_in=("matterport",)
    )
    box_head_convs: int = size(4, Range(0, 32), counted_by=r"box_head\.conv(\d+)\.w$")
    box_head_channels: int = size(
        1024,
        Range(1, 16384),
        weights="network",
        shown_by=("box_head.fc1.b", "box_head.conv1.b"),
        built_in=("torchvision",),
    )
    head_box_std: tuple[float, float, float, float] = convention((0.1, 0.1, 0.2, 0.2), DEVIATION, weights="network")
    mask_branch: bool = size(True, weights="network")
    mask_head_convs: int = size(4, Range(0, 32), weights="network", counted_by=r"mask_head\.conv(\d+)\.w$")
    mask_head_channels: int = size(
        256, CHANNELS, weights="network", shown_by=("mask_head.deconv.b",), built_in=("torchvision",)
    )
    mask_head_norm: bool = convention(False, matterport=True, weights="network", built_in=("matterport",))


@dataclass(frozen=True)
class KeypointFields:
    """The keypoint branch (``keypoints/``); torchvision is ``keypointrcnn_resnet50_fpn`` here.

    Attributes
    ----------
    keypoints : kinds of keypoints
        That each object has; 0 is no keypoint branch, as in all three's Mask R-CNN. 17 of COCO's persons in torchvision
        and detectron2.
    keypoint_names : names
        Of each kind. None are needed: 17 are taken for COCO's. Training fills in what the data set says.
    keypoint_skeleton : kinds, from 1, in pairs
        Which a picture joins by a line, as in COCO's categories: the first with the second, the third with the fourth.
    keypoint_head_convs : layers
        3x3 convolutions before the transposed one: 8 in torchvision and detectron2.
    keypoint_head_channels : channels
        512 in torchvision and detectron2.
    keypoint_pool_size : bins per axis
        What the keypoint head reads: 14 in torchvision and detectron2; its maps have four times as many cells.
    keypoint_offset : pixels
        Added to annotated numbers to make them positions, where pixel i spans [i, i + 1), and taken off what is found.
        0.5, because COCO's whole numbers name pixels (detectron2), or 0.0 (torchvision, Detectron). Flips mirror
        accordingly: x becomes W - 1 - x, or W - x in torchvision's scripts.
    keypoint_loss_denominator : "visible" or "possible"
        Of the keypoint loss: annotated keypoints in the batch's RoIs (torchvision, detectron2), or the most there could
        be, RoIs per image x share of positives x kinds (detectron2's other choice), so that an image with few keypoints
        counts little.
    keypoint_decode : "bicubic", "quarter" or "argmax"
        How a map of 56 x 56 cells becomes a point. "bicubic": the highest pixel after enlarging it to the box's size
        (torchvision, detectron2). "quarter": the centre of the highest cell, a quarter of a cell towards the higher
        neighbour. "argmax": the centre of the highest cell.
    keypoint_loss_weight : number
        Of the keypoint loss, beside ``loss_weights``: 1 in torchvision and detectron2.
    """

    keypoints: int = size(0, Range(0, 1000), weights="network", shown_by=("keypoint_head.deconv.b",))
    keypoint_names: tuple[str, ...] = size((), entries=1000, needs="keypoints")
    keypoint_skeleton: tuple[int, ...] = size((), Range(1, 1000), entries=10000, needs="keypoints")
    keypoint_head_convs: int = size(
        8, Range(0, 32), needs="keypoints", weights="network", counted_by=r"keypoint_head\.conv(\d+)\.w$"
    )
    keypoint_head_channels: int = size(
        512, CHANNELS, needs="keypoints", weights="network", shown_by=("keypoint_head.conv1.b",)
    )
    keypoint_pool_size: int = size(14, Range(1, 64), needs="keypoints", weights="network")
    keypoint_offset: float = convention(0.5, FRACTION, torchvision=0.0, needs="keypoints")
    keypoint_loss_denominator: Literal["visible", "possible"] = convention(
        "visible", needs="keypoints", others={"possible": "detectron2, if NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS is off"}
    )
    keypoint_decode: Literal["bicubic", "quarter", "argmax"] = convention(
        "bicubic", needs="keypoints", others={"quarter": "hourglass networks", "argmax": "no refinement"}
    )
    keypoint_loss_weight: float = schedule(1.0, Range(0, 1e6), needs="keypoints")


@dataclass(frozen=True)
class LossFields:
    """Losses (``objective.py``).

    Attributes
    ----------
    rpn_smooth_l1_beta : delta units
        Where the proposal network's smooth L1 turns from parabola to line: 1 matterport, 1/9 torchvision, 0 (L1)
        detectron2. [98]
    head_smooth_l1_beta : delta units
        The same for the box head: 1 matterport, 1/9 torchvision, 0 detectron2. [98]
    box_loss_denominator : "positives" or "sampled"
        Box losses are the mean over the positives' deltas (matterport), or the sum divided by all sampled anchors or
        RoIs (torchvision). detectron2 divides its two RPN losses by 256 per image, which is the same unless fewer
        anchors could be sampled. [99]
    class_loss_active_only : bool
        RoIs predicted as a class that the image's data set does not annotate carry no class loss (matterport). [100]
    active_classes : "own" or "first"
        Whose annotated classes these are: each image's own, or the first image's for the whole batch (matterport).
        [100]
    loss_weights : 5 numbers
        Of rpn_class, rpn_box, head_class, head_box, head_mask: ones in all three. [97]
    """

    rpn_smooth_l1_beta: float = convention(1.0 / 9.0, Range(0, 1000), matterport=1.0, detectron2=0.0)
    head_smooth_l1_beta: float = convention(1.0 / 9.0, Range(0, 1000), matterport=1.0, detectron2=0.0)
    box_loss_denominator: Literal["positives", "sampled"] = convention("sampled", matterport="positives")
    class_loss_active_only: bool = convention(False, matterport=True)
    active_classes: Literal["own", "first"] = convention("own", matterport="first")
    loss_weights: tuple[float, float, float, float, float] = schedule((1.0, 1.0, 1.0, 1.0, 1.0), Range(0, 1e6))


@dataclass(frozen=True)
class DetectionFields:
    """Detections (``detections.py``).

    Attributes
    ----------
    detection_classes : "argmax" or "all"
        Each RoI stands for its best class only (matterport), or for every class above the threshold (torchvision,
        detectron2). [85]
    detection_score_threshold : probability
        0.7 matterport, 0.05 torchvision and detectron2. [85]
    detection_score_inclusive : bool
        Keep a score equal to the threshold (matterport; the others ask for more). [85]
    detection_nms_iou : fraction
        NMS per class: 0.3 matterport, 0.5 torchvision and detectron2. [85]
    detection_nms_per_class : bool
        A detection suppresses those of its own class only, so that an object may be found under two names (all three).
        False: of those that overlap the best is kept, whatever its class.
    detections_per_image : boxes
        Best ones that are kept: 100 in all three. [85, 86]
    detection_min_size : molded pixels or None
        Boxes with a shorter side are dropped before NMS: 1e-2 torchvision. 0 drops only boxes without area
        (detectron2), None not even those (matterport).
    detection_rounded : bool
        Final boxes are whole pixels of the original image (matterport).
    mask_paste : "resize", "resize_zero", "plus_one" or "grid_sample"
        How an m x m mask becomes pixels. "resize": to the box rounded to whole pixels. "resize_zero": the same with 0
        beyond the mask's edge (matterport). "plus_one": the box's last pixel counts, and the mask gets a border of one
        (torchvision). "grid_sample": every pixel centre is mapped back exactly (detectron2). [87, 88]
    mask_threshold : probability
        Pixels from it on belong to the mask: 0.5 matterport and detectron2; torchvision returns probabilities. [87]
    """

    detection_classes: Literal["argmax", "all"] = convention("all", matterport="argmax")
    detection_score_threshold: float = convention(0.05, FRACTION, matterport=0.7)
    detection_score_inclusive: bool = convention(False, matterport=True)
    detection_nms_iou: float = convention(0.5, FRACTION, matterport=0.3)
    detection_nms_per_class: bool = convention(True)
    detections_per_image: int = convention(100, COUNT)
    detection_min_size: float | None = convention(0.0, Range(0, 1e5), matterport=None, torchvision=0.01)
    detection_rounded: bool = convention(False, matterport=True)
    mask_paste: Literal["resize", "resize_zero", "plus_one", "grid_sample"] = convention(
        "grid_sample", matterport="resize_zero", torchvision="plus_one"
    )
    mask_threshold: float = convention(0.5, FRACTION)


@dataclass(frozen=True)
class TrainingFields:
    """Training (``training/``). The presets leave most of it at the values below, which are detectron2's.

    Attributes
    ----------
    learning_rate : per step, after warm-up
        0.001 matterport, 0.02 torchvision's reference scripts and detectron2 (for 16 images a step).
    momentum : fraction
        0.9 in all three. PyTorch's form, ``v = momentum v + g``.
    weight_decay : per step
        1e-4 in all three.
    weight_decay_on : "sum" or "mean"
        The penalty is weight_decay / 2 times the sum of squares (torchvision, detectron2), or weight_decay times each
        tensor's mean square (matterport), which decays a large tensor hardly at all.
    no_decay : parameter names
        fnmatch patterns of tensors without weight decay. matterport leaves out gamma and beta only.
    frozen : parameter names
        fnmatch patterns of tensors that stay as they are, running statistics too. torchvision and detectron2 freeze the
        stem, C2 and every batch norm of pre-trained backbones (``training/freezing.py``).
    clip_norm : L2 norm or None
        All gradients together are scaled down to it: 5 in matterport (Keras 2.0; newer ones take each tensor by
        itself), None in torchvision and detectron2.
    batch_size : images per step
        2 in matterport and torchvision's scripts (per GPU), 16 in detectron2.
    accumulate : batches per step
        From so many batches, one after the other, a step's gradients are summed up: those of one batch of all their
        images, in the memory of one (``training/accumulate.py``). None of the three does that by itself.
    steps : steps
        90000 is detectron2's 1x schedule.
    warmup_steps : steps
        The rate rises linearly over them: 1000 in torchvision and detectron2, none in matterport.
    warmup_factor : fraction
        Of the rate at step 0: 0.001 in torchvision and detectron2.
    decay : "stairs" or "cosine"
        How the rate falls after the warm-up: at the steps of decay_at, or along half a cosine that ends at 0 after the
        last step, for which decay_at and decay_factor mean nothing (detectron2's WarmupCosineLR).
    decay_at : fractions of steps
        After each, the rate is multiplied by decay_factor: 60000 and 80000 of 90000 in detectron2.
    decay_factor : fraction
        0.1 in torchvision and detectron2.
    flip : probability
        Of a horizontal flip: 0.5 in torchvision and detectron2; matterport leaves it to the user.
    flip_vertical : probability
        Of turning top and bottom over, for pictures without an above, as of a microscope or a satellite.
    quarter_turns : probability
        Of a turn by 90, 180 or 270 degrees, each a third of it; height and width change places with the first and last.
    scale_jitter : (low, high)
        Training images are scaled by a factor drawn from this range, then cropped or padded to their old size. The
        frameworks draw ``image_min_size`` instead, if anything.
    crop : (low, high)
        A window is cut out of each training image before that; its height and its width are shares of the image's,
        drawn from this range, its place is drawn, too. The cut brings the network nearer, because it is resized to the
        training size. (1, 1) leaves the image whole.
    colour_jitter : 3 numbers
        How far brightness, contrast and saturation may move: each is multiplied by a factor from 1 - x to 1 + x.
    """

    learning_rate: float = schedule(0.02, Range(0, 1000), matterport=0.001)
    momentum: float = schedule(0.9, FRACTION)
    weight_decay: float = schedule(1e-4, Range(0, 1000))
    weight_decay_on: Literal["sum", "mean"] = schedule("sum", matterport="mean")
    no_decay: tuple[str, ...] = schedule(("*.b", "*.gamma", "*.beta"), matterport=("*.gamma", "*.beta"), entries=1000)
    frozen: tuple[str, ...] = schedule((), entries=1000)
    clip_norm: float | None = schedule(None, Range(0, 1e9, above=True), matterport=5.0)
    batch_size: int = schedule(2, Range(1, 4096))
    accumulate: int = schedule(1, Range(1, 4096))
    steps: int = schedule(90000, STEPS)
    warmup_steps: int = schedule(1000, STEPS, matterport=0)
    warmup_factor: float = schedule(0.001, Range(0, 10))
    decay: Literal["stairs", "cosine"] = schedule("stairs")
    decay_at: tuple[float, ...] = schedule((2.0 / 3.0, 8.0 / 9.0), Range(0, 10))
    decay_factor: float = schedule(0.1, Range(0, 10))
    flip: float = schedule(0.5, FRACTION)
    flip_vertical: float = schedule(0.0, FRACTION)
    quarter_turns: float = schedule(0.0, FRACTION)
    # an image enlarged beyond that, before it is cropped, may fill the memory
    scale_jitter: tuple[float, float] = schedule((1.0, 1.0), Range(0, 10, above=True, words="0 < low <= high <= 10"))
    crop: tuple[float, float] = schedule((1.0, 1.0), Range(0, 1, above=True, words="0 < low <= high <= 1"))
    colour_jitter: tuple[float, float, float] = schedule((0.0, 0.0, 0.0), FRACTION)
