"""What network a set of parameters belongs to, read off their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backbone import ARCHITECTURES, Architecture
from ..errors import WeightMismatchError

#: fields of the config that are the length of a tensor's last axis
SIZES = (
    ("num_classes", "box_head.class.b"),
    ("fpn_channels", "fpn.lateral2.w"),
    ("rpn_channels", "rpn.conv.b"),
    ("box_head_channels", "box_head.fc1.b"),
    ("mask_head_channels", "mask_head.deconv.b"),
)
#: fields that count the convolutions of these names
COUNTS = (
    ("rpn_convs", r"rpn\.conv(\d*)\.w$"),
    ("box_head_convs", r"box_head\.conv(\d+)\.w$"),
    ("mask_head_convs", r"mask_head\.conv(\d+)\.w$"),
)


def sizes(params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the config fields that names and shapes show: backbone, classes, channels, numbers of convolutions.

    What is missing in the file leaves its field at the preset's value; ``manifest.match`` then reports the tensors.

    Raises
    ------
    WeightMismatchError
        The residual blocks are those of no backbone known here.
    """
    found: dict[str, Any] = {
        field: params[name].shape[-1] for field, name in SIZES if name in params and params[name].ndim
    }
    for field, pattern in COUNTS:
        numbers = [int(m[1] or 1) for name in params if (m := re.match(pattern, name))]
        if numbers:
            found[field] = min(max(numbers), len(params))  # a number in a name may be anything
    return found | {"backbone": backbone_name(params)}


def backbone_name(params: Mapping[str, np.ndarray]) -> str:
    """Return the name in ``ARCHITECTURES`` of the backbone whose tensors these are."""
    blocks = [len({name.split(".")[2] for name in params if name.startswith(f"backbone.c{c}.")}) for c in (2, 3, 4, 5)]
    kind = "bottleneck" if any(name.startswith("backbone.c2.0.conv3.") for name in params) else "basic"
    inner = params.get("backbone.c2.0.conv2.w")
    shape = inner.shape if inner is not None and inner.ndim == 4 else (0, 0, 0, 0)
    stem = params.get("backbone.stem.conv.w")

    def fits(candidate: Architecture) -> bool:
        same = candidate.kind == kind and list(candidate.blocks) == blocks
        kernel = stem is None or stem.shape[0] == candidate.stem_kernel
        return same and kernel and (candidate.width[0] // candidate.groups, candidate.width[0]) == shape[2:]

    for name, candidate in ARCHITECTURES.items():
        if fits(candidate):
            return name
    raise WeightMismatchError(
        f"its backbone has {'-'.join(map(str, blocks))} {kind} blocks whose 3x3 convolutions go from {shape[2]} to "
        f"{shape[3]} channels in C2 (per group); expected one of {', '.join(ARCHITECTURES)}"
    )
