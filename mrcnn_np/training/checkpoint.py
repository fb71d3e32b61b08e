"""Checkpoints: everything that training needs to continue, in one safetensors file.

The file holds ``params/<name>`` for every parameter (running statistics included) and ``velocity/<name>`` for every
tensor the optimiser moves. Its metadata has a single entry, a JSON text with the step, the seed, the configuration, the
class names and a checksum of every tensor. Single, because safetensors does not promise the order of several entries,
and two runs with one seed are to write the same bytes.

There is no random-generator state in it: the draws of a step depend on the seed and the step's number alone
(``mrcnn_np.training.loop.stream``).
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ..config import Config
from ..errors import CheckpointError, ConfigError, WeightFileError
from ..files import atomic_write
from ..params import Params
from ..schema import loads, one_line, shown

FORMAT = 1
KEY = "mrcnn_np"
#: differences that a message has
SHOWN = 5
#: a value of the configuration; ``Config.from_dict`` knows which field has which
VALUE = (None, bool, int, float, str)
#: what a header holds; what a later version adds is left aside
HEADER = {
    "format": int,
    "step": range(1 << 62),
    "seed": range(1 << 256),
    "config": {str: (*VALUE, [VALUE])},
    "class_names": [str],
    "images": str,
    "skipped": [str],
    "checksums": {str: range(1 << 32)},
    ...: object,
}


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a training run.

    Attributes
    ----------
    step : int
        Steps done.
    seed : int
    config : Config
    class_names : tuple of str
        ``class_names[0]`` is the background.
    params, velocity : dict of str to ndarray
    images : str
        Checksum of the data set's image ids; training goes on with the same images only.
    skipped : tuple of str
        Ids of images that could not be read so far.
    """

    step: int
    seed: int
    config: Config
    class_names: tuple[str, ...]
    params: Params
    velocity: Params
    images: str = ""
    skipped: tuple[str, ...] = ()


def checksum(tensor: np.ndarray) -> int:
    """Return the CRC-32 of an array's dtype, shape and bytes."""
    start = zlib.crc32(f"{tensor.dtype.str}{tensor.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data, start)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises
    ------
    UserError
        The file cannot be written; an older checkpoint of that name is untouched.
    """
    # not ascontiguousarray, which turns a number of shape () into an array of shape (1,)
    tensors = {f"params/{name}": np.asarray(t, order="C") for name, t in checkpoint.params.items()}
    tensors |= {f"velocity/{name}": np.asarray(t, order="C") for name, t in checkpoint.velocity.items()}
    header = {
        "format": FORMAT,
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "config": checkpoint.config.to_dict(),
        "class_names": checkpoint.class_names,
        "images": checkpoint.images,
        "skipped": checkpoint.skipped,
        "checksums": {name: checksum(t) for name, t in tensors.items()},
    }
    text = json.dumps(header)
    metadata = {KEY: json.dumps({"crc32": zlib.crc32(text.encode()), "header": text})}
    atomic_write(path, safetensors.numpy.save(tensors, metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify every byte that matters.

    Raises
    ------
    CheckpointError
        The file is missing, cut short, damaged, no checkpoint of this package, or of a newer version of it.
    """
    from ..weights.formats.safetensors_files import read_safetensors  # whose package imports this module

    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        tensors, metadata = read_safetensors(path)
        header = _header(path, metadata)
        _verify(tensors, header["checksums"])
    except (WeightFileError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is cut short or damaged: {one_line(error)}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path} takes more memory than there is to read") from error
    # safetensors sorts by name; the order of the data flow is that of the checksums
    tensors = {name: tensors[name] for name in header["checksums"]}
    try:
        config = Config.from_dict(header["config"])
    except ConfigError as error:
        raise CheckpointError(f"{path} was written by another version of this package: {one_line(error)}") from error
    names = tuple(header["class_names"])
    if len(names) != config.num_classes:
        raise CheckpointError(f"{path}: it names {len(names)} classes, but its network has {config.num_classes}")
    params, velocity = _part(tensors, "params/"), _part(tensors, "velocity/")
    _check_velocity(path, params, velocity)
    return Checkpoint(
        step=header["step"],
        seed=header["seed"],
        config=config,
        class_names=names,
        params=params,
        velocity=velocity,
        images=header["images"],
        skipped=tuple(header["skipped"]),
    )


def _header(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """Read the header; a ``ValueError`` says what is damaged."""
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but no checkpoint of mrcnn-np (its metadata lacks {KEY!r})"
        )
    envelope = loads(metadata[KEY], {"crc32": range(1 << 32), "header": str}, "its header")
    if zlib.crc32(envelope["header"].encode()) != envelope["crc32"]:
        raise ValueError("the checksum of its header does not fit")
    number = loads(envelope["header"], {"format": int, ...: object}, "its header")["format"]
    if number != FORMAT:
        raise CheckpointError(f"{path} has format {shown(number)}; this version of mrcnn-np reads format {FORMAT}")
    header: dict[str, Any] = loads(envelope["header"], HEADER, "its header")
    return header


def _verify(tensors: Params, checksums: dict[str, int]) -> None:
    """Compare every tensor with its checksum; a ``ValueError`` says which one is damaged."""
    if set(tensors) != set(checksums):
        odd = sorted(set(tensors) ^ set(checksums))
        raise ValueError(f"tensor {shown(odd[0])} is missing or too many")
    for name, tensor in tensors.items():
        if checksum(tensor) != checksums[name]:
            raise ValueError(f"the checksum of tensor {shown(name)} does not fit")
        if tensor.dtype not in (np.float32, np.float64):
            raise ValueError(f"tensor {shown(name)} is {tensor.dtype}; expected float32 or float64")


def _check_velocity(path: Path, params: Params, velocity: Params) -> None:
    """Check that every velocity is that of a parameter."""
    for name, v in velocity.items():
        if name not in params or params[name].shape != v.shape or params[name].dtype != v.dtype:
            raise CheckpointError(f"{path}: the velocity of {shown(name)} does not fit its parameters")


def _part(tensors: Params, prefix: str) -> Params:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def config_differences(theirs: Config, ours: Config, *, ignore: tuple[str, ...] = ()) -> list[str]:
    """List the fields in which two configurations differ, one readable line each.

    Parameters
    ----------
    theirs, ours : Config
    ignore : tuple of str
        Fields that are not looked at.
    """
    a, b = theirs.to_dict(), ours.to_dict()
    return [
        f"{field}: {a[field]!r} there, {b[field]!r} here" for field in a if a[field] != b[field] and field not in ignore
    ]


def check_resumable(
    checkpoint: Checkpoint, *, config: Config, seed: int, class_names: tuple[str, ...], images: str
) -> None:
    """Raise ``CheckpointError`` unless training can go on from a checkpoint as if it had never stopped.

    Parameters
    ----------
    checkpoint : Checkpoint
    config : Config
        Of the run that is to go on, like all that follows.
    seed : int
    class_names : tuple of str
    images : str
        The fingerprint of the data set.

    Notes
    -----
    Only ``config.steps`` may differ: a finished run can be made longer. The learning rate then follows the new
    schedule, so a run of 500 + 500 steps is no run of 1000 if the rate had dropped before step 500.
    """
    rows, there, here = [], checkpoint.config.name, config.name
    if there != here:
        rows.append(f"preset: {there} there, {here} here")
    if checkpoint.seed != seed:
        rows.append(f"seed: {checkpoint.seed} there, {seed} here")
    if checkpoint.class_names != class_names:
        rows.append(f"class names: {', '.join(checkpoint.class_names)} there, {', '.join(class_names)} here")
    elif checkpoint.images != images:
        rows.append(
            f"images: {checkpoint.images} there, {images} here: other image ids, or another order of them (the last "
            "number is their checksum)"
        )
    rows += config_differences(checkpoint.config, config, ignore=("name", "steps"))
    if rows:
        listed = [f"  {row}\n" for row in (rows[:SHOWN] if len(rows) > SHOWN + 1 else rows)]
        more = f"  and {len(rows) - len(listed)} more\n" if len(listed) < len(rows) else ""
        raise CheckpointError(
            f"the checkpoint belongs to another run:\n{''.join(listed)}{more}to go on with it, leave out what differs; "
            "to begin a new run with what it has learned: --weights RUN/checkpoint.safetensors --out NEW, without "
            "--resume"
        )
    if checkpoint.step > config.steps:
        raise CheckpointError(f"the checkpoint is at step {checkpoint.step} already; --steps {config.steps} is too few")
