"""The norms of torchvision's models: which layer a configuration asks for, with which constants, and frozen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...config import Config


def norm_layer(config: Config) -> Callable[[int], Any]:
    """Return what torchvision's builders want as ``norm_layer``: it makes the norm of so many channels."""
    from torch import nn

    if config.norm == "group":
        return partial(nn.GroupNorm, config.norm_groups)
    return nn.BatchNorm2d if config.norm == "batch" else partial(nn.InstanceNorm2d, affine=True)


def set_constants(model: Any, config: Config) -> None:
    """Give every norm of a model the constants of ``config``, which the builders have no argument for."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)):
            module.eps = config.bn_eps
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = config.bn_momentum


def freeze_norms(model: Any) -> None:
    """Put every batch norm of a model that is being trained into evaluation mode: it uses its running statistics."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
