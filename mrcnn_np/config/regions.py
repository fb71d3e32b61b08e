"""The second half of the configuration, in the order of the data flow: RoIs, heads, losses, detections, training.

Written like ``config/maps.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    roi_canonical_level : 2 to 5
        k0: 4 in all three. [31]
    roi_method : "roi_align" or "crop_and_resize"
        RoIAlign (torchvision, detectron2), or one sample per bin, in coordinates normalised by size - 1 (matterport).
        [6, 15]
    roi_sampling_ratio : samples per bin and axis, or 0
        2 in torchvision, 0 (adaptive: the bin's side in cells, rounded up) in detectron2; "crop_and_resize" always
        takes 1. [24]
    roi_aligned : bool
        Shift by half a cell so that centres of cells lie at i + 0.5: detectron2's correction. torchvision does not.
        With "roi_align" it holds for the mask targets, too. [5, 15]
    roi_reduce : "mean" or "max"
        What becomes of the samples of a bin: their mean in all three; the largest in the walkthrough documents. [6, 7]
    box_pool_size : bins per axis
        What the box head reads: 7 in all three. [26]
    mask_pool_size : bins per axis
        What the mask head reads: 14 in all three; predicted masks and mask targets have twice as many cells. [26, 80]
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

    roi_level_rounding: Literal["floor", "round"] = "floor"
    roi_canonical_size: float = 224.0
    roi_canonical_level: int = 4
    roi_method: Literal["roi_align", "crop_and_resize"] = "roi_align"
    roi_sampling_ratio: int = 2
    roi_aligned: bool = False
    roi_reduce: Literal["mean", "max"] = "mean"
    box_pool_size: int = 7
    mask_pool_size: int = 14
    gt_joins_proposals: bool = True
    rois_per_image: int = 512
    roi_positive_fraction: float = 0.25
    roi_positive_iou: float = 0.5
    roi_negatives: Literal["fill", "ratio"] = "fill"
    rois_padded: bool = False
    mask_target_method: Literal["roi_align", "crop_and_resize"] = "roi_align"
    mask_target_rounded: bool = False


@dataclass(frozen=True)
class HeadFields:
    """The heads (``heads.py``).

    Attributes
    ----------
    box_head : "fc", "conv" or "conv_fc"
        "fc": two fully connected layers (torchvision, detectron2). "conv": a 7x7 and a 1x1 convolution with batch norm
        (matterport). "conv_fc": 3x3 convolutions with batch norm, then one fully connected layer (torchvision's v2).
        [78]
    box_head_convs : layers
        3x3 convolutions of "conv_fc", as wide as the pyramid: 4 in torchvision's v2. The others do not use it.
    box_head_channels : channels
        Of both layers, or of the fully connected one: 1024 in all three. [78]
    head_box_std : 4 numbers, of (dy, dx, log dh, log dw)
        Deltas of the box head are divided by it: (0.1, 0.1, 0.2, 0.2) in all three; torchvision and detectron2 write
        its inverse, weights (10, 10, 5, 5). [59]
    mask_head_convs : layers
        3x3 convolutions before the transposed one: 4 in all three. [79]
    mask_head_channels : channels
        256 in all three. [79]
    mask_head_norm : bool
        Batch norm after each of these convolutions: matterport, whose convolutions keep their bias, and torchvision's
        v2, where they have none, see ``conv_bias``. [79]
    """

    box_head: Literal["fc", "conv", "conv_fc"] = "fc"
    box_head_convs: int = 4
    box_head_channels: int = 1024
    head_box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    mask_head_convs: int = 4
    mask_head_channels: int = 256
    mask_head_norm: bool = False


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

    rpn_smooth_l1_beta: float = 1.0 / 9.0
    head_smooth_l1_beta: float = 1.0 / 9.0
    box_loss_denominator: Literal["positives", "sampled"] = "sampled"
    class_loss_active_only: bool = False
    active_classes: Literal["own", "first"] = "own"
    loss_weights: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)


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

    detection_classes: Literal["argmax", "all"] = "all"
    detection_score_threshold: float = 0.05
    detection_score_inclusive: bool = False
    detection_nms_iou: float = 0.5
    detections_per_image: int = 100
    detection_min_size: float | None = 0.0
    detection_rounded: bool = False
    mask_paste: Literal["resize", "resize_zero", "plus_one", "grid_sample"] = "grid_sample"
    mask_threshold: float = 0.5


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
    steps : steps
        90000 is detectron2's 1x schedule.
    warmup_steps : steps
        The rate rises linearly over them: 1000 in torchvision and detectron2, none in matterport.
    warmup_factor : fraction
        Of the rate at step 0: 0.001 in torchvision and detectron2.
    decay_at : fractions of steps
        After each, the rate is multiplied by decay_factor: 60000 and 80000 of 90000 in detectron2.
    decay_factor : fraction
        0.1 in torchvision and detectron2.
    flip : probability
        Of a horizontal flip: 0.5 in torchvision and detectron2; matterport leaves it to the user.
    scale_jitter : (low, high)
        Training images are scaled by a factor drawn from this range, then cropped or padded to their old size. The
        frameworks draw ``image_min_size`` instead, if anything.
    """

    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    weight_decay_on: Literal["sum", "mean"] = "sum"
    no_decay: tuple[str, ...] = ("*.b", "*.gamma", "*.beta")
    frozen: tuple[str, ...] = ()
    clip_norm: float | None = None
    batch_size: int = 2
    steps: int = 90000
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    decay_at: tuple[float, ...] = (2.0 / 3.0, 8.0 / 9.0)
    decay_factor: float = 0.1
    flip: float = 0.5
    scale_jitter: tuple[float, float] = (1.0, 1.0)
