r"""``.npz`` archives, read without NumPy's own reader, which evaluates the headers as Python.

An archive is a zip of ``.npy`` files, and each of these a magic number, a header and the numbers::

    \x93NUMPY 1 0   118   {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   ...
"""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path

import numpy as np

from ...errors import WeightFileError
from ...schema import one_line, shown
from .pickled import AXES, DType, view

MAGIC = b"\x93NUMPY"
#: bytes of a header; NumPy's own are 118, and it refuses longer ones too
HEADER = 10_000
#: three entries in any order, once spaces are gone
ENTRIES = re.compile(r"\{(?:'descr':'([^']*)',|'fortran_order':(True|False),|'shape':\(([0-9L,]*)\),){3}\}")
#: arrays may take this many times the room of their file (tied weights, float16): more is a bomb
EXPANSION = 16


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an archive.

    Returns
    -------
    dict of str to ndarray
        By the names that ``numpy.savez`` was given; read-only.

    Raises
    ------
    WeightFileError
        It unpacks to far more than its size, holds something other than numbers, or two arrays of one name.
    ValueError, zipfile.BadZipFile, zlib.error
        It is cut short or damaged.
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > EXPANSION * path.stat().st_size + 1_000_000:
            raise WeightFileError("it unpacks to far more than its size")
        for member in members:
            name, said = member.filename.removesuffix(".npy"), one_line(member.filename, 60)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise WeightFileError(f"{said} is compressed in a way that NumPy does not use")
            if name in arrays:
                raise WeightFileError(f"it has {said} twice")
            try:
                arrays[name] = _array(archive.read(member))
            except ValueError as error:
                raise WeightFileError(f"{said} {error}") from error
    return arrays


def _array(raw: bytes) -> np.ndarray:
    """Make the array of an ``.npy`` file."""
    if not raw.startswith(MAGIC) or len(raw) < 12 or raw[6] not in (1, 2, 3):
        raise ValueError("is no array")
    start = 10 if raw[6] == 1 else 12  # version 1 has two bytes for the length of the header, 2 and 3 have four
    length = int.from_bytes(raw[8:start], "little")
    if length > min(HEADER, len(raw) - start):
        raise ValueError(f"has a header of {length} bytes, which does not fit")
    code, fortran, shape = _entries(raw[start : start + length].decode("latin-1"))
    try:
        dtype = DType(code)
    except ValueError as error:
        raise ValueError(f"holds {error}") from error
    data = raw[start + length :]
    announced = math.prod(shape) * dtype.numpy().itemsize
    if announced != len(data):
        raise ValueError(f"announces {announced} bytes and has {len(data)}")
    return view(data, dtype, shape, "F" if fortran else "C")


def _entries(header: str) -> tuple[str, bool, list[int]]:
    """Return type, Fortran order and shape."""
    text = "".join(header.split()).replace('"', "'").replace(")}", "),}").replace("'}", "',}").replace("e}", "e,}")
    match = ENTRIES.fullmatch(text)
    if match is None or None in match.groups():
        raise ValueError(f"has the header {shown(header)}; expected type, order and shape of an array of numbers")
    sizes = [size.removesuffix("L") for size in match[3].split(",") if size]  # 2L is Python 2's
    if len(sizes) > AXES or any(len(size) > 18 or not size.isdigit() for size in sizes):
        raise ValueError(f"has the shape {shown(match[3])}; expected up to {AXES} sizes")
    return match[1], match[2] == "True", [int(size) for size in sizes]
