"""Which fields of a configuration the graph follows, and what is refused: no field is passed over in silence."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..config import Config, fields_where
from ..config.config import DECLARATIONS
from ..errors import ConfigError

#: by the file that follows them
FOLLOWED = {
    "molding": (
        "resize_mode", "image_min_size", "image_max_size", "pad_multiple", "resize_rounding", "pad_position",
        "pad_before_normalise", "resize_filter", "resize_border", "resize_truncated", "channel_order", "pixel_scale",
        "pixel_mean", "pixel_std", "detection_rounded",
    ),
    "backbone": ("backbone", "stride_in_1x1", "conv_bias", "bn_eps", "stem_pool_padding"),
    "fpn": ("fpn_channels", "fpn_norm", "norm", "norm_groups"),
    "rpn": ("rpn_channels", "rpn_convs", "rpn_objectness"),
    "anchors": (
        "anchor_sizes", "anchor_strides", "anchor_stride_from_grid", "anchor_ratios", "anchor_ratio_meaning",
        "anchor_rounding", "anchor_offset",
    ),
    "boxes": ("box_frame",),
    "proposals": (
        "rpn_box_std", "max_log_scale", "proposals_pre_nms_test", "proposals_post_nms_test", "proposals_nms_iou",
        "proposals_per_level", "proposals_min_size", "proposals_window",
    ),
    "pyramid": (
        "roi_level_rounding", "roi_canonical_size", "roi_canonical_level", "roi_method", "roi_sampling_ratio",
        "roi_aligned", "roi_reduce",
    ),
    "heads": (
        "num_classes", "box_pool_size", "mask_pool_size", "box_head", "box_head_convs", "box_head_channels",
        "mask_head_convs", "mask_head_channels", "mask_head_norm",
    ),
    "keypoints": (
        "keypoints", "keypoint_head_convs", "keypoint_head_channels", "keypoint_pool_size", "keypoint_decode",
    ),
    "detections": (
        "head_box_std", "detection_classes", "detection_score_threshold", "detection_score_inclusive",
        "detection_nms_iou", "detection_nms_per_class", "detections_per_image", "detection_min_size",
    ),
    "pasting": ("mask_paste", "mask_threshold"),
    "export": ("neck", "mask_branch", "keypoint_offset", "keypoint_names", "keypoint_skeleton"),
}  # fmt: skip

#: what changes only how a network is trained, beside the schedule
TRAINING = (
    "mask_resize", "gt_boxes_from_masks", "mini_mask_shape", "bn_mode", "rpn_positive_iou", "rpn_negative_iou",
    "rpn_match_best", "rpn_best_ties", "rpn_anchors_per_image", "rpn_positive_fraction", "crowd_iou",
    "proposals_pre_nms_train", "proposals_post_nms_train", "gt_joins_proposals", "rois_per_image",
    "roi_positive_fraction", "roi_positive_iou", "roi_negatives", "rois_padded", "mask_target_method",
    "mask_target_rounded", "rpn_smooth_l1_beta", "head_smooth_l1_beta", "box_loss_denominator",
    "class_loss_active_only", "active_classes", "keypoint_loss_denominator",
)  # fmt: skip


def unknown_fields() -> tuple[str, ...]:
    """Return the fields that stand in none of the lists: a graph knows only their defaults."""
    known = {"name", *TRAINING, *(name for names in FOLLOWED.values() for name in names)}
    return tuple(name for name in fields_where(lambda d: d.kind != "schedule") if name not in known)


def require_supported(config: Config) -> None:
    """Refuse what the graph would compute otherwise.

    Raises
    ------
    ConfigError
        The message names the field.
    """
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Config)}
    for name in unknown_fields():
        value, needed = getattr(config, name), DECLARATIONS[name].needs
        if needed and not getattr(config, needed):  # of a branch that the network lacks
            continue
        if value != defaults[name]:
            raise ConfigError(f"{name} is {value!r}; written as ONNX can be a network with {defaults[name]!r} only")
    if config.roi_method == "roi_align" and config.roi_reduce == "max" and config.roi_sampling_ratio == 0:
        raise ConfigError(
            "roi_reduce is 'max' and roi_sampling_ratio 0; written as ONNX the largest of the samples needs their "
            "number, 1 or more: RoIAlign of ONNX takes another maximum"
        )
