"""Keep freed memory instead of handing it back to the system.

A feature map of a large image is tens of megabytes. The C library hands blocks of that size back as soon as they are
free, and every new one arrives as untouched pages, which the system must find and fill with zeros at the first touch:
about as slow as the convolution that writes it. Told to keep them, it gives the next layer the pages of the last one.
"""

from __future__ import annotations

import ctypes
import os

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
