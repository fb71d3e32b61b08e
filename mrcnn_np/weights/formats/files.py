"""Any file of weights as a flat dictionary of arrays: what kind it is, its contents decide, not its name."""

from __future__ import annotations

import contextlib
import math
import mmap
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import WeightFileError
from ...files import did_you_mean_path
from ...schema import one_line
from ..place import runs_in
from . import torch_files
from .npz import EXPANSION, read_npz
from .pickled import ARRAYS, TENSORS, described, finished
from .safetensors_files import read_safetensors
from .unpickling import DAMAGE, Budget, load

HDF5 = b"\x89HDF\r\n\x1a\n"
EXPECTED = (
    "expected a file of torch.save, safetensors, a detectron2 .pkl, a Keras .h5, or weights written by this package"
)
#: what the libraries make of damaged files: encryption and compression that are not there are RuntimeErrors
READING = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, *DAMAGE)


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes
    ----------
    kind : str
        ``"torch"``, ``"safetensors"``, ``"pickle"``, ``"npz"``.
    tensors : dict of str to ndarray
        Some may be views of each other, or read-only.
    metadata : mapping
        Texts of a safetensors header, or what stands beside the tensors (``__author__`` ...).
    """

    kind: str
    tensors: dict[str, np.ndarray]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def sniff(path: Path) -> str:
    """Tell the kind of a file by its first bytes.

    Returns
    -------
    str
        ``"hdf5"``, ``"torch"``, ``"npz"``, ``"safetensors"`` or ``"pickle"``.

    Raises
    ------
    WeightFileError
        There is no such file, or it is of none of these kinds.
    """
    if path.is_dir():
        raise WeightFileError(f"{path} is a folder; {EXPECTED}")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise WeightFileError(f"{path} is no regular file; {EXPECTED}")
        size = status.st_size
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        meant = (did_you_mean_path(path) or runs_in(path.parent)) if missing else ""
        raise WeightFileError(f"cannot read {path}: {error.strerror or error}{meant}") from error
    if not head:
        raise WeightFileError(f"{path} is empty; {EXPECTED}")
    if head.startswith(HDF5):
        return "hdf5"
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head.startswith(torch_files.MAGIC):
        return "torch"
    if head[8:9] == b"{" and len(head) > 8:
        (length,) = struct.unpack("<Q", head[:8])
        if length > size - 8:
            raise WeightFileError(
                f"{path} looks like safetensors, but its header of {length} bytes does not fit into {size} bytes: "
                "it is cut short or damaged"
            )
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if head.startswith(b"version https://git-lfs"):
        raise WeightFileError(f"{path} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    if head.lstrip()[:9].lower() in (b"<!doctype", b"<html>") or head.lstrip()[:5].lower() == b"<html":
        raise WeightFileError(f"{path} is a web page: the download brought a message instead of the file")
    raise WeightFileError(f"{path} is no file of weights; {EXPECTED}")


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except READING as error:
        raise WeightFileError(f"{path} is a zip archive that is cut short or damaged: {error}") from error
    return "npz" if names and all(name.endswith(".npy") for name in names) else "torch"


def read(path: Path) -> Contents:
    """Read any kind but HDF5, whose reader is ``weights.matterport``.

    Raises
    ------
    WeightFileError
        The file is no file of weights, damaged, or asks for something other than arrays.
    """
    kind = sniff(path)
    with naming(path):
        if kind == "safetensors":
            contents = Contents("safetensors", *read_safetensors(path))
        elif kind == "npz":
            contents = Contents("npz", read_npz(path))
        else:
            content = torch_files.read_torch(path) if kind == "torch" else _read_pickle(path)
            contents = _state_dict(kind, content)
        _check_size(contents.tensors, path.stat().st_size)
    return contents


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of what goes wrong while it is read."""
    try:
        yield
    except WeightFileError as error:
        raise type(error)(f"{path}: {error}") from error
    except MemoryError as error:
        raise WeightFileError(f"{path} takes more memory than there is to read") from error
    except OSError as error:
        raise WeightFileError(f"cannot read {path}: {error.strerror or error}") from error
    except READING as error:
        raise WeightFileError(f"{path} is cut short or damaged: {one_line(error) or type(error).__name__}") from error


def _read_pickle(path: Path) -> Any:
    budget = Budget(path.stat().st_size)
    functions = ARRAYS | TENSORS | torch_files.nested(budget)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        return load(stream, functions, budget, passive=torch_files.PASSIVE)  # type: ignore[arg-type]


WRAPPERS = ("model", "state_dict", "model_state_dict", "blobs")
#: wrappers within wrappers; there are two at most, and a dictionary may contain itself
DEPTH = 8
PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def _state_dict(kind: str, content: Any) -> Contents:
    """Find the dictionary of tensors in what was saved, alone or with the state of a training run."""
    metadata: dict[str, Any] = {}
    for _ in range(DEPTH):
        wrapper = next((w for w in WRAPPERS if isinstance(content, dict) and isinstance(content.get(w), dict)), None)
        if wrapper is None:
            break
        metadata |= {k: v for k, v in content.items() if isinstance(v, (str, bool, int, float)) and isinstance(k, str)}
        content = content[wrapper]
    tensors = {}
    if isinstance(content, dict):
        named = ((name, finished(value)) for name, value in content.items())
        tensors = {name: value for name, value in named if isinstance(value, np.ndarray) and isinstance(name, str)}
    if not tensors:
        what = f"a dictionary of {_some(content) or 'nothing'}" if isinstance(content, dict) else described(content)
        raise WeightFileError(f"it holds {what}; expected a state_dict, tensors by name")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return Contents(kind, tensors, metadata)


def _some(names: Any, shown: int = 5) -> str:
    listed = [described(name) for name, _ in zip(names, range(shown))]
    return ", ".join(listed) + (" ..." if len(names) > shown else "")


def _check_size(tensors: Mapping[str, np.ndarray], size: int) -> None:
    # a tensor of no numbers counts as if it had some: (2**40, 0) takes nothing, but a column beside it does
    total = sum(a.itemsize * math.prod(max(n, 1) for n in a.shape) for a in tensors.values())
    if total > EXPANSION * size + 1_000_000:
        raise WeightFileError(f"its tensors would take {total} bytes, the file has {size}: it is damaged or malicious")
