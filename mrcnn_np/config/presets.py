"""The presets: complete configurations by name.

What a framework has stands beside each field, in ``config/fields.py``; ``mrcnn-np conventions --list`` prints it. Only
our own networks are written out here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ConfigError, did_you_mean
from .checks import shown
from .config import BY_NAME, DECLARATIONS, Config


def __getattr__(name: str) -> Any:
    """Suggest a preset in the place of a name that is none."""
    raise AttributeError(
        f"there is no preset {name!r}; expected one of {', '.join(PRESETS)}{did_you_mean(name, PRESETS)}"
    )


def tiny(num_classes: int = 4, **changes: Any) -> Config:
    """Return a small network for 128-pixel images that trains on a laptop in minutes (default: shapes' 3 classes)."""
    config = Config(
        name="tiny",
        num_classes=num_classes,
        resize_mode="square",
        image_min_size=128,
        image_max_size=128,
        pad_position="bottom_right",
        mask_resize="exact",
        pixel_scale=255.0,
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.25, 0.25, 0.25),
        backbone="tiny",
        bn_mode="train",
        fpn_channels=48,
        anchor_sizes=(12.0, 20.0, 32.0, 52.0, 84.0),
        anchor_offset=0.5,
        rpn_channels=48,
        rpn_box_std=(0.1, 0.1, 0.2, 0.2),
        rpn_positive_iou=0.6,
        rpn_anchors_per_image=128,
        proposals_pre_nms_train=300,
        proposals_pre_nms_test=400,
        proposals_post_nms_train=200,
        proposals_post_nms_test=200,
        roi_canonical_size=56.0,
        roi_aligned=True,
        rois_per_image=48,
        box_head_channels=256,
        mask_head_convs=2,
        mask_head_channels=48,
        box_loss_denominator="positives",
        rpn_smooth_l1_beta=1.0,
        head_smooth_l1_beta=1.0,
        detection_nms_iou=0.4,
        detections_per_image=50,
        learning_rate=0.05,
        clip_norm=5.0,
        batch_size=8,
        steps=1500,
        warmup_steps=50,
        warmup_factor=0.05,
        decay_at=(0.7, 0.9),
    )
    return config.replace(**changes)


def small(num_classes: int = 21, **changes: Any) -> Config:
    """Return the tiny network a size larger, for 256-pixel photographs (default: Pascal VOC's 20 classes)."""
    config = tiny(
        num_classes=num_classes,
        name="small",
        image_min_size=256,
        image_max_size=256,
        backbone="small",
        fpn_channels=64,
        anchor_sizes=(16.0, 32.0, 64.0, 112.0, 184.0),
        rpn_channels=64,
        proposals_pre_nms_train=400,
        proposals_post_nms_train=300,
        proposals_post_nms_test=300,
        roi_canonical_size=112.0,
        rois_per_image=64,
        box_head_channels=256,
        mask_head_channels=64,
        detections_per_image=100,
        batch_size=4,
        steps=3000,
    )
    return config.replace(**changes)


def tiny_c4(num_classes: int = 4, **changes: Any) -> Config:
    """Return the tiny network without a pyramid: all is read from C4, and C5 runs on each RoI.

    Its anchors are those of ``tiny``, all of them on the one map, so that the two differ in the pyramid alone.
    """
    config = tiny(
        num_classes=num_classes,
        name="tiny_c4",
        neck="none",
        anchor_strides=(16,),
        box_head="c5",
        box_pool_size=14,
        mask_pool_size=7,
        mask_head_convs=0,
    )
    return config.replace(**changes)


def matterport(num_classes: int = 81, **changes: Any) -> Config:
    """Return what the Keras implementation (matterport/Mask_RCNN) computes, by default with ResNet-101.

    Its schedule is the user's (``model.train`` is called stage by stage with a constant rate), so ``steps`` and
    ``decay_at`` are ``Config``'s. Not followed: at most 100 objects per image, drawn at random, enter its training.
    """
    return _answers_of("matterport", num_classes).replace(**changes)


def torchvision(num_classes: int = 91, **changes: Any) -> Config:
    """Return what ``torchvision.models.detection.maskrcnn_resnet50_fpn`` computes.

    Its published COCO weights go with ``bn_eps=0.0``. Not followed: torchvision returns masks as probabilities; here
    they are cut at ``mask_threshold``. The schedule is ``Config``'s, because the model has none.
    """
    return _answers_of("torchvision", num_classes).replace(**changes)


def torchvision_v2(num_classes: int = 91, **changes: Any) -> Config:
    """Return what ``torchvision.models.detection.maskrcnn_resnet50_fpn_v2`` computes.

    It differs in its layers, and in that batch norm learns its statistics in training. What is not followed is that of
    ``torchvision``. Its published weights keep the usual ``bn_eps``; the longer training and its scale jitter, which
    made them, belong to a recipe and not to the model.
    """
    config = torchvision(
        num_classes=num_classes,
        name="torchvision_v2",
        bn_mode="train",
        fpn_norm=True,
        rpn_convs=2,
        box_head="conv_fc",
        mask_head_norm=True,
    )
    return config.replace(**changes)


def detectron2(num_classes: int = 81, **changes: Any) -> Config:
    """Return what detectron2's ``mask_rcnn_R_50_FPN`` model-zoo entries compute (class 0 is background here).

    Not followed: mask targets are cut out of masks, which is detectron2's ``MASK_FORMAT = "bitmask"``; by default it
    rasterises polygons in each RoI. Its RPN losses are divided by 256 for each image, here by the number of sampled
    anchors, which is less only if an image has fewer than 256 to sample. Boxes that clipping leaves without area are
    dropped before NMS, there at the very end.
    """
    return _answers_of("detectron2", num_classes).replace(**changes)


def detectron2_c4(num_classes: int = 81, **changes: Any) -> Config:
    """Return what detectron2's ``mask_rcnn_R_50_C4`` model-zoo entries compute.

    The proposal network and RoIAlign read C4, whose 14 x 14 bins C5 turns into what both heads read. Five anchor sizes
    share that map; more proposals pass NMS, because there is one level only. What is not followed is that of
    ``detectron2``.
    """
    config = detectron2(
        num_classes=num_classes,
        name="detectron2_c4",
        neck="none",
        anchor_strides=(16,),
        rpn_channels=1024,
        proposals_pre_nms_train=12000,
        proposals_pre_nms_test=6000,
        proposals_post_nms_train=2000,
        box_head="c5",
        box_pool_size=14,
        mask_pool_size=7,
        mask_head_convs=0,
    )
    return config.replace(**changes)


def vgg16(num_classes: int = 21, **changes: Any) -> Config:
    """Return the Faster R-CNN of the paper with VGG-16, for Pascal VOC: one map, nine anchors, RoIPool, fc6 and fc7.

    Numbers that the paper does not state are those of its published Python code, py-faster-rcnn, end to end. Not
    followed: dropout behind fc6 and fc7 in training; anchors that stick out of the image are trained like others; RoIs
    below an IoU of 0.1 count as background; anchors' sides rounded before they are scaled (184 x 96 for 181 x 91).
    """
    config = Config(
        name="vgg16",
        num_classes=num_classes,
        image_min_size=600,
        image_max_size=1000,
        channel_order="bgr",
        pixel_scale=1.0,
        pixel_mean=(102.9801, 115.9465, 122.7717),
        pixel_std=(1.0, 1.0, 1.0),
        backbone="vgg16",
        neck="none",
        anchor_sizes=(128.0, 256.0, 512.0),
        anchor_strides=(16,),
        anchor_offset=0.5,
        rpn_channels=512,
        rpn_objectness="softmax",
        max_log_scale=None,
        proposals_pre_nms_train=12000,
        proposals_pre_nms_test=6000,
        proposals_post_nms_train=2000,
        proposals_post_nms_test=300,
        proposals_min_size=16.0,
        roi_method="roi_pool",
        rois_per_image=128,
        box_head_channels=4096,
        mask_branch=False,
        head_smooth_l1_beta=1.0,
        detection_nms_iou=0.3,
        learning_rate=0.001,
        weight_decay=5e-4,
        no_decay=("*.b",),
        frozen=("backbone.conv1_*", "backbone.conv2_*"),
        batch_size=1,
        steps=70000,
        warmup_steps=0,
        decay_at=(5.0 / 7.0,),
    )
    return config.replace(**changes)


def _answers_of(framework: str, num_classes: int) -> Config:
    """Return what a framework has: its answers, which stand beside the fields, and else their defaults."""
    answers = {name: d.answers[framework] for name, d in DECLARATIONS.items() if framework in d.answers}
    return Config(framework, num_classes, **answers)


PRESETS: dict[str, Callable[..., Config]] = {
    "tiny": tiny,
    "small": small,
    "matterport": matterport,
    "torchvision": torchvision,
    "torchvision_v2": torchvision_v2,
    "detectron2": detectron2,
    "detectron2_c4": detectron2_c4,
    "tiny_c4": tiny_c4,
    "vgg16": vgg16,
}
BY_NAME.update(PRESETS)


def built_in(framework: str) -> dict[str, Any]:
    """Return the fields for which a framework's code knows one value only, with that value."""
    config = by_name(framework)
    return {name: getattr(config, name) for name, d in DECLARATIONS.items() if framework in d.built_in}


def base(name: str) -> Config:
    """Return the preset called ``name``; for a name that is no preset's, what ``Config`` has without any."""
    return PRESETS[name]() if name in PRESETS else Config(name, num_classes=2)


def by_name(name: str, **changes: Any) -> Config:
    """Return the preset called ``name``; an unknown name is a ``ConfigError`` that lists the known ones."""
    if name not in PRESETS:
        meant = did_you_mean(name, PRESETS)
        raise ConfigError(f"unknown preset {shown(name)}; expected one of {', '.join(PRESETS)}{meant}")
    return PRESETS[name](**changes)
