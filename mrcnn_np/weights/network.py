"""From a file of weights to the network that it belongs to, with what the user says of its conventions and classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import UserError, WeightFileError
from ..params import Params, shapes
from .class_names import read_class_names
from .load import Weights, load_weights, trusting
from .manifest import Manifest, match


def open_weights(path: Path, preset: str | None, overrides: list[str] | None) -> tuple[Weights, Manifest, Config]:
    """Read weights; what the user says of their conventions counts more than what is presumed.

    Parameters
    ----------
    path : Path
    preset : str or None
        Refuse weights of another one.
    overrides : list of str or None
        ``field=value``: conventions that the file does not hold, or holds wrongly.

    Returns
    -------
    weights : Weights
    manifest : Manifest
        With the overrides in it.
    config : Config
        What the weights belong to.

    Raises
    ------
    WeightFileError
        They cannot be read.
    WeightMismatchError
        They belong to another preset, or the overrides ask for tensors of other shapes.
    """
    weights = load_weights(path, preset=preset)
    if not overrides:
        return weights, weights.manifest, weights.manifest.config()
    config = weights.manifest.config().with_overrides(overrides)
    match(shapes(weights.loaded), shapes(weights.manifest.spec(config)), path)
    return weights, trusting(weights.manifest, config), config


def name_classes(manifest: Manifest, names: str | None, path: Path) -> Manifest:
    """Return the manifest with the class names that --class-names gives.

    Parameters
    ----------
    manifest : Manifest
    names : str or None
        See ``class_names.read_class_names``; None leaves the manifest as it is.
    path : Path
        Of the weights, for messages.

    Raises
    ------
    UserError
        The weights are those of a backbone, or there are more or fewer names than classes.
    """
    if names is None:
        return manifest
    if manifest.num_classes is None:
        raise UserError(f"--class-names names the classes of a network; {path} holds a backbone only")
    presumed = tuple(name for name in manifest.presumed if name != "class_names")
    return replace(manifest, class_names=read_class_names(names, manifest.num_classes), presumed=presumed)


def open_network(
    path: Path, preset: str | None, overrides: list[str] | None, class_names: str | None = None, **changes: Any
) -> tuple[Config, Params, tuple[str, ...]]:
    """Read what ``MaskRCNN.load`` makes a network of.

    Parameters
    ----------
    path : Path
    preset : str, optional
        Refuse weights of another one.
    overrides : list of str, optional
        ``field=value``.
    class_names : str, optional
        See ``name_classes``.
    **changes
        Further config fields.

    Returns
    -------
    config : Config
    params : dict of str to ndarray
    class_names : tuple of str
        Empty if the file has no names and none are given.

    Raises
    ------
    WeightFileError
        They cannot be read, or belong to a backbone alone.
    """
    weights, manifest, config = open_weights(path, preset, overrides)
    if manifest.num_classes is None:
        raise WeightFileError(f"{path} holds the backbone {manifest.backbone} only, which detects nothing by itself")
    return config.replace(**changes), weights.params, name_classes(manifest, class_names, path).class_names
