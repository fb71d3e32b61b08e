"""Every convention on which Mask R-CNN implementations differ, as one frozen dataclass; presets that fill it in.

A *preset* is one complete set of answers: ``presets.torchvision()`` is what torchvision computes,
``presets.matterport()`` what the Keras code computes, ``presets.detectron2()`` what detectron2 computes, and
``presets.tiny()`` is a small network that trains on a laptop. No operation asks which preset it runs under: it is
handed the field it needs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ConfigError

LOG_1000_16 = math.log(1000.0 / 16.0)  # 4.135166: a decoded side is at most 62.5 times its anchor's

#: fields that count, measure or divide; the list of checks in Config would be long with these three groups
POSITIVE = (
    "pad_multiple", "pixel_scale", "pixel_std", "mini_mask_shape", "fpn_channels", "anchor_sizes", "anchor_strides",
    "anchor_ratios", "rpn_channels", "rpn_box_std", "rpn_anchors_per_image", "proposals_pre_nms_train",
    "proposals_pre_nms_test", "proposals_post_nms_train", "proposals_post_nms_test", "roi_canonical_size",
    "box_pool_size", "mask_pool_size", "rois_per_image", "box_head_channels", "head_box_std", "mask_head_channels",
    "detections_per_image", "batch_size",
)  # fmt: skip
NOT_NEGATIVE = (
    "bn_eps", "proposals_min_size", "roi_sampling_ratio", "mask_head_convs", "rpn_smooth_l1_beta",
    "head_smooth_l1_beta", "loss_weights", "detection_min_size", "learning_rate", "weight_decay", "steps",
    "warmup_steps", "warmup_factor", "decay_at", "decay_factor",
)  # fmt: skip
FRACTIONS = (
    "bn_momentum", "rpn_positive_iou", "rpn_negative_iou", "rpn_positive_fraction", "crowd_iou", "proposals_nms_iou",
    "roi_positive_iou", "detection_score_threshold", "detection_nms_iou", "mask_threshold", "momentum", "flip",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What the network is and which conventions it follows. Boxes are ``(y1, x1, y2, x2)`` in pixels, half-open."""

    name: str
    #: classes including background, which is class 0
    num_classes: int

    # --- image -> molded input (molding.py) ---
    #: "square": scale to fit a max_size square, then pad to it (matterport). "shortest_edge": short side to
    #: min_size unless the long side would pass max_size; pad to a multiple of pad_multiple (torchvision, detectron2).
    resize_mode: Literal["square", "shortest_edge"] = "shortest_edge"
    image_min_size: int = 800
    image_max_size: int = 1333
    pad_multiple: int = 32
    #: the resized sides, in pixels: torchvision rounds down, the others to the nearest ("square" always does)
    resize_rounding: Literal["floor", "nearest"] = "nearest"
    #: where the image sits in its padding: matterport centres it, the others pad at the bottom and right
    pad_position: Literal["centre", "bottom_right"] = "bottom_right"
    #: matterport pads with black pixels and then subtracts the mean; the others pad with zeros afterwards
    pad_before_normalise: bool = False
    #: "bilinear" interpolates 4 neighbours in float; "pil" (detectron2) low-passes when shrinking and works on uint8
    resize_filter: Literal["bilinear", "pil"] = "bilinear"
    #: what bilinear interpolation finds beyond the edge of an image or a mini mask: the edge again, or 0 (matterport)
    resize_border: Literal["edge", "zero"] = "edge"
    #: cut the resized image off to whole grey levels, because it goes back to uint8 (matterport)
    resize_truncated: bool = False
    #: ground-truth masks are resized by the nearest cell with the edges of both grids aligned, or the centres of
    #: their first and last cells (matterport: scipy.ndimage.zoom)
    mask_resize: Literal["edges", "centres"] = "edges"
    #: ground-truth boxes enclose the resized masks, and objects whose mask vanished are dropped (matterport); or they
    #: are the annotated boxes, scaled
    gt_boxes_from_masks: bool = False
    #: detectron2's model zoo was trained on BGR images
    channel_order: Literal["rgb", "bgr"] = "rgb"
    #: input = (pixel / pixel_scale - pixel_mean) / pixel_std, in channel_order
    pixel_scale: float = 255.0
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    #: keep each ground-truth mask only inside its box, resized to this shape (matterport's USE_MINI_MASK); None: whole
    mini_mask_shape: tuple[int, int] | None = None

    # --- backbone and pyramid (backbone.py, fpn.py) ---
    backbone: str = "resnet50"
    #: a down-sampling bottleneck strides its first 1x1 (original, caffe, matterport) or its 3x3 (torchvision)
    stride_in_1x1: bool = False
    #: matterport's convolutions before batch norm have a bias, which the norm makes redundant
    conv_bias: bool = False
    #: "frozen": running statistics are constants. "train": batch statistics in losses(), running ones in detect()
    bn_mode: Literal["frozen", "train"] = "frozen"
    bn_eps: float = 1e-5
    #: running = (1 - momentum) * running + momentum * batch
    bn_momentum: float = 0.1
    #: the stem's 3x3 max pool pads one pixel on each side, or TensorFlow's SAME (bottom and right only on even sizes)
    stem_pool_padding: Literal["one", "same"] = "one"
    fpn_channels: int = 256

    # --- anchors (anchors.py) ---
    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    anchor_strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    #: torchvision divides the padded image by the map: 800 rows over 13 cells give 61, not 64
    anchor_stride_from_grid: bool = False
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    #: what 0.5 means: a wide anchor (height/width, torchvision, detectron2) or a tall one (width/height, matterport)
    anchor_ratio_meaning: Literal["height_over_width", "width_over_height"] = "height_over_width"
    #: torchvision rounds half-sizes to whole pixels: 181x91 becomes 182x90
    anchor_rounding: bool = False
    #: centre of cell i: (i + offset) * stride; 0 in all three frameworks, 0.5 is the cell's centre
    anchor_offset: float = 0.0

    # --- boxes (boxes.py) ---
    #: what proposals, RoIs and detections are measured, moved and compared between: "edges", side = x2 - x1, or
    #: "centres" of their first and last pixels, side = x2 - 1 - x1 (matterport, whose normalised coordinates divide
    #: that by the image's side - 1). Anchors and their targets are measured between edges in all frameworks
    box_frame: Literal["edges", "centres"] = "edges"

    # --- region proposal network (rpn.py, targets.py, proposals.py) ---
    rpn_channels: int = 256
    #: two softmax logits per anchor (matterport) or one sigmoid logit
    rpn_objectness: Literal["softmax", "sigmoid"] = "sigmoid"
    #: deltas are divided by this when encoded: (dy, dx, log dh, log dw)
    rpn_box_std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    #: log dh and log dw are clamped here before exp; None: not at all (matterport)
    max_log_scale: float | None = LOG_1000_16
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_anchors_per_image: int = 256
    rpn_positive_fraction: float = 0.5
    #: a negative may overlap no crowd region by this IoU or more; None: crowd regions are dropped before training
    crowd_iou: float | None = None
    proposals_pre_nms_train: int = 2000
    proposals_pre_nms_test: int = 1000
    proposals_post_nms_train: int = 2000
    proposals_post_nms_test: int = 1000
    proposals_nms_iou: float = 0.7
    #: top-k and NMS level by level (torchvision, detectron2) or over all anchors at once (matterport)
    proposals_per_level: bool = True
    #: proposals with a side below this many pixels are dropped (torchvision 1e-3), or without area (0); None: none are
    proposals_min_size: float | None = 1e-3
    #: proposals are clipped to the image, or to the whole canvas with its padding (matterport)
    proposals_window: Literal["image", "canvas"] = "image"

    # --- regions of interest (pyramid.py, targets.py) ---
    roi_level_rounding: Literal["floor", "round"] = "floor"
    roi_canonical_size: float = 224.0
    roi_canonical_level: int = 4
    #: "crop_and_resize": one sample per bin, coordinates normalised by size - 1 (matterport)
    roi_method: Literal["roi_align", "crop_and_resize"] = "roi_align"
    #: samples per bin and axis; 0 adapts: ceil(bin size)
    roi_sampling_ratio: int = 2
    #: shift by half a pixel so that pixel centres lie at i + 0.5 (detectron2's correction)
    roi_aligned: bool = False
    roi_reduce: Literal["mean", "max"] = "mean"
    box_pool_size: int = 7
    mask_pool_size: int = 14
    #: ground-truth boxes join the proposals before sampling (torchvision, detectron2)
    gt_joins_proposals: bool = True
    rois_per_image: int = 512
    roi_positive_fraction: float = 0.25
    roi_positive_iou: float = 0.5
    #: negatives "fill" the batch, or keep the positive:negative "ratio" and leave it short (matterport)
    roi_negatives: Literal["fill", "ratio"] = "fill"
    #: fill a short batch up with RoIs of the image's first pixel, which count as background (matterport)
    rois_padded: bool = False
    #: how a ground-truth mask is brought into a RoI's frame
    mask_target_method: Literal["roi_align", "crop_and_resize"] = "roi_align"
    #: threshold the target at 0.5 (matterport, detectron2) or keep the fractions (torchvision)
    mask_target_rounded: bool = False

    # --- heads (heads.py) ---
    #: "fc": two fully connected layers. "conv": a 7x7 and a 1x1 convolution with batch norm (matterport)
    box_head: Literal["fc", "conv"] = "fc"
    box_head_channels: int = 1024
    head_box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    mask_head_convs: int = 4
    mask_head_channels: int = 256
    #: batch norm after each mask convolution (matterport)
    mask_head_norm: bool = False

    # --- losses (objective.py) ---
    #: where smooth L1 turns from parabola to line: 1 matterport, 1/9 torchvision, 0 (plain L1) detectron2
    rpn_smooth_l1_beta: float = 1.0 / 9.0
    head_smooth_l1_beta: float = 1.0 / 9.0
    #: box losses: "positives" = mean over positive deltas (matterport), "sampled" = sum / all sampled
    box_loss_denominator: Literal["positives", "sampled"] = "sampled"
    #: RoIs predicted as a class that the image's data set does not annotate carry no class loss (matterport)
    class_loss_active_only: bool = False
    #: whose annotated classes these are: each image's own, or the first image's for the whole batch (matterport)
    active_classes: Literal["own", "first"] = "own"
    #: weights of rpn_class, rpn_box, head_class, head_box, head_mask
    loss_weights: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)

    # --- detections (detections.py) ---
    #: each RoI stands for its best class only (matterport), or for every class above the threshold
    detection_classes: Literal["argmax", "all"] = "all"
    detection_score_threshold: float = 0.05
    #: keep a score equal to the threshold (matterport)
    detection_score_inclusive: bool = False
    detection_nms_iou: float = 0.5
    detections_per_image: int = 100
    #: detections with a side below this many molded pixels are dropped (torchvision 1e-2), or without area (0);
    #: None: none are (matterport)
    detection_min_size: float | None = 0.0
    #: final boxes are whole pixels of the original image (matterport)
    detection_rounded: bool = False
    #: "resize": mask to the box rounded to pixels. "resize_zero": the same with 0 beyond the mask's edge (matterport).
    #: "plus_one": the box's last pixel counts, and the mask is padded by one (torchvision). "grid_sample": every pixel
    #: centre is mapped back exactly (detectron2)
    mask_paste: Literal["resize", "resize_zero", "plus_one", "grid_sample"] = "grid_sample"
    mask_threshold: float = 0.5

    # --- training (optim.py, train.py) ---
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: the penalty is weight_decay / 2 times the sum of squares, or weight_decay times each tensor's mean square, which
    #: decays a large tensor hardly at all (matterport)
    weight_decay_on: Literal["sum", "mean"] = "sum"
    #: parameter names (fnmatch patterns) without weight decay
    no_decay: tuple[str, ...] = ("*.b", "*.gamma", "*.beta")
    #: parameter names (fnmatch patterns) that are not trained
    frozen: tuple[str, ...] = ()
    #: gradients are scaled down to this global L2 norm; None: never
    clip_norm: float | None = None
    batch_size: int = 2
    steps: int = 90000
    warmup_steps: int = 1000
    #: the rate starts at this fraction and rises linearly over warmup_steps
    warmup_factor: float = 0.001
    #: fractions of steps after which the rate is multiplied by decay_factor
    decay_at: tuple[float, ...] = (2.0 / 3.0, 8.0 / 9.0)
    decay_factor: float = 0.1
    #: probability of a horizontal flip
    flip: float = 0.5
    #: training images are scaled by a factor drawn from this range, then cropped or padded to their old size
    scale_jitter: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        _check_types(self)
        checks = [
            (self.num_classes >= 2, "num_classes", "at least 2 (background and one class)"),
            (0 < self.image_min_size <= self.image_max_size, "image_min_size", "between 1 and image_max_size"),
            (len(self.anchor_sizes) == 5, "anchor_sizes", "5 sizes, one for each of P2..P6"),
            (len(self.anchor_strides) == 5, "anchor_strides", "5 strides, one for each of P2..P6"),
            (self.pad_multiple % 32 == 0, "pad_multiple", "a multiple of 32, the stride of C5"),
            (self.resize_mode != "square" or self.image_max_size % 32 == 0, "image_max_size", "a multiple of 32"),
            (self.rpn_negative_iou <= self.rpn_positive_iou, "rpn_negative_iou", "at most rpn_positive_iou"),
            (0 < self.roi_positive_fraction <= 1, "roi_positive_fraction", "in (0, 1]"),
            (len(self.anchor_ratios) >= 1, "anchor_ratios", "at least one"),
            (self.clip_norm is None or self.clip_norm > 0, "clip_norm", "positive, or none"),
            # an image enlarged beyond that, before it is cropped, may fill the memory
            (0 < self.scale_jitter[0] <= self.scale_jitter[1] <= 10, "scale_jitter", "0 < low <= high <= 10"),
        ]
        for field in (*POSITIVE, *NOT_NEGATIVE, *FRACTIONS):
            value = getattr(self, field)
            numbers = [v for v in (value if isinstance(value, tuple) else (value,)) if v is not None]
            if field in POSITIVE:
                checks.append((all(v > 0 for v in numbers), field, "positive"))
            elif field in NOT_NEGATIVE:
                checks.append((all(v >= 0 for v in numbers), field, "0 or more"))
            else:
                checks.append((all(0 <= v <= 1 for v in numbers), field, "in [0, 1]"))
        for holds, field, expected in checks:
            if not holds:
                raise ConfigError(f"{field} is {getattr(self, field)!r}; expected {expected}")

    def replace(self, **changes: Any) -> Config:
        """Return a copy with some fields changed; an unknown field is a ``ConfigError``."""
        unknown = sorted(set(changes) - {f.name for f in dataclasses.fields(self)})
        if unknown:
            raise ConfigError(f"unknown config field {unknown[0]!r}; the fields are documented in mrcnn_np/config.py")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary that JSON can hold and ``from_dict`` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Build a config from ``to_dict``'s output (lists become tuples)."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(f"unknown config field {key!r}; the fields are documented in mrcnn_np/config.py")
        try:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"incomplete config: {error}") from error

    def with_overrides(self, assignments: list[str]) -> Config:
        """Apply ``field=value`` strings from the command line; values are JSON, or bare words for strings."""
        changes: dict[str, Any] = {}
        for text in assignments:
            field, separator, value = text.partition("=")
            if not separator:
                raise ConfigError(f"config override {text!r} is not of the form field=value")
            try:
                parsed = json.loads(value)
            except (ValueError, RecursionError):  # no JSON, a number of 5000 digits, 5000 brackets
                parsed = None if value.lower() == "none" else value
            changes[field.strip()] = tuple(parsed) if isinstance(parsed, list) else parsed
        return self.replace(**changes)


def _check_types(config: Config) -> None:
    """Reject a value whose type is not the field's, with the field's name in the message."""
    for field, hint in _hints().items():
        value = getattr(config, field)
        if not _fits(value, hint):
            expected = getattr(Config.__dataclass_fields__[field], "type", hint)
            raise ConfigError(f"{field} is {value!r}; expected {expected}")


def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Config)


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return len(inner) == len(value) and all(_fits(v, a) for v, a in zip(value, inner))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


from . import presets  # noqa: E402, F401  (last, because the presets are made of the Config above)
