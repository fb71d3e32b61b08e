"""All fields of the configuration in one frozen dataclass, which checks them, and reads and writes them."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, did_you_mean
from .checks import check_range, check_type, require_list, shown
from .declare import KEY, Declaration
from .fields import (
    BACKBONES,
    VGGS,
    AnchorFields,
    BackboneFields,
    DetectionFields,
    HeadFields,
    IdentityFields,
    ImageFields,
    KeypointFields,
    LossFields,
    ProposalFields,
    RoiFields,
    TrainingFields,
)


@dataclass(frozen=True)
class Config(
    # dataclasses collect fields from the last base to the first: name and num_classes come first
    TrainingFields, DetectionFields, LossFields, KeypointFields, HeadFields, RoiFields,
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
        """Check types and ranges, then what the fields must be to each other."""
        hints = _hints()
        for name, declaration in DECLARATIONS.items():
            check_type(name, getattr(self, name), hints[name], declaration)
        for name, declaration in DECLARATIONS.items():
            check_range(name, getattr(self, name), hints[name], declaration)
        low, high = self.scale_jitter
        relations = [
            (self.image_min_size <= self.image_max_size, "image_min_size", "between 1 and image_max_size"),
            *self._level_relations(),
            (len(self.anchor_ratios) >= 1, "anchor_ratios", "at least one"),
            (self.pad_multiple % 32 == 0, "pad_multiple", "a multiple of 32, the stride of C5"),
            (self.resize_mode != "square" or self.image_max_size % 32 == 0, "image_max_size", "a multiple of 32"),
            (self.rpn_negative_iou <= self.rpn_positive_iou, "rpn_negative_iou", "at most rpn_positive_iou"),
            (low <= high, "scale_jitter", "0 < low <= high <= 10"),
            (self.crop[0] <= self.crop[1], "crop", "0 < low <= high <= 1"),
            (
                len(self.keypoint_names) in (0, self.keypoints),
                "keypoint_names",
                f"a name for each of the {self.keypoints} keypoints, or none",
            ),
            (
                len(self.keypoint_skeleton) % 2 == 0 and max(self.keypoint_skeleton, default=0) <= self.keypoints,
                "keypoint_skeleton",
                f"pairs of numbers from 1 to {self.keypoints}, the number of keypoints",
            ),
        ]
        if self.backbone not in BACKBONES:
            known, meant = ", ".join(BACKBONES), did_you_mean(self.backbone, BACKBONES)
            raise ConfigError(f"backbone is {shown(self.backbone)}; expected one of {known}{meant}")
        for holds, name, expected in relations:
            if not holds:
                raise ConfigError(f"{name} is {shown(getattr(self, name))}; expected {expected}")

    def _level_relations(self) -> list[tuple[bool, str, str]]:
        """Return what holds of the maps that are read: the pyramid's five, or one at 1/16 of the image."""
        if self.neck == "fpn":
            return [
                (len(self.anchor_sizes) == 5, "anchor_sizes", "5 sizes, one for each of P2..P6"),
                (len(self.anchor_strides) == 5, "anchor_strides", "5 strides, one for each of P2..P6"),
                (self.backbone not in VGGS, "backbone", "a ResNet: a VGG has no pyramid, only neck 'none'"),
                (self.box_head != "c5", "box_head", "another, for the pyramid is made of C5; neck 'none' leaves it"),
            ]
        halved = -(-self.box_pool_size // 2)
        return [
            (len(self.anchor_sizes) >= 1, "anchor_sizes", "at least one size, all for the one map of neck 'none'"),
            (len(self.anchor_strides) == 1, "anchor_strides", "1 stride, that of the one map of neck 'none'"),
            (self.box_head != "c5" or self.backbone not in VGGS, "box_head", "another: a VGG has no C5 stage"),
            (self.box_head != "c5" or not self.keypoints, "keypoints", "0: the box head C5 has none beside it"),
            (
                self.box_head != "c5" or not self.mask_branch or self.mask_pool_size == halved,
                "mask_pool_size", f"{halved}: what C5, the box head, leaves of box_pool_size {self.box_pool_size}",
            ),
        ]  # fmt: skip

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the maps that the proposal network reads."""
        if self.neck == "fpn":
            return ("p2", "p3", "p4", "p5", "p6")
        return ("conv5_3",) if self.backbone in VGGS else ("c4",)

    @property
    def cells(self) -> tuple[int, ...]:
        """Image pixels per cell of each of these maps, whatever the anchors' strides are said to be."""
        return (4, 8, 16, 32, 64) if self.neck == "fpn" else (16,)

    @property
    def sizes_by_level(self) -> tuple[tuple[float, ...], ...]:
        """Sides of the anchors on each of these maps."""
        return tuple((size,) for size in self.anchor_sizes) if self.neck == "fpn" else (self.anchor_sizes,)

    @property
    def anchors_per_cell(self) -> int:
        """Anchors on each cell: as many as ratios, for each size of a level."""
        return len(self.sizes_by_level[0]) * len(self.anchor_ratios)

    def __repr__(self) -> str:
        """Return name, classes, and what differs from the preset of that name: all 100 fields fill a screen."""
        preset = BY_NAME.get(self.name)
        usual = preset(num_classes=self.num_classes) if preset else Config(self.name, self.num_classes)
        changed = [f"{name}={v!r}" for name, v in self.to_dict().items() if v != getattr(usual, name)]
        return f"Config({', '.join([self.name, f'num_classes={self.num_classes}', *changed])})"

    def replace(self, **changes: Any) -> Config:
        """Return a copy with some fields changed; an unknown field is a ``ConfigError``."""
        check_names(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary that JSON can hold and ``from_dict`` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Build a config from ``to_dict``'s output, or from what JSON makes of it (lists become tuples).

        Raises
        ------
        ConfigError
            Whatever else it is: no mapping, names that are no fields, missing ones, values of other types or out of
            their range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"a configuration is {shown(values)}; expected fields with their values")
        check_names(values)
        missing = [name for name in fields_where(lambda d: d.kind == "identity") if name not in values]
        if missing:
            raise ConfigError(f"incomplete config: it lacks {' and '.join(missing)}")
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**fields)

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
                # a word of its own where the field knows no None: neck=none
                nothing = type(None) in typing.get_args(_hints().get(field.strip()))
                parsed = None if value.lower() == "none" and nothing else value
            name, parsed = field.strip(), tuple(parsed) if isinstance(parsed, list) else parsed
            if name in DECLARATIONS:
                require_list(name, parsed, _hints()[name], getattr(self, name))
            changes[name] = parsed
        return self.replace(**changes)


#: the presets by name; ``presets.py``, which makes them, puts them here, so that a configuration knows what it changes
BY_NAME: dict[str, Callable[..., Config]] = {}

#: what is known of each field, in the order of the data flow
DECLARATIONS: dict[str, Declaration] = {field.name: field.metadata[KEY] for field in dataclasses.fields(Config)}


def fields_where(where: Callable[[Declaration], bool]) -> tuple[str, ...]:
    """Return the fields whose declaration is of a kind: ``fields_where(lambda d: d.kind == "size")``."""
    return tuple(name for name, declaration in DECLARATIONS.items() if where(declaration))


def check_names(given: Iterable[str]) -> None:
    """Reject the first name that is no field, with the most similar one that is."""
    for name in given:
        if not isinstance(name, str) or name not in DECLARATIONS:
            meant = did_you_mean(name, DECLARATIONS) or "; `mrcnn-np conventions --list` shows all fields"
            raise ConfigError(f"unknown config field {shown(name)}{meant}")


@functools.cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Config)
