"""What the kernels take: arrays of float32 on the device. The rest is left to NumPy's text, above all float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import is_device


def is_float32(*arrays: Any) -> bool:
    """Tell whether all are arrays of float32 on the device."""
    return all(is_device(a) and a.dtype == np.float32 for a in arrays)
