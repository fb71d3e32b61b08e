"""The tensors of torchvision's Mask R-CNN under our names and in our layout, and back.

What changes on the way:

- convolutions (C_out, C_in, kh, kw) become (kh, kw, C_in, C_out), the transposed one (C_in, C_out, kh, kw) becomes
  (kh, kw, C_in, C_out), and fully connected layers (C_out, C_in) become (C_in, C_out);
- the first fully connected layer reads channels, rows, columns there, and rows, columns, channels here;
- predicted deltas are (dx, dy, dw, dh) there and (dy, dx, dh, dw) here.

Each step only permutes numbers, so the same function converts gradients. Everything is a NumPy array: PyTorch is not
needed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from ..config import Config, presets
from ..errors import CheckpointError
from ..keypoints.pose import COCO_PERSON
from ..network import spec as network_spec
from ..params import Params
from ..schema import shown
from .architecture import normed_layers, sizes
from .class_names import coco_names
from .manifest import PRESUMED, Manifest, match

#: patterns of ``re.sub`` with what stands in their place, one after the other
Renames = list[tuple[str, str | Callable[[re.Match[str]], str]]]
PARTS = ("backbone.", "fpn.", "rpn.", "box_head.", "mask_head.", "keypoint_head.")
ORDER = [1, 0, 3, 2]  # (x1, y1, x2, y2) <-> (y1, x1, y2, x2) and (dx, dy, dw, dh) <-> (dy, dx, dh, dw)

NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
#: What stands in brackets with a question mark is missing in files older than torchvision 0.13, as is the published one
#: places of the convolutions among the layers of torchvision's ``vgg16().features``, and their names
VGG16 = dict(
    zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        (f"conv{stage}_{i}" for stage, convs in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for i in range(1, convs + 1)),
    )
)
RENAMED: Renames = [
    # a network of one map, put together from torchvision's parts: VGG's features as the backbone, or C5 as the head
    (r"^backbone\.(\d+)\.", lambda m: f"backbone.{VGG16.get(int(m[1]), m[1])}."),
    (r"^roi_heads\.(?:box|mask)_head\.layer4\.", "backbone.c5."),
    (r"^backbone\.body\.conv1\.", "backbone.stem.conv."),
    (r"^backbone\.body\.bn1\.", "backbone.stem.bn."),
    (r"^backbone\.body\.layer(\d)\.", lambda m: f"backbone.c{int(m[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.1\.", lambda m: f"fpn.lateral{int(m[1]) + 2}.bn."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.1\.", lambda m: f"fpn.output{int(m[1]) + 2}.bn."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.(0\.)?", lambda m: f"fpn.lateral{int(m[1]) + 2}."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.(0\.)?", lambda m: f"fpn.output{int(m[1]) + 2}."),
    (r"^rpn\.head\.conv\.(0\.0\.)?(?=\D)", "rpn.conv."),
    (r"^rpn\.head\.conv\.(\d)\.0\.", lambda m: f"rpn.conv{int(m[1]) + 1}."),
    (r"^rpn\.head\.cls_logits\.", "rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "rpn.deltas."),
    (r"^roi_heads\.box_head\.fc6\.", "box_head.fc1."),
    (r"^roi_heads\.box_head\.fc7\.", "box_head.fc2."),
    (r"^roi_heads\.box_head\.(\d)\.0\.", lambda m: f"box_head.conv{int(m[1]) + 1}."),
    (r"^roi_heads\.box_head\.(\d)\.1\.", lambda m: f"box_head.bn{int(m[1]) + 1}."),
    (r"^roi_heads\.box_head\.\d\.(?=\D)", "box_head.fc1."),  # behind the convolutions and a flattening
    (r"^roi_heads\.box_predictor\.cls_score\.", "box_head.class."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "box_head.deltas."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", r"mask_head.conv\1."),
    (r"^roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"mask_head.conv{int(m[1]) + 1}."),
    (r"^roi_heads\.mask_head\.(\d)\.1\.", lambda m: f"mask_head.bn{int(m[1]) + 1}."),
    (r"^roi_heads\.mask_predictor\.conv5_mask\.", "mask_head.deconv."),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits\.", "mask_head.logits."),
    # a ReLU stands between two convolutions
    (r"^roi_heads\.keypoint_head\.(\d*[02468])\.", lambda m: f"keypoint_head.conv{int(m[1]) // 2 + 1}."),
    (r"^roi_heads\.keypoint_predictor\.kps_score_lowres\.", "keypoint_head.deconv."),
]

SUFFIXES = {"w": "weight", "b": "bias"} | {ours: theirs for theirs, ours in NORM.items()}
#: the way back, to the names since torchvision 0.13
NAMED_BACK: Renames = [
    (r"^backbone\.stem\.conv$", "backbone.body.conv1"),
    (r"^backbone\.stem\.bn$", "backbone.body.bn1"),
    (r"^backbone\.c(\d)\.", lambda m: f"backbone.body.layer{int(m[1]) - 1}."),
    (r"\.shortcut\.conv$", ".downsample.0"),
    (r"\.shortcut\.bn$", ".downsample.1"),
    (r"^fpn\.lateral(\d)$", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 2}.0"),
    (r"^fpn\.output(\d)$", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 2}.0"),
    (r"^fpn\.lateral(\d)\.bn$", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 2}.1"),
    (r"^fpn\.output(\d)\.bn$", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 2}.1"),
    (r"^rpn\.conv(\d?)$", lambda m: f"rpn.head.conv.{int(m[1] or 1) - 1}.0"),
    (r"^rpn\.objectness$", "rpn.head.cls_logits"),
    (r"^rpn\.deltas$", "rpn.head.bbox_pred"),
    (r"^box_head\.fc1$", "roi_heads.box_head.fc6"),
    (r"^box_head\.fc2$", "roi_heads.box_head.fc7"),
    (r"^box_head\.class$", "roi_heads.box_predictor.cls_score"),
    (r"^box_head\.deltas$", "roi_heads.box_predictor.bbox_pred"),
    (r"^mask_head\.conv(\d+)$", lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0"),
    (r"^mask_head\.bn(\d+)$", lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.1"),
    (r"^mask_head\.deconv$", "roi_heads.mask_predictor.conv5_mask"),
    (r"^mask_head\.logits$", "roi_heads.mask_predictor.mask_fcn_logits"),
    (r"^keypoint_head\.conv(\d+)$", lambda m: f"roi_heads.keypoint_head.{2 * int(m[1]) - 2}"),
    (r"^keypoint_head\.deconv$", "roi_heads.keypoint_predictor.kps_score_lowres"),
]
#: transposed convolutions, whose weights have the input channels first there
TRANSPOSED = ("mask_head.deconv", "keypoint_head.deconv")


def from_torchvision(state_dict: Mapping[str, np.ndarray], *, channels: int = 256) -> Params:
    """Convert weights of ``maskrcnn_resnet50_fpn``, its ``_v2`` or ``keypointrcnn_resnet50_fpn``, or their gradients.

    Parameters
    ----------
    state_dict : mapping of str to ndarray
        For example ``{name: t.numpy() for name, t in model.state_dict().items()}``. Any subset will do.
    channels : int
        Of the pyramid: they are interleaved with rows and columns in the first fully connected layer.

    Returns
    -------
    dict of str to ndarray
        Parameters for ``presets.torchvision()`` or ``torchvision_v2()``; copies, of the same dtype.

    Raises
    ------
    CheckpointError
        A name that torchvision's Mask R-CNN does not have; two tensors for the same place.

    Notes
    -----
    The published weights (``MaskRCNN_ResNet50_FPN_Weights.COCO_V1``) were trained with a batch-norm epsilon of 0:
    use ``presets.torchvision(bn_eps=0.0)`` with them.
    """
    converted: Params = {}
    for old, a in state_dict.items():
        if old.endswith("num_batches_tracked"):
            continue
        ours = renamed(old, RENAMED)
        if ours is None:
            raise CheckpointError(f"{shown(old)} is not a tensor of torchvision's maskrcnn_resnet50_fpn")
        layer, suffix = ours
        if f"{layer}.{suffix}" in converted:
            raise CheckpointError(f"{shown(old)} is the second tensor for {layer}.{suffix}; expected one")
        converted[f"{layer}.{suffix}"] = from_torch_layout(layer, suffix, a, channels=channels)
    return converted


def from_torch_layout(layer: str, suffix: str, a: np.ndarray, *, channels: int) -> np.ndarray:
    """Permute one tensor of a PyTorch model, called ``layer.suffix`` here, into our layout; a copy.

    Parameters
    ----------
    layer, suffix : str
        Our name: the permutation depends on it.
    a : ndarray
        (C_out, C_in, kh, kw), (C_out, C_in) or (C,).
    channels : int
        Of the pyramid: they are interleaved with rows and columns in the first fully connected layer.

    Raises
    ------
    ValueError
        A shape that such a layer cannot have.
    """
    if layer.endswith(".deltas"):
        a = a.reshape(-1, 4, *a.shape[1:])[:, ORDER].reshape(a.shape)
    if layer == "box_head.fc1" and suffix == "w":
        side = round((a.shape[1] / channels) ** 0.5)
        a = a.reshape(len(a), channels, side, side).transpose(0, 2, 3, 1).reshape(a.shape)
    if layer in TRANSPOSED and suffix == "w":
        a = a.transpose(2, 3, 0, 1)
    elif a.ndim == 4:
        a = a.transpose(2, 3, 1, 0)
    elif a.ndim == 2:
        a = a.T
    return np.ascontiguousarray(a).copy()


#: what only the second version has, under our names
V2 = frozenset(["fpn.lateral2.bn.gamma", "box_head.conv1.w", "mask_head.bn1.gamma"])


def recognise(tensors: Mapping[str, np.ndarray]) -> bool:
    """Tell whether these are the names of torchvision's detection models."""
    return any(name.startswith(("backbone.body.", "rpn.head.")) for name in tensors)


def read_torchvision(tensors: Mapping[str, np.ndarray]) -> tuple[Params, Manifest, list[str]]:
    """Convert a ``state_dict`` and say what belongs to it.

    Returns
    -------
    params : dict of str to ndarray
    manifest : Manifest
        The published COCO weights are recognised by their names, which are those before torchvision 0.13: they go
        with a batch-norm epsilon of 0. A model that was fine-tuned from them and saved by a newer torchvision looks
        like any other; there ``bn_eps=0.0`` has to be said. Weights of the second version, which is another preset,
        are told by its additional layers, and those of ``keypointrcnn_resnet50_fpn`` by the branch that they have.
        Norms without running statistics, in models that were put together with another ``norm_layer``, are taken for
        group norms of 32 groups.
    aside : list of str
        Empty: every tensor is used, but for the counters of batches.

    Raises
    ------
    CheckpointError
        A tensor that neither version of ``maskrcnn_resnet50_fpn`` has.
    WeightMismatchError
        Norms of two kinds.
    ValueError, IndexError
        A shape that such a layer cannot have.
    """
    lateral = next((a for name, a in tensors.items() if re.search(r"inner_blocks\.\d\.(0\.)?weight$", name)), None)
    params = from_torchvision(tensors, channels=256 if lateral is None else len(lateral))
    found = sizes(params)
    grouped = found.get("norm") == "group"  # which has no counters of batches in any version
    published = (
        "backbone.fpn.inner_blocks.0.weight" in tensors
        and "backbone.body.bn1.num_batches_tracked" not in tensors
        and not grouped
    )
    second = set(params) >= V2 if grouped else V2 & set(params)
    preset = presets.torchvision_v2 if second else presets.torchvision
    if grouped:  # put together by hand: any of its parts may have norms
        found |= normed_layers(params)
    masks = "mask_head.deconv.w" in params or not found.get("keypoints")
    config = preset(**found, mask_branch=masks, bn_eps=0.0 if published else 1e-5)
    manifest = Manifest.from_config(
        config,
        source="torchvision",
        class_names=coco_names(config.num_classes) or _persons(config),
        delta_order="dx dy dw dh",
        box_order="x1 y1 x2 y2",
        flatten_order="C H W",
        presumed=(*PRESUMED, *(("norm", "norm_groups") if grouped else ()), "class_names"),
    )
    return params, manifest, []


def _persons(config: Config) -> tuple[str, ...]:
    """Return the classes of weights with COCO's 17 keypoints, which only persons have."""
    return ("background", "person") if (config.num_classes, config.keypoints) == (2, len(COCO_PERSON)) else ()


def state_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the ``state_dict`` of torchvision's model for ``config``.

    Raises
    ------
    WeightMismatchError
        The network has parts for which neither version of torchvision's ``maskrcnn_resnet50_fpn`` has a place.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    foreign: dict[str, tuple[int, ...]] = {}
    for ours, tensor in network_spec(config).items():
        layer, _, suffix = ours.rpartition(".")
        name = _name_back(layer, config)
        theirs = f"{name}.{SUFFIXES[suffix]}"
        if renamed(theirs, RENAMED) != (layer, suffix):
            foreign[ours] = tensor.shape
        shape = tensor.shape
        if len(shape) == 4:
            shape = (shape[2], shape[3], *shape[:2]) if layer in TRANSPOSED else (*shape[:1:-1], *shape[:2])
        shapes[theirs] = shape[::-1] if len(shape) == 2 else shape
        if suffix == "var":
            shapes[f"{name}.num_batches_tracked"] = ()
    if foreign:
        match(foreign, {}, "torchvision's Mask R-CNN")
    return shapes


def to_torchvision(
    params: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], *, channels: int = 256
) -> dict[str, np.ndarray]:
    """Convert our parameters for a ``load_state_dict`` of torchvision.

    Parameters
    ----------
    params : mapping of str to ndarray
        Ours, of ``presets.torchvision()`` or ``torchvision_v2()``.
    shapes : mapping of str to tuple
        What torchvision's model wants: ``{name: tuple(t.shape) for name, t in model.state_dict().items()}``.
    channels : int
        As in ``from_torchvision``.

    Returns
    -------
    dict of str to ndarray
        All names in ``shapes``; counters of batches, which we do not have, are 0.

    Notes
    -----
    ``from_torchvision`` permutes numbers. Sent through it, the positions 0, 1, 2 ... of a tensor tell where every
    number goes, and they go back the same way: the two functions cannot disagree.
    """
    state: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = np.zeros(shape, np.int64)
            continue
        positions = np.arange(int(np.prod(shape))).reshape(shape)
        ((ours, positions),) = from_torchvision({name: positions}, channels=channels).items()
        flat = np.empty(positions.size, params[ours].dtype)
        flat[positions.reshape(-1)] = params[ours].reshape(-1)
        state[name] = flat.reshape(shape)
    return state


def _name_back(layer: str, config: Config) -> str:
    """Return their name of one of our layers; of a layer that they do not have, ours."""
    if config.box_head == "conv_fc":  # one sequence: convolutions with their norms, a flattening, the linear layer
        if layer == "box_head.fc1":
            return f"roi_heads.box_head.{config.box_head_convs + 1}"
        layer = re.sub(r"^box_head\.conv(\d+)$", lambda m: f"roi_heads.box_head.{int(m[1]) - 1}.0", layer)
        layer = re.sub(r"^box_head\.bn(\d+)$", lambda m: f"roi_heads.box_head.{int(m[1]) - 1}.1", layer)
    for pattern, replacement in NAMED_BACK:
        layer = re.sub(pattern, replacement, layer)
    return layer


def renamed(name: str, renames: Renames) -> tuple[str, str] | None:
    """Return our layer and our suffix for a tensor of a PyTorch model; None if that leads to no name of ours."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    layer, _, suffix = name.rpartition(".")
    suffixes = NORM if re.search(r"\.bn\d?$", layer) else {"weight": "w", "bias": "b"}
    if suffix not in suffixes or not layer.startswith(PARTS):
        return None
    return layer, suffixes[suffix]
