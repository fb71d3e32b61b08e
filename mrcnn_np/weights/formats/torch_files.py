"""Files of ``torch.save`` without PyTorch: the zip format (since 1.6) and the stream before it.

Both keep the structure (dictionaries, names, shapes, strides) in a pickle and the numbers beside it as raw *storages*,
to which the pickle refers by key::

    zip                             stream
    NAME/data.pkl                   pickle: a magic number
    NAME/byteorder   (optional)     pickle: version of the protocol
    NAME/data/0                     pickle: sizes of int, byte order
    NAME/data/1 ...                 pickle: the structure
    NAME/version                    pickle: list of keys; then for each key the count and the numbers

The same reader does it with and without PyTorch. ``torch.load(weights_only=True)`` runs no code either (since 2.6;
before, it could be made to, CVE-2025-32434), but a file of a hundred bytes can keep it busy for ever.
"""

from __future__ import annotations

import io
import mmap
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import WeightFileError
from .pickled import ARRAYS, TENSORS, UNTYPED, Name, Storage, described
from .unpickling import Budget, load

#: the first pickle of a stream, an integer that PyTorch chose
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
#: names of PyTorch's storage types; bfloat16 is the upper half of a float32
STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bf16", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "b1",
    "UntypedStorage": "u1",
}  # fmt: skip
ITEMSIZES = {code: 2 if code == "bf16" else np.dtype(code).itemsize for code in STORAGES.values()}
TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", *UNTYPED)
PASSIVE = (
    frozenset(Name(module, name) for name in STORAGES for module in ("torch", "torch.storage", "torch.cuda"))
    | frozenset(Name("torch", name) for name in (*TYPES, "Tensor"))
    | frozenset([Name("torch.serialization", "_get_layout")])
)
Functions = dict[Name, Callable[..., Any]]


def read_torch(path: Path) -> Any:
    """Read a file of ``torch.save``.

    Returns
    -------
    object
        Containers, numbers and arrays (float16 stays, bfloat16 becomes float32).

    Raises
    ------
    WeightFileError
        The file asks for something other than containers and tensors, or for too much.
    DAMAGE, zipfile.BadZipFile
        The file is cut short or damaged.
    """
    budget = Budget(path.stat().st_size)
    if zipfile.is_zipfile(path):
        return read_zip(path, budget)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        return read_stream(stream, nested(budget), budget)  # type: ignore[arg-type]


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


def read_zip(path: Path, budget: Budget) -> Any:
    """Read the zip format; see ``read_torch``."""
    with zipfile.ZipFile(path) as archive:
        root = _root(archive, path.stat().st_size)
        big = f"{root}byteorder" in archive.namelist() and _member(archive, f"{root}byteorder") == b"big"
        storages: dict[str, Storage] = {}

        def persistent(reference: tuple[Any, ...]) -> Storage:
            kind, dtype, key, _, count = reference
            _check_reference(kind, key)
            if key not in storages:
                storages[key] = _storage(_member(archive, f"{root}data/{key}"), dtype, count, big=big)
            return storages[key]

        structure = io.BytesIO(_member(archive, f"{root}data.pkl"))
        return load(structure, ARRAYS | TENSORS | nested(budget), budget, passive=PASSIVE, persistent=persistent)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one member, whose checksum must be right."""
    try:
        return archive.read(name)
    except zipfile.BadZipFile as error:
        if "CRC" not in str(error):
            raise
        raise zipfile.BadZipFile(f"the checksum of {name[:60]} is wrong; copy or download the file again") from error
    except KeyError:
        raise ValueError(f"it has no member {described(name)}") from None


def _check_reference(kind: Any, key: Any) -> None:
    if not isinstance(kind, str) or kind != "storage" or not isinstance(key, str):
        raise ValueError(f"a reference to {described(kind)} {described(key)}; expected a storage and its key")


def _storage(raw: bytes, dtype: Any, count: Any, *, big: bool = False) -> Storage:
    """Make a storage of its bytes; their number must be what the structure says."""
    code = _code(dtype)
    data = np.frombuffer(raw, np.dtype("u2" if code == "bf16" else code).newbyteorder(">" if big else "<"))
    if not isinstance(count, int) or data.size != count:
        raise ValueError(f"a storage of {data.size} numbers where {described(count)} are announced")
    if code == "bf16":
        return Storage((data.astype(np.uint32) << 16).view(np.float32))
    return Storage(data.astype(data.dtype.newbyteorder("="), copy=False))


def _code(name: Any) -> str:
    if not isinstance(name, Name) or name.name not in STORAGES:
        raise ValueError(f"a storage of type {described(name)}")
    return STORAGES[name.name]


# --- stream ---------------------------------------------------------------------------------------------------------


def read_stream(stream: IO[bytes], inner: Functions, budget: Budget) -> Any:
    """Read the format before PyTorch 1.6, in which many published weights still are; see ``read_torch``.

    Parameters
    ----------
    stream : file
        As for ``unpickling.load``.
    inner : dict
        What reads streams within this one: ``nested(budget)``, or nothing.
    budget : Budget
        Of the whole file.
    """
    magic, _, system = (load(stream, {}, budget) for _ in range(3))
    if not isinstance(magic, int) or magic != pickle.loads(MAGIC) or not isinstance(system, dict):
        raise ValueError("it does not begin like a file of torch.save")
    big = system.get("little_endian", True) is False
    functions = ARRAYS | TENSORS | inner

    # The structure comes before the numbers: the first time it is read for the types of the storages only
    structure_at = stream.tell()
    types: dict[str, Any] = {}

    def note(reference: tuple[Any, ...]) -> None:
        kind, dtype, key, _, _, view = reference
        _check_reference(kind, key)
        if view is not None:
            raise ValueError(f"a reference to a part of storage {described(key)}")
        types[key] = dtype

    load(stream, functions | dict.fromkeys(TENSORS | inner, _nothing), budget, passive=PASSIVE, persistent=note)
    storages: dict[str, Storage] = {}
    for key in _keys(load(stream, {}, budget), types):
        count, itemsize = int.from_bytes(stream.read(8), "big" if big else "little"), ITEMSIZES[_code(types[key])]
        raw = stream.read(count * itemsize)
        budget.hand_over((raw,))
        storages[key] = _storage(raw, types[key], count, big=big)

    def fetch(reference: tuple[Any, ...]) -> Storage:
        kind, dtype, key, _, count, _ = reference
        _check_reference(kind, key)
        if _code(dtype) != _code(types[key]) or not isinstance(count, int) or count != storages[key].data.size:
            raise ValueError(f"storage {described(key)} has {storages[key].data.size} numbers, not {described(count)}")
        return storages[key]

    stream.seek(structure_at)
    return load(stream, functions, budget, passive=PASSIVE, persistent=fetch)


def _keys(keys: Any, known: dict[str, Any]) -> list[str]:
    """Check the list of the storages that follow, each once."""
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in known for key in keys):
        raise ValueError("a list of storages that are not those of the structure")
    if len(set(keys)) != len(keys):
        raise ValueError("a list of storages that names one twice")
    return keys


def _nothing(*_: Any) -> None:
    return None


def nested(budget: Budget) -> Functions:
    """Return what reads the storage of a tensor that was pickled by itself: bytes that hold a stream.

    There are no more of them in it, and what it costs is taken off the budget of the file.
    """

    def from_bytes(data: Any) -> Any:
        if not isinstance(data, (bytes, bytearray)):
            raise ValueError(f"{described(data)} instead of a stream")
        return read_stream(io.BytesIO(data), {}, budget)

    return {Name("torch.storage", "_load_from_bytes"): from_bytes}
