"""Keep freed memory instead of handing it back to the system.

A feature map of a large image is tens of megabytes. The C library hands blocks of that size back as soon as they are
free, and every new one arrives as untouched pages, which the system must find and fill with zeros at the first touch:
about as slow as the convolution that writes it. Told to keep them, it gives the next layer the pages of the last one.
"""

from __future__ import annotations

import ctypes
import math
import os

import numpy as np

LINE = 64  # bytes of a cache line
LARGE = 8 << 20  # bytes of an array that will have left the caches before it is read again
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Set it up; return whether the C library knows how. ``MRCNN_NP_KEEP_MEMORY=0`` leaves it alone."""
    if os.environ.get("MRCNN_NP_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of float32 that begins at a cache line, where NumPy's begin anywhere.

    A vector that lies across two lines costs two accesses, and cannot be written past the caches.
    """
    size = math.prod(shape)
    buffer = np.empty(size + LINE // 4, np.float32)
    first = -buffer.ctypes.data % LINE // 4
    return buffer[first : first + size].reshape(shape)


def streams(y: np.ndarray) -> bool:
    """Tell whether to write a map past the caches: it is large, and each pixel begins at a cache line.

    An ordinary store reads the line from memory first, to change a part of it.
    """
    return y.nbytes >= LARGE and y.ctypes.data % LINE == 0 and y.strides[-2] % LINE == 0
