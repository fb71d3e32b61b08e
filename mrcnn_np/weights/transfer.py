"""Weights as the start of a training: what is taken from the file, and what the new classes need drawn.

Only three layers know how many classes there are, the last ones of the heads. Each class has rows of its own in them:
one logit, four deltas, one mask. Rows of a class that file and data set both have by name are taken over, the
background's among them; the others are drawn.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import Config, fields_where
from ..config.fields import TrainingFields
from ..config.presets import base, by_name
from ..errors import WeightMismatchError
from ..network import spec
from ..params import Params, draw, shapes
from .class_names import class_rows
from .load import Weights, as_read, load_weights
from .manifest import match

#: outputs of each class in the layers that depend on their number
CLASS_LAYERS = {"box_head.class": 1, "box_head.deltas": 4, "mask_head.logits": 1}
#: what a backbone brings into another network; pre-trained statistics are used as they are
BACKBONE_BRINGS = (*fields_where(lambda d: d.weights == "backbone"), "bn_mode")


class Start(NamedTuple):
    """Parameters to start from, and where each came from.

    Attributes
    ----------
    params : dict of str to ndarray
    taken, drawn : tuple of str
        Names of the tensors that are the file's, and of those drawn at random (but for the rows of ``kept``).
    kept : tuple of str
        Classes whose rows of the drawn tensors were taken over.
    """

    params: Params
    taken: tuple[str, ...]
    drawn: tuple[str, ...]
    kept: tuple[str, ...]


def read_start(path: Path, preset: str | None) -> Weights:
    """Read weights to start from; a backbone may go into a network of any preset, a whole network stays what it is.

    Raises
    ------
    WeightFileError, WeightMismatchError
        As ``load_weights``.
    """
    try:
        return load_weights(path, preset=preset)
    except WeightMismatchError:
        weights = load_weights(path)
        if preset is None or weights.manifest.num_classes is not None:
            raise
        return weights


def start_config(weights: Weights, preset: str | None, num_classes: int) -> Config:
    """Return the configuration that the weights imply for a new training.

    Parameters
    ----------
    weights : Weights
        From ``read_start``.
    preset : str, optional
        For a backbone: everything but the backbone's own conventions.
    num_classes : int
        Of the data set, with the background.

    Returns
    -------
    Config
        Schedule, optimiser and ``frozen`` are the preset's: an earlier training's own end with it.
    """
    manifest = weights.manifest
    own = manifest.config()
    if manifest.num_classes is None and preset is not None:
        enter = {name: getattr(own, name) for name in BACKBONE_BRINGS}
        return by_name(preset, num_classes=num_classes, **enter)
    usual = base(own.name)
    training = {field.name: getattr(usual, field.name) for field in dataclasses.fields(TrainingFields)}
    return own.replace(num_classes=num_classes, **training)


def transfer(
    weights: Weights, config: Config, class_names: Sequence[str], rng: np.random.Generator, path: object
) -> Start:
    """Put weights into a network with other classes.

    Parameters
    ----------
    weights : Weights
        From ``read_start``.
    config : Config
        From ``start_config``, with what the user changed.
    class_names : sequence of str
        Those of the data set.
    rng : numpy.random.Generator
        Draws what the file does not have.
    path : object
        The file, for messages.

    Returns
    -------
    Start

    Raises
    ------
    WeightMismatchError
        A tensor that does not depend on the classes is missing or has another shape; the message is a table.
    """
    manifest, expected = weights.manifest, spec(config)
    whole = manifest.num_classes is not None
    found, readable = as_read(weights.loaded, manifest.spec(config), manifest)
    fixed = {name: p for name, p in found.items() if _layer(name) not in CLASS_LAYERS}
    needed = {name: s for name, s in readable.items() if _layer(name) not in CLASS_LAYERS}
    match(shapes(fixed), shapes(needed), path)

    rows = class_rows(manifest.class_names, class_names)
    same = whole and rows == tuple(range(len(manifest.class_names)))
    taken = found if same else fixed
    rest = {name: tensor for name, tensor in expected.items() if name not in taken}
    dtype = next(iter(found.values())).dtype.type
    drawn = draw(rest, rng, dtype)
    kept = [k for k, row in enumerate(rows) if row >= 0] if whole and not same else []
    for name, p in drawn.items() if kept else ():
        per_class = (-1, CLASS_LAYERS[_layer(name)])
        ours, theirs = (a.reshape(*a.shape[:-1], *per_class) for a in (p, found[name]))
        ours[..., kept, :] = theirs[..., [rows[k] for k in kept], :]
    params = {name: taken[name] if name in taken else drawn[name] for name in expected}
    return Start(params, tuple(taken), tuple(rest), tuple(class_names[k] for k in kept))


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def by_part(names: Iterable[str], shown: int = 6) -> str:
    """List a few names, or count many by the part of the network that they belong to."""
    names = list(names)
    if len(names) <= shown:
        return ", ".join(names)
    return ", ".join(f"{part} {n}" for part, n in Counter(name.partition(".")[0] for name in names).items())
