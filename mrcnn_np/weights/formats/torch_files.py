"""Files of ``torch.save`` without PyTorch: the zip format (since 1.6) and the stream before it.

Both keep the structure (dictionaries, names, shapes, strides) in a pickle and the numbers beside it as raw *storages*,
to which the pickle refers by key::

    zip                             stream
    NAME/data.pkl                   pickle: a magic number
    NAME/byteorder   (optional)     pickle: version of the protocol
    NAME/data/0                     pickle: sizes of int, byte order
    NAME/data/1 ...                 pickle: the structure
    NAME/version                    pickle: list of keys; then for each key the count and the numbers

Where PyTorch is installed, ``torch.load(weights_only=True)`` does the same. Before 2.6 that call could still be made to
run code (CVE-2025-32434), so our own reader replaces it there. Our reader also has the last word on what PyTorch's
refuses: PyTorch's messages advise to switch its safety off.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import WeightFileError
from .pickled import ARRAYS, TENSORS, Name, Storage
from .unpickling import load

#: the first pickle of a stream, an integer that PyTorch chose
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
#: names of PyTorch's storage types; bfloat16 is the upper half of a float32
STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bf16", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "b1",
}  # fmt: skip
PASSIVE = frozenset(
    Name(module, name) for name in STORAGES for module in ("torch", "torch.storage", "torch.cuda")
) | frozenset([Name("torch.serialization", "_get_layout")])


def read_torch(path: Path) -> Any:
    """Read a file of ``torch.save``, by PyTorch itself if there is one that can be trusted with it.

    Returns
    -------
    object
        Containers, numbers and arrays (float16 stays, bfloat16 becomes float32).

    Raises
    ------
    WeightFileError
        The file asks for something other than containers and tensors.
    DAMAGE, zipfile.BadZipFile
        The file is cut short or damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _root(archive, path.stat().st_size)  # refuse what makes false claims before anyone reads it
            bad = archive.testzip()  # PyTorch does not look at the checksums
            if bad is not None:
                raise zipfile.BadZipFile(f"the checksum of {bad} is wrong; copy or download the file again")
    if _torch_can_be_trusted():
        return _by_torch(path)
    return _by_ourselves(path)


def _by_ourselves(path: Path) -> Any:
    return read_zip(path) if zipfile.is_zipfile(path) else read_stream(io.BytesIO(path.read_bytes()))


def _torch_can_be_trusted() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return (major, minor) >= (2, 6)


def _by_torch(path: Path) -> Any:
    import argparse

    import torch

    try:
        # torchvision's reference scripts put the options of the run, a Namespace, beside the weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # which ones a damaged file brings about is documented nowhere
        return _by_ourselves(path)
    return _as_arrays(content)


def _as_arrays(value: Any) -> Any:
    """Turn tensors into arrays, those in dictionaries too."""
    import torch

    if isinstance(value, Mapping):
        return {key: _as_arrays(v) for key, v in value.items()}
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise WeightFileError(f"it holds a tensor of type {value.dtype}, {value.layout}; expected plain numbers")
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return value


# --- zip ------------------------------------------------------------------------------------------------------------


def _root(archive: zipfile.ZipFile, size: int) -> str:
    """Return the folder in which everything lies; check what the table of contents claims."""
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any(name.endswith("/constants.pkl") for name in names):
        raise WeightFileError("it is a TorchScript program; expected a state_dict, saved by torch.save")
    if len(roots) != 1:
        raise WeightFileError("it is a zip archive, but not one of torch.save: it has no data.pkl")
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise WeightFileError("it is a compressed archive, which torch.save never makes")
    if sum(member.file_size for member in members) > size:
        raise WeightFileError("it claims to hold more than its size: it is cut short, damaged or malicious")
    return roots[0]


def read_zip(path: Path) -> Any:
    """Read the zip format; see ``read_torch``."""
    with zipfile.ZipFile(path) as archive:
        root = _root(archive, path.stat().st_size)
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.namelist() else b"little"
        storages: dict[str, Storage] = {}

        def persistent(reference: Any) -> Storage:
            kind, dtype, key, _, count = reference
            if kind != "storage":
                raise ValueError(f"a reference to a {kind!r}")
            if key not in storages:
                storages[key] = _storage(archive.read(f"{root}data/{key}"), dtype, count, big=order == b"big")
            return storages[key]

        structure = io.BytesIO(archive.read(f"{root}data.pkl"))
        return load(structure, ARRAYS | TENSORS | NESTED, passive=PASSIVE, persistent=persistent)


def _storage(raw: Any, dtype: Any, count: Any, *, big: bool = False) -> Storage:
    """Make a storage of its bytes; their number must be what the structure says."""
    data = np.frombuffer(raw, _dtype(dtype).newbyteorder(">" if big else "<"))
    if data.size != count:
        raise ValueError(f"a storage of {data.size} numbers where {count} are announced")
    if STORAGES[dtype.name] == "bf16":
        return Storage((data.astype(np.uint32) << 16).view(np.float32))
    return Storage(data.astype(data.dtype.newbyteorder("="), copy=False))


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, Name) or name.name not in STORAGES:
        raise ValueError(f"a storage of type {name!r}")
    code = STORAGES[name.name]
    return np.dtype("u2" if code == "bf16" else code)


# --- stream ---------------------------------------------------------------------------------------------------------


def read_stream(file: io.BytesIO, *, nested: bool = False) -> Any:
    """Read the format before PyTorch 1.6, in which many published weights still are; see ``read_torch``."""
    magic, _, system = (load(file, {}) for _ in range(3))
    if magic != pickle.loads(MAGIC):
        raise ValueError("it does not begin like a file of torch.save")
    big = not system.get("little_endian", True)
    functions = ARRAYS | TENSORS if nested else ARRAYS | TENSORS | NESTED

    # The structure comes before the numbers: the first time it is read for the types of the storages only
    structure_at = file.tell()
    types: dict[str, Any] = {}

    def note(reference: Any) -> None:
        kind, dtype, key, _, _, view = reference
        if kind != "storage" or view is not None:
            raise ValueError(f"a reference to a {kind!r}, {view!r}")
        types[key] = dtype

    load(file, functions | dict.fromkeys(TENSORS | NESTED, _nothing), passive=PASSIVE, persistent=note)
    storages = {}
    for key in load(file, {}):
        count = int.from_bytes(file.read(8), "big" if big else "little")
        storages[key] = _storage(file.read(count * _dtype(types[key]).itemsize), types[key], count, big=big)

    def fetch(reference: Any) -> Storage:
        _, dtype, key, _, count, _ = reference
        if dtype != types[key] or count != storages[key].data.size:
            raise ValueError(f"storage {key!r} has {storages[key].data.size} numbers, not {count}")
        return storages[key]

    file.seek(structure_at)
    return load(file, functions, passive=PASSIVE, persistent=fetch)


def _nothing(*_: Any) -> None:
    return None


def _from_bytes(data: Any) -> Any:
    """Read the storage of a tensor pickled by itself: bytes that hold a stream, in which there are no more of them."""
    return read_stream(io.BytesIO(data), nested=True)


NESTED: dict[Name, Callable[..., Any]] = {Name("torch.storage", "_load_from_bytes"): _from_bytes}
