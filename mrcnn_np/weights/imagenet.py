"""ResNets, ResNeXts and VGG-16 that torchvision trained to classify ImageNet: backbones to start from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..config.presets import torchvision, vgg16
from ..params import Params
from .architecture import sizes
from .manifest import PRESUMED, Manifest
from .torchvision import from_torch_layout, from_torchvision


def recognise(tensors: Mapping[str, np.ndarray]) -> bool:
    """Tell whether these are the names of torchvision's classification networks."""
    return ("conv1.weight" in tensors and "layer1.0.conv1.weight" in tensors) or "features.0.weight" in tensors


def from_imagenet(tensors: Mapping[str, np.ndarray]) -> tuple[Params, Manifest, list[str]]:
    """Convert the backbone; the classifier ``fc`` is left aside. Of a VGG fc6 and fc7 come along.

    Returns
    -------
    params : dict of str to ndarray
        ``backbone.*``, copies.
    manifest : Manifest
        With ``num_classes=None``.
    aside : list of str
        ``fc.weight`` and ``fc.bias``; of a VGG ``classifier.6.*``.

    Raises
    ------
    CheckpointError
        A name that such a network does not have.
    WeightMismatchError
        A network that is none of our backbones, for example a wide ResNet.
    """
    if "features.0.weight" in tensors:
        return _from_vgg(tensors)
    aside = dict.fromkeys(name for name in tensors if name.startswith("fc.") or name.endswith("num_batches_tracked"))
    params = from_torchvision({f"backbone.body.{name}": a for name, a in tensors.items() if name not in aside})
    found = sizes(params)
    manifest = Manifest.from_config(
        torchvision(**found),
        source="torchvision ImageNet",
        backbone_only=True,
        presumed=(*PRESUMED, *(("norm", "norm_groups") if found.get("norm") == "group" else ())),
    )
    return params, manifest, [name for name in aside if name.startswith("fc.")]


#: the first two layers of a VGG's classifier are the box head of Faster R-CNN
VGG_HEAD = {"classifier.0": "box_head.fc1", "classifier.3": "box_head.fc2"}


def _from_vgg(tensors: Mapping[str, np.ndarray]) -> tuple[Params, Manifest, list[str]]:
    """Convert VGG-16: its features to the backbone, fc6 and fc7 to the box head; the last layer is left aside."""
    aside = [name for name in tensors if name.startswith("classifier.6.")]
    features = {name: a for name, a in tensors.items() if not name.startswith("classifier.")}
    params = from_torchvision({f"backbone.{name.removeprefix('features.')}": a for name, a in features.items()})
    for theirs, ours in VGG_HEAD.items():
        for theirs_part, part in (("weight", "w"), ("bias", "b")):
            a = tensors.get(f"{theirs}.{theirs_part}")
            if a is not None:
                params[f"{ours}.{part}"] = from_torch_layout(ours, part, a, channels=512)
    conventions = torchvision()
    pixels = {name: getattr(conventions, name) for name in PRESUMED if name.startswith(("channel_", "pixel_"))}
    manifest = Manifest.from_config(
        vgg16(**pixels | sizes(params)), source="torchvision ImageNet", backbone_only=True, presumed=PRESUMED
    )
    return params, manifest, aside
