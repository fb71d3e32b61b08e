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
import safetensors
import safetensors.numpy

from ..config import Config
from ..errors import CheckpointError, ConfigError
from ..files import atomic_write
from ..params import Params

FORMAT = 1
KEY = "mrcnn_np"


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
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = _header(path, file.metadata() or {})
            # a copy, because training changes the arrays in place
            tensors = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is cut short or damaged: {error}") from error
    _verify(path, tensors, header["checksums"])
    # safetensors sorts by name; the order of the data flow is that of the checksums
    tensors = {name: tensors[name] for name in header["checksums"]}
    try:
        config = Config.from_dict(header["config"])
    except ConfigError as error:
        raise CheckpointError(f"{path} was written by another version of this package: {error}") from error
    return Checkpoint(
        step=header["step"],
        seed=header["seed"],
        config=config,
        class_names=tuple(header["class_names"]),
        params=_part(tensors, "params/"),
        velocity=_part(tensors, "velocity/"),
        images=header["images"],
        skipped=tuple(header["skipped"]),
    )


def _header(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but no checkpoint of mrcnn-np (its metadata lacks {KEY!r})"
        )
    try:
        envelope = json.loads(metadata[KEY])
        intact = zlib.crc32(envelope["header"].encode()) == envelope["crc32"]
        header = json.loads(envelope["header"]) if intact else None
    except (ValueError, KeyError, TypeError, AttributeError):
        header = None
    if header is None:
        raise CheckpointError(f"{path} is damaged: the checksum of its header does not fit")
    if header["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {header['format']}; this version of mrcnn-np reads format {FORMAT}")
    return header


def _verify(path: Path, tensors: Params, checksums: dict[str, int]) -> None:
    if set(tensors) != set(checksums):
        odd = sorted(set(tensors) ^ set(checksums))
        raise CheckpointError(f"{path} is damaged: tensor {odd[0]!r} is missing or too many")
    for name, tensor in tensors.items():
        if checksum(tensor) != checksums[name]:
            raise CheckpointError(f"{path} is damaged: the checksum of tensor {name!r} does not fit")


def _part(tensors: Params, prefix: str) -> Params:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def config_differences(theirs: Config, ours: Config, *, ignore: tuple[str, ...] = ()) -> list[str]:
    """List the fields in which two configurations differ, one readable line each."""
    a, b = theirs.to_dict(), ours.to_dict()
    return [
        f"{field}: {a[field]!r} there, {b[field]!r} here" for field in a if a[field] != b[field] and field not in ignore
    ]


def check_resumable(
    checkpoint: Checkpoint, *, config: Config, seed: int, class_names: tuple[str, ...], images: str
) -> None:
    """Raise ``CheckpointError`` unless training can go on from a checkpoint as if it had never stopped.

    Notes
    -----
    Only ``config.steps`` may differ: a finished run can be made longer. The learning rate then follows the new
    schedule, so a run of 500 + 500 steps is no run of 1000 if the rate had dropped before step 500.
    """
    rows = config_differences(checkpoint.config, config, ignore=("steps",))
    if checkpoint.seed != seed:
        rows.append(f"seed: {checkpoint.seed} there, {seed} here")
    if checkpoint.class_names != class_names:
        rows.append(f"class names: {', '.join(checkpoint.class_names)} there, {', '.join(class_names)} here")
    elif checkpoint.images != images:
        rows.append("images: the data set has other image ids, or another order of them, than the one trained on")
    if rows:
        raise CheckpointError("the checkpoint belongs to another run:\n" + "\n".join(f"  {row}" for row in rows))
    if checkpoint.step > config.steps:
        raise CheckpointError(f"the checkpoint is at step {checkpoint.step} already; --steps {config.steps} is too few")
