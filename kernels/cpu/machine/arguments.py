"""What the kernels take: float32. The rest is left to NumPy, above all float64, which is never rounded."""

from __future__ import annotations

from typing import Any

import numpy as np

from .simd import NR


def is_float32(*arrays: Any) -> bool:
    """Tell whether all are arrays of float32."""
    return all(isinstance(a, np.ndarray) and a.dtype == np.float32 for a in arrays)


def can_compute(*arrays: np.ndarray | None) -> bool:
    """Tell whether all arrays that are there are float32 and hold something; only then is there a kernel."""
    there = [a for a in arrays if a is not None]
    return is_float32(*there) and all(a.size for a in there)


def are_rois(rois: Any, batch_index: Any, maps: int) -> bool:
    """Tell whether RoIs (R, 4) and the numbers of their maps (R,) make sense; if not, the reference says why."""
    return bool(
        isinstance(rois, np.ndarray)
        and isinstance(batch_index, np.ndarray)
        and rois.ndim == 2
        and rois.shape[1] == 4
        and np.issubdtype(rois.dtype, np.floating)
        and batch_index.shape == rois.shape[:1]
        and np.issubdtype(batch_index.dtype, np.integer)
        and np.isfinite(rois).all()
        and (batch_index >= 0).all()
        and (batch_index < maps).all()
    )


def is_target(array: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether a kernel can add to this array in place; None, for a new one, will do."""
    if array is None:
        return True
    return (
        is_float32(array) and array.shape == tuple(shape) and bool(array.flags.c_contiguous and array.flags.writeable)
    )


def scale_and_shift(scale: np.ndarray | None, shift: np.ndarray | None, channels: int) -> np.ndarray:
    """Return both, (2, channels or more), as kernels read them by address: dense, and filled up to whole panels."""
    both = np.zeros((2, -(-channels // NR) * NR), np.float32)
    both[0, :channels] = 1 if scale is None else scale
    both[1, :channels] = 0 if shift is None else shift
    return both
