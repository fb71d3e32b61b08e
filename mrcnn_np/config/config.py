"""All fields of the configuration in one frozen dataclass, which checks them, and reads and writes them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ConfigError
from .fields import (
    AnchorFields,
    BackboneFields,
    DetectionFields,
    HeadFields,
    IdentityFields,
    ImageFields,
    LossFields,
    ProposalFields,
    RoiFields,
    TrainingFields,
)

#: fields that count, measure or divide; the list of checks in Config would be long with these three groups
POSITIVE = (
    "pad_multiple", "pixel_scale", "pixel_std", "mini_mask_shape", "fpn_channels", "anchor_sizes", "anchor_strides",
    "anchor_ratios", "rpn_channels", "rpn_convs", "rpn_box_std", "rpn_anchors_per_image", "proposals_pre_nms_train",
    "proposals_pre_nms_test", "proposals_post_nms_train", "proposals_post_nms_test", "roi_canonical_size",
    "box_pool_size", "mask_pool_size", "rois_per_image", "box_head_channels", "head_box_std", "mask_head_channels",
    "detections_per_image", "batch_size",
)  # fmt: skip
NOT_NEGATIVE = (
    "bn_eps", "proposals_min_size", "roi_sampling_ratio", "box_head_convs", "mask_head_convs", "rpn_smooth_l1_beta",
    "head_smooth_l1_beta", "loss_weights", "detection_min_size", "learning_rate", "weight_decay", "steps",
    "warmup_steps", "warmup_factor", "decay_at", "decay_factor",
)  # fmt: skip
FRACTIONS = (
    "bn_momentum", "rpn_positive_iou", "rpn_negative_iou", "rpn_positive_fraction", "crowd_iou", "proposals_nms_iou",
    "roi_positive_iou", "detection_score_threshold", "detection_nms_iou", "mask_threshold", "momentum", "flip",
)  # fmt: skip


@dataclass(frozen=True)
class Config(
    # dataclasses collect fields from the last base to the first: name and num_classes come first
    TrainingFields, DetectionFields, LossFields, HeadFields, RoiFields,
    ProposalFields, AnchorFields, BackboneFields, ImageFields, IdentityFields,
):  # fmt: skip
    """What the network is and which conventions it follows. Boxes are ``(y1, x1, y2, x2)`` in pixels, half-open.

    Raises
    ------
    ConfigError
        A value is of the wrong type, out of its range, or contradicts another; the message names field, value and what
        was expected.
    """

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
        check_names(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary that JSON can hold and ``from_dict`` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Build a config from ``to_dict``'s output (lists become tuples)."""
        check_names(values)
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
            choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
            expected = " or ".join(repr(c) for c in choices) or Config.__dataclass_fields__[field].type
            raise ConfigError(f"{field} is {value!r}; expected {expected}")


def check_names(names: Iterable[str]) -> None:
    """Reject the first name that is no field, with the most similar one that is."""
    known = list(Config.__dataclass_fields__)
    for name in names:
        if name not in known:
            similar = difflib.get_close_matches(str(name), known, n=1)
            meant = f"; did you mean {similar[0]!r}?" if similar else "; `mrcnn-np conventions --list` shows all fields"
            raise ConfigError(f"unknown config field {name!r}{meant}")


@functools.cache
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
