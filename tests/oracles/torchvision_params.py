"""A torchvision model's parameters or gradients as arrays under our names: see ``mrcnn_np.weights.torchvision``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from mrcnn_np.weights.torchvision import from_torchvision


def our_params(tensors: Mapping[str, torch.Tensor], *, channels: int = 256) -> dict[str, np.ndarray]:
    """Convert a ``state_dict``, or a dict of gradients with its names; arrays are copies."""
    return from_torchvision({name: t.detach().numpy() for name, t in tensors.items()}, channels=channels)
