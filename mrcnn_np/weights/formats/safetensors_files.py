"""Safetensors: a header in JSON that says where in the file each tensor lies, and the numbers.

::

    length of the header | {"__metadata__": {...}, "w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}} | ...

Tensors lie side by side: no gaps, no overlaps, nothing behind the last. Written files are the library's, which is as
strict; it takes a name that is there twice, though, and leaves types that NumPy lacks to whoever asks for them.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import WeightFileError
from ...schema import loads, one_line, require, shown
from .pickled import AXES

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8",
    "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8",
}  # fmt: skip
#: what the format has besides, by their first letters: bfloat16, floats of 8 bits and less, complex numbers
OTHERS = re.compile(r"BF16|F8_\w+|F[46]\w*|C\d+")
METADATA = "__metadata__"
OFFSET = range(1 << 62)
TENSOR = {"dtype": str, "shape": [OFFSET], "data_offsets": [OFFSET]}
#: bytes of a header, as in the library
LONGEST = 100_000_000


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read all tensors, in the order of their names, and the metadata.

    Raises
    ------
    WeightFileError
        A tensor is of a type that NumPy does not have.
    ValueError, OSError
        The file cannot be read, is cut short or damaged; the message does not name it.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST):
            raise ValueError(f"its header of {length} bytes does not fit into {size} bytes")
        header = loads(file.read(length), {str: dict}, "its header")
        metadata = header.pop(METADATA, {})
        _check(header, metadata, size - 8 - length)
        tensors = {}
        for name in sorted(header):
            entry = header[name]
            file.seek(8 + length + entry["data_offsets"][0])
            a = np.fromfile(file, DTYPES[entry["dtype"]], math.prod(entry["shape"]))
            tensors[name] = a.reshape(entry["shape"])
    return tensors, metadata


def _check(header: dict[str, Any], metadata: Any, size: int) -> None:
    """Check every entry, and that the tensors lie side by side in ``size`` bytes."""
    require(metadata, {str: str}, f"its header[{METADATA!r}]")
    end = 0
    for name, entry in header.items():
        require(entry, TENSOR, f"its header[{shown(name)}]")
        kind = entry["dtype"]
        if kind not in DTYPES and OTHERS.fullmatch(kind):
            kind = "bfloat16" if kind == "BF16" else kind
            raise WeightFileError(f"tensor {shown(name)} is {kind}, which NumPy does not have; save it as float32")
        if kind not in DTYPES:
            raise ValueError(f"tensor {shown(name)} is of the type {shown(kind)}")
        if len(entry["shape"]) > AXES:
            raise ValueError(f"tensor {shown(name)} has {len(entry['shape'])} axes")
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        nbytes = math.prod(entry["shape"]) * np.dtype(DTYPES[entry["dtype"]]).itemsize
        if entry["data_offsets"] != [end, end + nbytes]:
            where = one_line(entry["data_offsets"])
            raise ValueError(f"tensor {shown(name)} lies at {where}; expected {[end, end + nbytes]}")
        end += nbytes
    if end != size:
        raise ValueError(f"its tensors take {end} bytes and {size} are there")
