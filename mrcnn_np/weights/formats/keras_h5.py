"""Keras 2's ``.h5`` files of weights: read and written with h5py, without Keras.

::

    /                                   attributes layer_names, backend, keras_version
    /conv1                              attribute weight_names: conv1/kernel:0, conv1/bias:0
    /conv1/conv1/kernel:0               a dataset; the weight's own name repeats the layer's
    /rpn_model                          a model used as a layer: weight_names of all of its layers
    /rpn_model/rpn_conv_shared/kernel:0
    /model_weights/conv1/...            the same one group further down, if a whole model was saved

Keras 1 had other names within a layer's group, ``conv1_W_1:0``. Keras 3 has another structure altogether, which is
recognised and refused.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, WeightFileError, some_of
from ...files import atomic_write
from ...params import Params, shapes
from ...schema import one_line, shown
from ..manifest import Manifest, match
from ..matterport import (
    KERAS1_SUFFIXES,
    SUFFIXES,
    by_layer,
    from_matterport,
    infer,
    our_layer,
    our_name,
    our_shape,
    to_matterport,
)
from .npz import EXPANSION
from .pickled import AXES
from .unpickling import DAMAGE

#: the classifier of an ImageNet network, which no detector has a use for
NOT_NEEDED = ("fc1000", "predictions", "probs")
#: many more than any network has; groups may hold each other, and the same one may have many names
TENSORS = 10_000
RPN = ("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred")


def read_matterport(path: str | Path) -> tuple[Params, Manifest]:
    """Read matterport's weights, or one of Keras's ImageNet backbones.

    Parameters
    ----------
    path : str or Path
        An ``.h5`` file of Keras 2 (or of Keras 1 for ImageNet): HDF5, as ``files.sniff`` says.

    Returns
    -------
    params : dict of str to ndarray
        Float32 (or float64, if the file is).
    manifest : Manifest
        What the tensors tell, and what Keras's code takes for granted.

    Raises
    ------
    WeightFileError
        h5py is missing; the file is cut short, damaged, or of another version of Keras.
    WeightMismatchError
        The tensors are not those of a whole network; the message is a table.

    Notes
    -----
    Nothing is read before all names and shapes are known to be right, and no link is followed out of the file.
    """
    h5py, path = _h5py(), Path(path)
    try:
        with h5py.File(path, "r") as file:
            found = _datasets(_layers_group(file, path, h5py), path, h5py)
            found = {name: dataset for name, dataset in found.items() if name.rpartition("/")[0] not in NOT_NEEDED}
            manifest = _match(found, path)
            _check_numbers(found, path)
            weights = {theirs: _read(dataset) for theirs, dataset in found.items()}
    except MemoryError as error:
        raise WeightFileError(f"{path} takes more memory than there is to read") from error
    except ConfigError as error:
        raise WeightFileError(f"{path} holds no network: {one_line(error)}") from error
    except (*DAMAGE, OSError, RuntimeError) as error:  # what h5py makes of damage
        raise WeightFileError(f"{path} is cut short or damaged: {one_line(error)}") from error
    return from_matterport(weights), manifest


def write_matterport(path: str | Path, params: Mapping[str, np.ndarray]) -> None:
    """Write our parameters as matterport's ``model.keras_model.save_weights`` does.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    params : mapping of str to ndarray
        Ours, of ``presets.matterport()``, or its backbone's alone.
    """
    h5py = _h5py()
    layers = by_layer(to_matterport(params))
    groups: dict[str, dict[str, np.ndarray]] = {}
    for layer, weights in layers.items():
        group = "rpn_model" if layer in RPN else layer
        groups.setdefault(group, {}).update({f"{layer}/{name}:0": w for name, w in weights.items()})
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in groups])
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.8"
        for name, weights in groups.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([weight.encode() for weight in weights])
            for weight, w in weights.items():
                group.create_dataset(weight, data=w)
    atomic_write(Path(path), content.getvalue())


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise WeightFileError("Keras's .h5 files need h5py: not installed; pip install 'mrcnn-np[keras]'") from error
    return h5py


def _layers_group(file: Any, path: Path, h5py: Any) -> Any:
    """Return the group that holds the layers."""
    groups = [file]
    if isinstance(file.get("model_weights", getlink=True), h5py.HardLink):
        groups.append(file["model_weights"])
    for group in groups:
        if any(name in group.attrs for name in ("layer_names", "layer_names0")):
            return group
    if "layers" in file or "_layer_checkpoint_dependencies" in file or "vars" in file:
        raise WeightFileError(
            f"{path} was written by Keras 3 (.weights.h5), whose layout differs; expected a file of Keras 2, such as "
            "matterport's mask_rcnn_coco.h5"
        )
    raise WeightFileError(f"{path} has no attribute layer_names: an HDF5 file, but not one of Keras's weights")


def _names(group: Any, attribute: str) -> list[str]:
    """Read a list of names; a long one is spread over attribute0, attribute1, ..."""
    keys = [attribute]
    if attribute not in group.attrs:
        parts = [key for key in group.attrs if re.fullmatch(attribute + r"[0-9]{1,6}", key)]
        keys = sorted(parts, key=lambda key: int(key[len(attribute) :]))
    names: list[str] = []
    for key in keys:
        stored = group.attrs.get_id(key)
        if len(stored.shape) != 1 or stored.dtype.kind not in "SO" or stored.shape[0] > TENSORS:
            raise ValueError(f"{key} is no list of names")
        names += [_name(name) for name in group.attrs[key]]
    return names


def _name(name: Any) -> str:
    if not isinstance(name, (bytes, str)):
        raise ValueError(f"{type(name).__name__} instead of a name")
    return name.decode() if isinstance(name, bytes) else name


def _datasets(root: Any, path: Path, h5py: Any) -> dict[str, Any]:
    """Return the dataset of every weight by ``layer/weight``, following no link."""
    found: dict[str, Any] = {}
    for layer in _names(root, "layer_names"):
        group = _child(root, layer, path, h5py)
        for weight in _names(group, "weight_names"):
            dataset = _child(group, weight, path, h5py)
            if not isinstance(dataset, h5py.Dataset):
                raise WeightFileError(f"{path}: {one_line(f'{layer}/{weight}')} is no dataset")
            name = _canonical(layer, weight)
            if name in found:
                raise WeightFileError(f"{path} has two tensors {one_line(name)}")
            found[name] = dataset
            if len(found) > TENSORS:
                raise WeightFileError(f"{path} has more than {TENSORS:,} tensors")
    return found


def _child(group: Any, name: str, path: Path, h5py: Any) -> Any:
    """Return what lies at ``a/b/c`` in the file itself: a link may lead to any other file."""
    for part in name.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise WeightFileError(f"{path} is damaged: it announces {shown(name)} and does not hold it")
        if not isinstance(link, h5py.HardLink):
            raise WeightFileError(f"{path}: {shown(name)} is a link; expected the numbers themselves")
        group = group[part]
    return group


def _canonical(layer: str, weight: str) -> str:
    """Return ``layer/weight`` without what versions of Keras add: ``:0``, numbers, a model's name in front."""
    *parents, leaf = weight.split("/")
    leaf = re.sub(r":\d+$", "", leaf)
    keras1 = re.fullmatch(rf"{re.escape(layer)}_({'|'.join(KERAS1_SUFFIXES)})(_\d+)?", leaf)
    if keras1 is not None:
        return f"{layer}/{KERAS1_SUFFIXES[keras1[1]]}"
    numbered = re.fullmatch(rf"({'|'.join(SUFFIXES.values())})_\d+", leaf)
    leaf = numbered[1] if numbered is not None else leaf
    # Within a model the weight's name says the layer, else the group does: the weight may say fpn_c5p5_3
    if our_layer(layer) is None and parents:
        inner = parents[-1]
        layer = inner if our_layer(inner) is not None else re.sub(r"_\d+$", "", inner)
    return f"{layer}/{leaf}"


def _match(found: Mapping[str, Any], path: Path) -> Manifest:
    """Check names, shapes and types of all tensors and say what they belong to."""
    ours = {our_name(theirs): our_shape(our_name(theirs), d.shape) for theirs, d in found.items()}
    first = "conv1" if "conv1/kernel" in found else "conv1_conv"
    manifest = infer(ours, named=first)
    if manifest is None:
        raise WeightFileError(f"{path} holds no ResNet that matterport's Mask R-CNN uses; layers: {_some(found)}")
    match(ours, shapes(manifest.spec(manifest.config())), path)
    return manifest


def _check_numbers(found: Mapping[str, Any], path: Path) -> None:
    """Check that all datasets are numbers in this file, and not many more than it has room for."""
    total = 0
    for theirs, dataset in found.items():
        if dataset.dtype.kind != "f":
            raise WeightFileError(f"{path}: {one_line(theirs)} is of type {dataset.dtype}; expected floating point")
        if dataset.external is not None or dataset.is_virtual:
            raise WeightFileError(
                f"{path}: the numbers of {one_line(theirs)} lie in another file; expected them in this one"
            )
        if dataset.shape is None or len(dataset.shape) > AXES:
            raise WeightFileError(f"{path}: {one_line(theirs)} has no shape that a weight can have")
        total += math.prod(dataset.shape) * dataset.dtype.itemsize
    if total > EXPANSION * path.stat().st_size + 1_000_000:
        raise WeightFileError(f"{path}: its tensors would take {total} bytes, the file has {path.stat().st_size}")


def _read(dataset: Any) -> np.ndarray:
    a = np.asarray(dataset[()])
    return a.astype(np.float64 if a.dtype.itemsize == 8 else np.float32, copy=False)


def _some(names: Mapping[str, Any]) -> str:
    layers = list(dict.fromkeys(one_line(name.rpartition("/")[0], 60) for name in names))
    return some_of(layers, 5) or "none"
