"""The tensors of torchvision's Mask R-CNN under our names and in our layout.

What changes on the way:

- convolutions (C_out, C_in, kh, kw) become (kh, kw, C_in, C_out), the transposed one (C_in, C_out, kh, kw) becomes
  (kh, kw, C_in, C_out), and fully connected layers (C_out, C_in) become (C_in, C_out);
- the first fully connected layer reads channels, rows, columns there, and rows, columns, channels here;
- predicted deltas are (dx, dy, dw, dh) there and (dy, dx, dh, dw) here.

Each step only permutes numbers, so the same function converts gradients.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch

ORDER = [1, 0, 3, 2]  # (x1, y1, x2, y2) <-> (y1, x1, y2, x2) and (dx, dy, dw, dh) <-> (dy, dx, dh, dw)

NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
RENAMED = [
    (r"backbone\.body\.conv1\.", "backbone.stem.conv."),
    (r"backbone\.body\.bn1\.", "backbone.stem.bn."),
    (r"backbone\.body\.layer(\d)\.", lambda m: f"backbone.c{int(m[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.", lambda m: f"fpn.lateral{int(m[1]) + 2}."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.", lambda m: f"fpn.output{int(m[1]) + 2}."),
    (r"rpn\.head\.conv\.0\.0\.", "rpn.conv."),
    (r"rpn\.head\.cls_logits\.", "rpn.objectness."),
    (r"rpn\.head\.bbox_pred\.", "rpn.deltas."),
    (r"roi_heads\.box_head\.fc6\.", "box_head.fc1."),
    (r"roi_heads\.box_head\.fc7\.", "box_head.fc2."),
    (r"roi_heads\.box_predictor\.cls_score\.", "box_head.class."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "box_head.deltas."),
    (r"roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"mask_head.conv{int(m[1]) + 1}."),
    (r"roi_heads\.mask_predictor\.conv5_mask\.", "mask_head.deconv."),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", "mask_head.logits."),
]


def convert(tensors: Mapping[str, torch.Tensor], *, channels: int = 256) -> dict[str, np.ndarray]:
    """Convert a ``state_dict``, or a dict of gradients with its names; arrays are copies."""
    converted = {}
    for old, tensor in tensors.items():
        if old.endswith("num_batches_tracked"):
            continue
        name = old
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        layer, suffix = name.rsplit(".", 1)
        a = tensor.detach().numpy()
        if re.search(r"\.bn\d?$", layer):
            suffix = NORM[suffix]
        else:
            suffix = {"weight": "w", "bias": "b"}[suffix]
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
