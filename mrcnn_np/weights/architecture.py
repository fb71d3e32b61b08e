"""What network a set of parameters belongs to, read off their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Mapping
from typing import Any

import numpy as np

from ..backbone import ARCHITECTURES, Architecture
from ..config import DECLARATIONS, fields_where
from ..errors import WeightMismatchError
from ..vgg import VGGS

#: fields of the config that the tensors of a whole network tell, besides its backbone
SIZES = fields_where(lambda d: bool(d.shown_by or d.counted_by))


def sizes(params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the config fields that names and shapes show: backbone, norm, classes, channels, numbers of convolutions.

    What is missing in the file, or a number that its field cannot have, leaves the field at the preset's value;
    ``manifest.match`` then reports the tensors.

    Raises
    ------
    WeightMismatchError
        The residual blocks are those of no backbone known here, or there are norms of two kinds.
    """
    shapes = {name: a.shape for name, a in params.items()}
    return lengths(shapes) | counts(shapes) | norm_kind(params) | {"backbone": backbone_name(params)}


def lengths(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the config fields that are the length of a tensor's last axis: classes, channels."""
    found = {}
    for field in SIZES:
        tensor = next((name for name in DECLARATIONS[field].shown_by if shapes.get(name)), None)
        if tensor is not None:
            found[field] = int(shapes[tensor][-1])
    return _possible(found)


def counts(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the config fields that count the convolutions of one name."""
    found = {}
    for field in SIZES:
        pattern = DECLARATIONS[field].counted_by
        numbers = [int(m[1] or 1) for name in shapes if pattern and (m := re.match(pattern, name))]
        if numbers:
            found[field] = min(max(numbers), len(shapes))  # a number in a name may be anything
    return _possible(found)


def norm_kind(names: Collection[str]) -> dict[str, str]:
    """Tell the norm by its running statistics, which only batch norm has; nothing if no layer has a norm.

    Without them it is taken for group norm: instance norm looks the same, and no published model has it.

    Raises
    ------
    WeightMismatchError
        One part of the network has running statistics and another has none.
    """
    running: dict[str, bool] = {}
    for name in names:
        layer, _, suffix = name.rpartition(".")
        if suffix == "gamma":
            part = name.partition(".")[0]
            running[part] = running.get(part, False) or f"{layer}.mean" in names or f"{layer}.var" in names
    batch = [part for part, has in running.items() if has]
    without = [part for part in running if part not in batch]
    if batch and without:
        raise WeightMismatchError(
            f"the norms of its {', '.join(batch)} have running statistics, as batch norm has, and those of its "
            f"{', '.join(without)} have none, as group norm; expected one kind of norm in the whole network"
        )
    return {"norm": "batch" if batch else "group"} if running else {}


def normed_layers(names: Container[str]) -> dict[str, Any]:
    """Return the config fields that say where, besides the backbone, norms are."""
    found: dict[str, Any] = {"fpn_norm": "fpn.lateral2.bn.gamma" in names}
    found["mask_head_norm"] = "mask_head.bn1.gamma" in names
    return found | ({"box_head": "conv_fc"} if "box_head.conv1.w" in names else {})


def _possible(found: dict[str, int]) -> dict[str, int]:
    """Leave out numbers that a field cannot have."""
    ranges = {field: DECLARATIONS[field].range for field in found}
    return {field: n for field, n in found.items() if (allowed := ranges[field]) is None or n in allowed}


def backbone_name(params: Mapping[str, np.ndarray]) -> str:
    """Return the name in ``ARCHITECTURES`` or ``VGGS`` of the backbone whose tensors these are."""
    if any(name.startswith("backbone.conv1_") for name in params):
        return _vgg_name(params)
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


def _vgg_name(params: Mapping[str, np.ndarray]) -> str:
    found = tuple(
        sum(name.startswith(f"backbone.conv{stage}_") and name.endswith(".w") for name in params)
        for stage in (1, 2, 3, 4, 5)
    )
    first = params.get("backbone.conv1_1.w")
    width = first.shape[-1] if first is not None and first.ndim == 4 else 0
    for name, candidate in VGGS.items():
        if candidate.convs == found and candidate.width[0] == width:
            return name
    raise WeightMismatchError(
        f"its backbone is a VGG of {'-'.join(map(str, found))} convolutions and begins with {width} channels; "
        f"expected one of {', '.join(VGGS)}"
    )
