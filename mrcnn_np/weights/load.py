"""``load_weights`` and ``save_weights``: any file of weights to parameters and a manifest, and back to a file."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from ..config import Config
from ..config.presets import by_name
from ..errors import CheckpointError, ConfigError, UserError, WeightFileError, WeightMismatchError
from ..files import atomic_write
from ..network import spec
from ..params import Params, Spec, draw, shapes
from ..schema import one_line, shown
from ..training.checkpoint import KEY as CHECKPOINT_KEY
from ..training.checkpoint import load_checkpoint
from . import detectron2, imagenet, torchvision
from .architecture import SIZES
from .class_names import coco_names
from .formats.files import Contents, naming, read, sniff
from .manifest import KEY, Manifest, match
from .place import file_of

FORMATS = ("mrcnn-np", "torchvision", "detectron2", "imagenet", "matterport")


class Weights(NamedTuple):
    """What ``load_weights`` returns.

    Attributes
    ----------
    params : dict of str to ndarray
        All of one type, float32 or float64, in the order of ``network.spec``.
    manifest : Manifest
    aside : tuple of str
        Tensors of the file that are not used, the classifier of a backbone for example.
    drawn : tuple of str
        Parameters that were not in the file and start at random, the heads above a backbone for example.
    """

    params: Params
    manifest: Manifest
    aside: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()

    @property
    def loaded(self) -> Params:
        """Those of ``params`` that were in the file."""
        return {name: p for name, p in self.params.items() if name not in self.drawn}


def load_weights(
    path: str | Path,
    config: Config | None = None,
    *,
    preset: str | None = None,
    format: str = "auto",
    trust_config: bool = False,
    rng: np.random.Generator | None = None,
) -> Weights:
    """Read weights of any kind; nothing in the file is executed.

    Parameters
    ----------
    path : path
        Of ``torch.save`` (torchvision's or detectron2's names), safetensors, a detectron2 ``.pkl``, a Keras ``.h5``, or
        weights or a checkpoint of this package. The contents decide, not the name. The folder of a run stands for its
        checkpoint.
    config : Config, optional
        The network they are for. Without it they say themselves, see ``Manifest.config``.
    preset : str, optional
        Instead of a config: only the conventions of this preset will do, the sizes are those of the file.
    format : str
        ``"auto"``, or one of ``FORMATS`` to refuse anything else.
    trust_config : bool
        Where ``config`` contradicts the conventions of the manifest, ``config`` is right. Many conventions do not stand
        in the file and are presumed.
    rng : numpy.random.Generator, optional
        Draws what the file does not have, if it is a backbone; ``numpy.random.default_rng(0)`` if not given.

    Returns
    -------
    Weights
        ``params, manifest, aside, drawn``; ``MaskRCNN(weights.manifest.config(), weights.params)`` is the network.

    Raises
    ------
    WeightFileError
        No file of weights, a damaged one, or one that asks for something other than arrays.
    WeightMismatchError
        The weights are those of another network, or of other conventions than ``config`` has.
    """
    path = file_of(path)
    if format not in ("auto", *FORMATS):
        raise UserError(f"unknown format of weights {format!r}; expected auto or one of {', '.join(FORMATS)}")
    params, manifest, aside = _read(path, format, config or (None if preset is None else by_name(preset)))
    if config is None:
        config = manifest.config() if preset is None else _of_preset(manifest, preset, path)
    elif trust_config:
        manifest = trusting(manifest, config)
    else:
        manifest.check(config, path)
    params, expected = as_read(params, manifest.spec(config), manifest)
    match(shapes(params), shapes(expected), path)
    params = _one_type(params, path)
    rest = {name: tensor for name, tensor in spec(config).items() if name not in expected}
    dtype = next(iter(params.values())).dtype.type
    params = {name: params[name] for name in expected} | draw(rest, rng or np.random.default_rng(0), dtype)
    return Weights(params, manifest, tuple(aside), tuple(rest))


def as_read(params: Params, expected: dict[str, Spec], manifest: Manifest) -> tuple[Params, dict[str, Spec]]:
    """Leave out what a backbone's file has and the network does not read, and what such a file may lack.

    A network without pyramid may have no place for C5, or for VGG's fc6 and fc7, and a file of VGG's features has no
    fc6 and fc7.

    Parameters
    ----------
    params : dict of str to ndarray
        Of the file.
    expected : dict of str to Spec
        What the network could take from it.
    manifest : Manifest
        Of the weights; those of a whole network stay as they are.

    Returns
    -------
    params : dict of str to ndarray
    expected : dict of str to Spec
    """
    if manifest.num_classes is not None:
        return params, expected
    head = "box_head.fc"
    unread = tuple(s for s in ("backbone.c5.", head) if not any(name.startswith(s) for name in expected))
    if not any(name.startswith(head) for name in params):
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith(head)}
    return {name: p for name, p in params.items() if not name.startswith(unread)}, expected


def _of_preset(manifest: Manifest, preset: str, path: Path) -> Config:
    """Return the config of the weights if it is that of the preset; its sizes may be others.

    Parameters
    ----------
    manifest : Manifest
        Of the weights.
    preset : str
    path : Path
        Of the file, for messages.
    """
    config = manifest.config()
    if manifest.preset != preset:
        manifest.check(by_name(preset, **{name: getattr(config, name) for name in ("backbone", *SIZES)}), path)
        raise WeightMismatchError(f"{path} belongs to the preset {manifest.preset!r}, not {preset!r}")
    return config


def _read(path: Path, format: str, config: Config | None) -> tuple[Params, Manifest, list[str]]:
    """Read a file and translate what is in it.

    Parameters
    ----------
    path : Path
    format : str
        What is expected, or ``"auto"``.
    config : Config or None
        The network that the weights are for, if that is known.
    """
    if sniff(path) == "hdf5":
        _require(path, "matterport", format)
        from .formats.keras_h5 import read_matterport

        params, manifest = read_matterport(path)
        if not manifest.class_names:
            names = coco_names(manifest.num_classes)
            manifest = replace(manifest, class_names=names, presumed=(*manifest.presumed, "class_names"))
        return params, manifest, []
    contents = read(path)
    if CHECKPOINT_KEY in contents.metadata and contents.kind == "safetensors":
        _require(path, "mrcnn-np", format)
        checkpoint = load_checkpoint(path)
        manifest = Manifest.from_config(
            checkpoint.config, source="training of mrcnn-np", class_names=checkpoint.class_names
        )
        return checkpoint.params, manifest, []
    tensors = contents.tensors
    with naming(path):
        try:
            if torchvision.recognise(tensors):
                _require(path, "torchvision", format)
                return torchvision.read_torchvision(tensors)
            if detectron2.recognise(tensors):
                _require(path, "detectron2", format)
                return detectron2.from_detectron2(tensors, contents.metadata)
            if imagenet.recognise(tensors):
                _require(path, "imagenet", format)
                return imagenet.from_imagenet(tensors)
        except CheckpointError as error:  # a name that such a network does not have
            raise WeightMismatchError(str(error)) from error
        except ConfigError as error:  # a size that no network has
            raise WeightMismatchError(f"its tensors are those of no network: {one_line(error)}") from error
        _require(path, "mrcnn-np", format)
        return dict(tensors), _own_manifest(contents, config), []


def _require(path: Path, found: str, wanted: str) -> None:
    """Refuse a file of another format than the one that was asked for.

    Parameters
    ----------
    path : Path
    found, wanted : str
        Formats.
    """
    if wanted not in ("auto", found):
        raise WeightFileError(f"it holds weights of {found}, not of {wanted}")


def _own_manifest(contents: Contents, config: Config | None) -> Manifest:
    if isinstance(contents.metadata.get(KEY), str):
        return Manifest.from_json(contents.metadata[KEY], "the file")
    if not any(name.startswith("backbone.") and name.endswith((".w", ".gamma")) for name in contents.tensors):
        some = ", ".join(one_line(name, 60) for name in list(contents.tensors)[:4])
        raise WeightFileError(f"its tensors ({some} ...) are those of no network that is known here")
    if config is None:
        raise WeightFileError("it has no manifest; say which configuration it belongs to")
    return Manifest.from_config(config, source="mrcnn-np")


def trusting(manifest: Manifest, config: Config) -> Manifest:
    """Return the manifest with the conventions of ``config``."""
    return Manifest.from_config(
        config,
        source=manifest.source,
        backbone_only=manifest.num_classes is None,
        **{name: getattr(manifest, name) for name in FILE_FIELDS},
    )


FILE_FIELDS = ("class_names", "delta_order", "box_order", "background", "flatten_order")


def _one_type(params: Mapping[str, np.ndarray], path: Path) -> Params:
    """Convert all parameters to float32, or to float64 if one of them is."""
    strange = [name for name, a in params.items() if a.dtype.kind != "f"]
    if strange:
        raise WeightFileError(f"{path}: tensor {shown(strange[0])} is {params[strange[0]].dtype}; expected floats")
    dtype = np.float64 if any(a.dtype.itemsize == 8 for a in params.values()) else np.float32
    return {name: np.require(a, dtype, ["C", "W", "O"]) for name, a in params.items()}


# --- writing --------------------------------------------------------------------------------------------------------


def save_weights(
    path: str | Path,
    params: Mapping[str, np.ndarray],
    config: Config,
    format: str = "safetensors",
    *,
    manifest: Manifest | None = None,
) -> None:
    """Write parameters so that reading them returns the same bits.

    Parameters
    ----------
    path : path
        Replaced atomically.
    params : mapping of str to ndarray
        Those of ``config``, or its backbone's alone, if the manifest says so (``num_classes`` is None).
    config : Config
    format : str
        ``"safetensors"``: our names, with a manifest. ``"torchvision"``: a ``state_dict`` that torchvision's model
        loads with ``strict=True``, by ``torch.save``, or as safetensors where PyTorch is not installed.
    manifest : Manifest, optional
        Kept in the file; by default what ``config`` says.

    Raises
    ------
    WeightMismatchError
        The parameters are not those of ``config``, or torchvision's model does not compute what ``config`` says.
    """
    path = Path(path)
    manifest = manifest or Manifest.from_config(config, source="mrcnn-np")
    manifest.check(config, "the manifest")
    match(shapes(params), shapes(manifest.spec(config)), "the set of parameters")
    if format == "safetensors":
        tensors = {name: np.asarray(a, order="C") for name, a in params.items()}
        atomic_write(path, safetensors.numpy.save(tensors, {KEY: manifest.to_json()}))
    elif format == "torchvision":
        if manifest.num_classes is None:
            raise WeightMismatchError(f"torchvision's Mask R-CNN needs more than the {manifest.backbone} that there is")
        atomic_write(path, _torchvision_file(params, config))
    else:
        raise UserError(f"cannot write weights as {format!r}; expected safetensors or torchvision")


def _torchvision_file(params: Mapping[str, np.ndarray], config: Config) -> bytes:
    if config.neck != "fpn" or not (config.mask_branch or config.keypoints):
        what = "no pyramid" if config.neck != "fpn" else "no mask branch"
        raise WeightMismatchError(f"torchvision's Mask R-CNN has a pyramid and masks; this network has {what}")
    theirs: dict[str, Any] = {name: getattr(config, name) for name in ("backbone", "bn_eps", *SIZES)}
    preset = "torchvision_v2" if config.box_head == "conv_fc" else "torchvision"
    Manifest.from_config(config, source="mrcnn-np").check(
        by_name(preset, **theirs, mask_branch=config.mask_branch), "torchvision's model"
    )
    state = torchvision.to_torchvision(params, torchvision.state_shapes(config), channels=config.fpn_channels)
    if importlib.util.find_spec("torch") is None:
        return safetensors.numpy.save(state)
    import torch

    out = io.BytesIO()
    torch.save({name: torch.from_numpy(a) for name, a in state.items()}, out)
    return out.getvalue()
