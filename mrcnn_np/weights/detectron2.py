"""The tensors of detectron2's R-CNN models with FPN, and of the Caffe2 backbones they start from.

Permutations are those of PyTorch's other models (``weights.torchvision``). Two things differ:

- the background is the *last* class of ``cls_score``, and has neither deltas nor a mask; here it is class 0, and its
  deltas and mask, which nothing reads, are zeros;
- the conventions (BGR, no division by a deviation, the stride in the first 1x1 convolution) stand in a YAML file beside
  the weights. They are presumed from the network and from who wrote the file:

=============================== ===== ============================ ============================ ============
file                            order mean                         std                          stride
=============================== ===== ============================ ============================ ============
R50, R101 (MSRA's backbones)    BGR   (103.53, 116.28, 123.675)    (1, 1, 1)                    first 1x1
X101-32x8d                      BGR   the same                     (57.375, 57.12, 58.395)      3x3
R50 converted from torchvision  RGB   (123.675, 116.28, 103.53)    (58.395, 57.12, 57.375)      3x3
R50, R101 with group norm       BGR   (103.53, 116.28, 123.675)    (1, 1, 1)                    3x3
=============================== ===== ============================ ============================ ============

A norm without running statistics is either group norm (of 32 groups) or Caffe2's batch norm folded into scale and
shift. In a backbone alone Caffe2's names tell (``_gn_s``, ``_bn_s``), and detectron2's mean the latter. In a whole
model it is group norm where pyramid or heads have such norms, too; where only the backbone has, nothing tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..config.presets import detectron2, detectron2_c4
from ..errors import WeightFileError
from ..params import Params
from ..schema import shown
from .architecture import norm_kind, normed_layers, sizes
from .class_names import coco_names
from .manifest import PRESUMED, Manifest
from .torchvision import Renames, from_torch_layout, renamed

BGR_MEAN, BGR_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
#: the preset of those who converted torchvision's backbone
converted = partial(
    detectron2, channel_order="rgb", pixel_mean=BGR_MEAN[::-1], pixel_std=BGR_STD[::-1], stride_in_1x1=False
)
#: and that of FAIR's backbones with group norm, which detectron2 continues with norms everywhere
group_normed = partial(
    detectron2, norm="group", stride_in_1x1=False, fpn_norm=True, box_head="conv_fc", mask_head_norm=True
)

RENAMED: Renames = [
    (r"^backbone\.bottom_up\.", ""),
    (r"^backbone\.(?=stem\.|res\d)", ""),  # without a pyramid
    (r"^roi_heads\.(?=res5\.)", ""),
    (r"^stem\.conv1\.", "backbone.stem.conv."),
    (r"^res(\d)\.(\d+)\.", r"backbone.c\1.\2."),
    (r"\.shortcut\.(?!norm)", ".shortcut.conv."),
    (r"\.conv(\d)?\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".shortcut.bn."),
    (r"^backbone\.fpn_(lateral|output)(\d)\.norm\.", r"fpn.\1\2.bn."),
    (r"^backbone\.fpn_(lateral|output)(\d)\.", r"fpn.\1\2."),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.conv."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.objectness."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.deltas."),
    (r"^roi_heads\.box_head\.", "box_head."),
    (r"^roi_heads\.box_predictor\.cls_score\.", "box_head.class."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "box_head.deltas."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.norm\.", r"mask_head.bn\1."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", r"mask_head.conv\1."),
    (r"^roi_heads\.mask_head\.deconv\.", "mask_head.deconv."),
    (r"^roi_heads\.mask_head\.predictor\.", "mask_head.logits."),
    (r"^roi_heads\.keypoint_head\.conv_fcn(\d)\.", r"keypoint_head.conv\1."),
    (r"^roi_heads\.keypoint_head\.score_lowres\.", "keypoint_head.deconv."),
]
#: Caffe2 blobs, in steps that leave the names of a detectron2 backbone
CAFFE2: Renames = [
    (r"^res_conv1_bn_", "conv1_bn_"),
    (r"^conv1_", "stem.conv1_"),
    (r"^res(\d)_(\d+)_branch1_", r"res\1.\2.shortcut_"),
    (r"^res(\d)_(\d+)_branch2([abc])_", lambda m: f"res{m[1]}.{m[2]}.conv{'abc'.index(m[3]) + 1}_"),
    (r"_[bg]n_(s|gamma)$", ".norm.weight"),
    (r"_[bg]n_(b|beta)$", ".norm.bias"),
    (r"_bn_(rm|running_mean)$", ".norm.running_mean"),
    (r"_bn_(riv|running_var)$", ".norm.running_var"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
]
#: what such files hold besides: a classifier, a bias before batch norm (which detectron2 ignores too), anchors
ASIDE = re.compile(
    r"^(backbone\.bottom_up\.)?((fc1000|pred|linear|stem\.fc)[._]|stem\.conv1\.bias$)|^conv1_b$|\.cell_anchors\.|"
    r"^pixel_(mean|std)$|_momentum$|"
    r"num_batches_tracked$|^(lr|iter)$"
)


def recognise(tensors: Mapping[str, np.ndarray]) -> bool:
    """Tell whether these are the names of a detectron2 model, of its backbone alone, or Caffe2's."""
    return any(
        name in tensors
        for name in (
            "backbone.stem.conv1.weight",
            "backbone.bottom_up.stem.conv1.weight",
            "stem.conv1.weight",
            "conv1_w",
        )
    ) or any(name.startswith(("backbone.bottom_up.", "backbone.fpn_lateral")) for name in tensors)


def from_detectron2(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> tuple[Params, Manifest, list[str]]:
    """Convert the tensors of a detectron2 checkpoint, or of a Caffe2 backbone.

    Parameters
    ----------
    tensors : mapping of str to ndarray
    metadata : mapping, optional
        What stands beside the tensors; ``__author__`` says whether torchvision's backbone was converted.

    Returns
    -------
    params : dict of str to ndarray
        Copies under our names.
    manifest : Manifest
        ``manifest.num_classes`` is None for a backbone.
    aside : list of str
        Tensors that have no counterpart and no use here.

    Raises
    ------
    WeightFileError
        A tensor of an unknown name, or of a shape that its layer cannot have; norms of two kinds, or of a kind that
        nothing tells.
    """
    aside = dict.fromkeys(name for name in tensors if ASIDE.search(name))
    # whose convolutions have a bias or a norm: any of these has the channels first
    width = re.compile(r"fpn_lateral\d\.(weight|(norm\.)?bias)$")
    lateral = next((a for name, a in tensors.items() if width.search(name)), None)
    channels = 256 if lateral is None else len(lateral)
    params: Params = {}
    for old, a in tensors.items():
        if old in aside:
            continue
        ours = renamed(old, RENAMED if "." in old else CAFFE2 + RENAMED)
        if ours is None:
            raise WeightFileError(f"{shown(old)} is not a tensor of detectron2's R-CNN with FPN, nor of its backbones")
        layer, suffix = ours
        try:
            a = from_torch_layout(layer, suffix, a, channels=channels)
        except (ValueError, IndexError) as error:
            raise WeightFileError(f"tensor {shown(old)} has shape {a.shape}, which no such layer has") from error
        params[f"{layer}.{suffix}"] = _background_first(layer, a)
    if any(name.startswith("roi_heads.res5.") for name in tensors):
        _ratios_first(params)
    whole = any(not name.startswith("backbone.") for name in params)
    if norm_kind(params) == {"norm": "group"} and not _is_group_norm(params, tensors, whole=whole):
        _complete_norms(params)
    return params, _manifest(params, tensors, metadata or {}, whole=whole), list(aside)


def _background_first(layer: str, a: np.ndarray) -> np.ndarray:
    """Move the background, the last class, to the front; where it has no outputs put zeros there."""
    if layer == "box_head.class":
        return np.roll(a, 1, axis=-1)
    rows = {"box_head.deltas": 4, "mask_head.logits": 1}.get(layer, 0)
    return np.concatenate([np.zeros((*a.shape[:-1], rows), a.dtype), a], axis=-1) if rows else a


def _ratios_first(params: Params, ratios: int = 3) -> None:
    """Bring the several sizes of a cell's anchors behind its ratios: there each size has all ratios after it.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed.
    ratios : int
        Aspect ratios: three in all of detectron2's configurations.

    Raises
    ------
    WeightFileError
        The number of anchors is no multiple of theirs.
    """
    for layer, numbers in (("rpn.objectness", 1), ("rpn.deltas", 4)):
        for name in (f"{layer}.w", f"{layer}.b"):
            a = params.get(name)
            if a is None:
                continue
            if a.shape[-1] % (ratios * numbers):
                raise WeightFileError(f"tensor {name} has {a.shape[-1]} outputs; expected those of {ratios} ratios")
            cells = a.reshape(*a.shape[:-1], -1, ratios, numbers)
            params[name] = np.ascontiguousarray(np.swapaxes(cells, -3, -2)).reshape(a.shape)


def _is_group_norm(params: Params, tensors: Mapping[str, np.ndarray], *, whole: bool) -> bool:
    """Tell group norms from batch norms that were folded into scale and shift; neither has running statistics.

    Parameters
    ----------
    params : dict of str to ndarray
        Ours.
    tensors : mapping of str to ndarray
        The file's.
    whole : bool
        Whether the heads are there too.

    Raises
    ------
    WeightFileError
        Nothing tells, or Caffe2's names have both.
    """
    named = {kind for kind in ("_bn_", "_gn_") if any(kind in name for name in tensors if "." not in name)}
    if len(named) == 2:
        raise WeightFileError("its norms are called both _bn_ and _gn_; expected one kind of norm in the whole network")
    if named or not whole:
        return "_gn_" in named
    if not any(name.endswith(".gamma") and not name.startswith("backbone.") for name in params):
        raise WeightFileError(
            "its backbone's norms have no running statistics, and nothing tells group norm from a batch norm folded "
            "into scale and shift; expected running statistics, or norms in the pyramid or the heads too"
        )
    return True


def _complete_norms(params: Params, eps: float = 1e-5) -> None:
    """Give affine layers (batch norm folded into scale and shift) statistics under which they stay what they are."""
    for name in [name for name in params if name.endswith(".gamma")]:
        norm, gamma = name.removesuffix(".gamma"), params[name]
        params[f"{norm}.mean"] = np.zeros_like(gamma)
        params[f"{norm}.var"] = np.full_like(gamma, 1.0 - eps)


def _manifest(
    params: Params, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], *, whole: bool
) -> Manifest:
    """Say which conventions belong to the weights.

    Parameters
    ----------
    params : dict of str to ndarray
        Ours.
    tensors : mapping of str to ndarray
        The file's.
    metadata : mapping
        What else the file holds.
    whole : bool
        Whether the heads are there too.
    """
    found = sizes(params)
    one_map = any(name.startswith("roi_heads.res5.") for name in tensors)
    grouped = found.get("norm") == "group"
    preset, conventions = detectron2_c4 if one_map else detectron2, dict[str, Any]()
    if whole:
        conventions |= normed_layers(params)
    elif grouped:
        preset = group_normed
    if one_map and "mask_head.deconv.w" not in params:
        conventions["mask_branch"] = False
    if metadata.get("__author__") == "torchvision":
        preset = partial(preset, **converted.keywords)
    elif found["backbone"].startswith("resnext"):
        conventions |= {"pixel_std": BGR_STD, "stride_in_1x1": False}
    elif grouped:
        conventions["stride_in_1x1"] = False
    for name in ("pixel_mean", "pixel_std"):  # training runs of 2019 and 2020 kept them with the weights
        if name in tensors and tensors[name].size == 3:
            conventions[name] = tuple(round(float(v), 4) for v in tensors[name].ravel())
    if "pixel_mean" in conventions:
        conventions["channel_order"] = "rgb" if conventions["pixel_mean"][0] > conventions["pixel_mean"][2] else "bgr"
    if found.get("keypoints") and "mask_head.deconv.w" not in params:
        conventions["mask_branch"] = False
    config = preset(**found, **conventions)
    return Manifest.from_config(
        config,
        source="detectron2" if whole else "detectron2 backbone",
        backbone_only=not whole,
        class_names=coco_names(config.num_classes) if whole else (),
        delta_order="dx dy dw dh",
        box_order="x1 y1 x2 y2",
        background="last",
        flatten_order="C H W",
        presumed=tuple(
            name
            for name in (*PRESUMED, *(["norm_groups"] if grouped else []), "class_names")
            if not (name.startswith("pixel_") and name in tensors)
        ),
    )
