"""An index of symptoms: what one sees when two implementations differ, and which conventions do that.

For each symptom the fields stand in the order in which it is worth trying them.
"""

from __future__ import annotations

from typing import NamedTuple

from ..tables import markdown_table


class Symptom(NamedTuple):
    """One row of the index.

    Attributes
    ----------
    seen : str
        What is wrong, as one would say it.
    fields : tuple of str
        Conventions that do that, the likeliest first.
    apart : str
        How to tell them apart.
    """

    seen: str
    fields: tuple[str, ...]
    apart: str


SYMPTOMS = (
    Symptom(
        "Boxes or masks are off by half a pixel, or by one",
        ("roi_aligned", "box_frame", "detection_rounded", "mask_paste", "stem_pool_padding", "mask_resize"),
        "Small objects most: `roi_aligned`. Coordinates are whole numbers: `detection_rounded`. Only masks: "
        "`mask_paste`, or, all down and to the right after a training on shrunk pictures, `mask_resize`.",
    ),
    Symptom(
        "Everything is shifted the same way",
        ("pad_position", "anchor_offset", "stem_pool_padding", "anchor_stride_from_grid"),
        "By the padding's half: `pad_position`. By half a stride, so more on large objects: `anchor_offset`. More "
        "towards the far edge: `anchor_stride_from_grid`.",
    ),
    Symptom(
        "Colours are swapped: scores fall for red and blue things",
        ("channel_order", "pixel_mean"),
        "The mean has to be in the order of the channels.",
    ),
    Symptom(
        "Activations are many times too large or too small, or overflow",
        ("pixel_scale", "pixel_mean", "pixel_std", "bn_eps"),
        "The first tensor, `molded`, lies within about ±3, or within ±150 where nothing is divided.",
    ),
    Symptom(
        "The molded image has another size or another place",
        ("resize_mode", "image_min_size", "image_max_size", "resize_rounding", "pad_multiple", "pad_position"),
        "A row or column more or less: `resize_rounding`.",
    ),
    Symptom(
        "The molded image differs by some grey levels",
        ("resize_filter", "resize_truncated", "resize_border", "pad_before_normalise"),
        "All over, when the image shrinks: `resize_filter`. By less than one level: `resize_truncated`. At its rim: "
        "`resize_border`. In the padding: `pad_before_normalise`.",
    ),
    Symptom(
        "Only objects at the edge of the image are off",
        ("proposals_window", "pad_before_normalise", "resize_border", "stem_pool_padding"),
        "Boxes reach into the padding: `proposals_window`.",
    ),
    Symptom(
        "Boxes are twice as large, or hardly move from their anchors",
        ("rpn_box_std", "head_box_std", "max_log_scale"),
        "Proposals already: `rpn_box_std`. Only detections: `head_box_std`. Only huge ones: `max_log_scale`.",
    ),
    Symptom(
        "Anchors are rotated: wide objects get tall boxes",
        ("anchor_ratio_meaning", "anchor_ratios"),
        "Square objects are found as before.",
    ),
    Symptom(
        "Anchors differ by a pixel or less",
        ("anchor_rounding", "anchor_offset", "anchor_sizes", "anchor_strides"),
        "By up to half a pixel on each side: `anchor_rounding`.",
    ),
    Symptom(
        "Objects of one size are bad, others are fine",
        ("roi_level_rounding", "roi_canonical_size", "roi_canonical_level", "anchor_sizes"),
        "Regions read from the wrong level lose scores and masks; missing anchors lose objects.",
    ),
    Symptom(
        "Scores are too low, boxes nearly right",
        ("bn_eps", "roi_method", "roi_sampling_ratio", "roi_reduce", "roi_aligned", "stride_in_1x1", "channel_order"),
        "torchvision's published weights want `bn_eps=0`. The first tensor that differs tells: `c1` `bn_eps`, `c3` "
        "`stride_in_1x1`, `box_features` the others.",
    ),
    Symptom(
        "Objects are missing, or there are far more",
        (
            "detection_score_threshold", "detection_nms_iou", "detections_per_image", "detection_classes",
            "detection_min_size", "detection_score_inclusive", "detection_nms_per_class",
        ),
        "One region stands for one class only: `detection_classes`. Neighbours vanish: `detection_nms_iou`. One object "
        "is found under two names: `detection_nms_per_class`.",
    ),
    Symptom(
        "There are fewer or other proposals",
        (
            "proposals_per_level", "proposals_pre_nms_test", "proposals_post_nms_test", "proposals_nms_iou",
            "proposals_min_size", "proposals_window",
        ),
        "All levels compete for the same places: `proposals_per_level`.",
    ),
    Symptom(
        "Masks are one pixel too large or too small, boxes are right",
        ("mask_paste", "mask_threshold", "detection_rounded"),
        "Cut straight at the box: `mask_paste` without its border.",
    ),
    Symptom(
        "A box loss is several times as large: 10 times is nothing strange",
        ("box_loss_denominator", "rpn_smooth_l1_beta", "head_smooth_l1_beta", "rpn_box_std", "head_box_std"),
        "By the share of positives: `box_loss_denominator`. Most for small errors: the betas. By their ratio or its "
        "square: the deviations.",
    ),
    Symptom(
        "The losses of the proposal network differ, its outputs do not",
        (
            "rpn_match_best", "rpn_best_ties", "rpn_positive_iou", "rpn_negative_iou", "rpn_anchors_per_image",
            "rpn_positive_fraction", "crowd_iou", "rpn_objectness", "gt_boxes_from_masks",
        ),
        "Count positive and negative anchors on both sides.",
    ),
    Symptom(
        "The losses of the heads differ",
        (
            "gt_joins_proposals", "rois_per_image", "roi_positive_fraction", "roi_positive_iou", "roi_negatives",
            "rois_padded", "class_loss_active_only", "active_classes", "proposals_pre_nms_train",
            "proposals_post_nms_train", "gt_boxes_from_masks",
        ),
        "Count positive and negative regions on both sides; if they are the same, it is the classes that count.",
    ),
    Symptom(
        "Only the mask loss differs",
        ("mask_target_method", "mask_target_rounded", "mini_mask_shape", "mask_resize"),
        "Targets hold fractions: `mask_target_rounded`. Edges are blurred: `mini_mask_shape`.",
    ),
    Symptom(
        "Keypoints are off by half a pixel, or their loss is of another size",
        ("keypoint_offset", "keypoint_decode", "keypoint_loss_denominator"),
        "All the same way: `keypoint_offset`. Only to the nearest cell of the map: `keypoint_decode`.",
    ),
    Symptom(
        "The first step agrees, later ones drift apart",
        (
            "bn_mode", "bn_momentum", "weight_decay_on", "no_decay", "weight_decay", "momentum", "clip_norm",
            "warmup_steps", "warmup_factor", "frozen",
        ),
        "The norm of the weights falls faster on one side: decay. A jump where gradients are large: `clip_norm`.",
    ),
    Symptom(
        "Weights do not fit: names or shapes",
        (
            "conv_bias", "box_head", "mask_head_norm", "fpn_norm", "norm", "rpn_objectness", "rpn_convs", "backbone",
            "num_classes",
        ),
        "`mrcnn-np weights info FILE` says what a file holds; `model.with_config` rewrites where nothing is lost.",
    ),
)  # fmt: skip


def markdown_index() -> str:
    """Write the index as a table in Markdown."""
    head = ("what one sees", "fields, the likeliest first", "how to tell them apart")
    rows = [(s.seen, ", ".join(f"`{field}`" for field in s.fields), s.apart) for s in SYMPTOMS]
    return markdown_table(head, rows) + "\n"
