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

from ..errors import CheckpointError
from ..params import Params

ORDER = [1, 0, 3, 2]  # (x1, y1, x2, y2) <-> (y1, x1, y2, x2) and (dx, dy, dw, dh) <-> (dy, dx, dh, dw)

NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
#: What stands in brackets with a question mark is missing in files older than torchvision 0.13, as is the published one
RENAMED: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^backbone\.body\.conv1\.", "backbone.stem.conv."),
    (r"^backbone\.body\.bn1\.", "backbone.stem.bn."),
    (r"^backbone\.body\.layer(\d)\.", lambda m: f"backbone.c{int(m[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.(0\.)?", lambda m: f"fpn.lateral{int(m[1]) + 2}."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.(0\.)?", lambda m: f"fpn.output{int(m[1]) + 2}."),
    (r"^rpn\.head\.conv\.(0\.0\.)?", "rpn.conv."),
    (r"^rpn\.head\.cls_logits\.", "rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "rpn.deltas."),
    (r"^roi_heads\.box_head\.fc6\.", "box_head.fc1."),
    (r"^roi_heads\.box_head\.fc7\.", "box_head.fc2."),
    (r"^roi_heads\.box_predictor\.cls_score\.", "box_head.class."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "box_head.deltas."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", r"mask_head.conv\1."),
    (r"^roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"mask_head.conv{int(m[1]) + 1}."),
    (r"^roi_heads\.mask_predictor\.conv5_mask\.", "mask_head.deconv."),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits\.", "mask_head.logits."),
]


def from_torchvision(state_dict: Mapping[str, np.ndarray], *, channels: int = 256) -> Params:
    """Convert the weights of ``torchvision.models.detection.maskrcnn_resnet50_fpn``, or gradients with their names.

    Parameters
    ----------
    state_dict : mapping of str to ndarray
        For example ``{name: t.numpy() for name, t in model.state_dict().items()}``. Any subset will do.
    channels : int
        Of the pyramid: they are interleaved with rows and columns in the first fully connected layer.

    Returns
    -------
    dict of str to ndarray
        Parameters for ``presets.torchvision()``; copies, of the same dtype.

    Raises
    ------
    CheckpointError
        A name that torchvision's Mask R-CNN does not have.

    Notes
    -----
    The published weights (``MaskRCNN_ResNet50_FPN_Weights.COCO_V1``) were trained with a batch-norm epsilon of 0:
    use ``presets.torchvision(bn_eps=0.0)`` with them.
    """
    converted: Params = {}
    for old, a in state_dict.items():
        if old.endswith("num_batches_tracked"):
            continue
        layer, suffix = _rename(old)
        if layer.endswith(".deltas"):
            a = a.reshape(-1, 4, *a.shape[1:])[:, ORDER].reshape(a.shape)
        if layer == "box_head.fc1" and suffix == "w":
            side = round((a.shape[1] / channels) ** 0.5)
            a = a.reshape(len(a), channels, side, side).transpose(0, 2, 3, 1).reshape(a.shape)
        if layer == "mask_head.deconv" and suffix == "w":
            a = a.transpose(2, 3, 0, 1)
        elif a.ndim == 4:
            a = a.transpose(2, 3, 1, 0)
        elif a.ndim == 2:
            a = a.T
        converted[f"{layer}.{suffix}"] = np.ascontiguousarray(a).copy()
    return converted


def to_torchvision(
    params: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], *, channels: int = 256
) -> dict[str, np.ndarray]:
    """Convert our parameters for a ``load_state_dict`` of torchvision.

    Parameters
    ----------
    params : mapping of str to ndarray
        Ours, of ``presets.torchvision()``.
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


def _rename(old: str) -> tuple[str, str]:
    """Return our layer and our suffix for a tensor of theirs."""
    name = old
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    layer, _, suffix = name.rpartition(".")
    suffixes = NORM if re.search(r"\.bn\d?$", layer) else {"weight": "w", "bias": "b"}
    if suffix not in suffixes or not layer.startswith(("backbone.", "fpn.", "rpn.", "box_head.", "mask_head.")):
        raise CheckpointError(f"{old!r} is not a tensor of torchvision's maskrcnn_resnet50_fpn")
    return layer, suffixes[suffix]
