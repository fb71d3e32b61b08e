"""ResNets and ResNeXts that torchvision trained to classify ImageNet: backbones to start from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..config.presets import torchvision
from ..params import Params
from .architecture import sizes
from .manifest import PRESUMED, Manifest
from .torchvision import from_torchvision


def recognise(tensors: Mapping[str, np.ndarray]) -> bool:
    """Tell whether these are the names of torchvision's classification networks."""
    return "conv1.weight" in tensors and "layer1.0.conv1.weight" in tensors


def from_imagenet(tensors: Mapping[str, np.ndarray]) -> tuple[Params, Manifest, list[str]]:
    """Convert the backbone; the classifier ``fc`` is left aside.

    Returns
    -------
    params : dict of str to ndarray
        ``backbone.*``, copies.
    manifest : Manifest
        With ``num_classes=None``.
    aside : list of str
        ``fc.weight`` and ``fc.bias``.

    Raises
    ------
    CheckpointError
        A name that such a network does not have.
    WeightMismatchError
        A network that is none of our backbones, for example a wide ResNet.
    """
    aside = dict.fromkeys(name for name in tensors if name.startswith("fc.") or name.endswith("num_batches_tracked"))
    params = from_torchvision({f"backbone.body.{name}": a for name, a in tensors.items() if name not in aside})
    manifest = Manifest.from_config(
        torchvision(**sizes(params)),
        source="torchvision ImageNet",
        backbone_only=True,
        presumed=PRESUMED,
    )
    return params, manifest, [name for name in aside if name.startswith("fc.")]
