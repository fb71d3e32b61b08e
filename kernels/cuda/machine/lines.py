"""Arrays as the products want them: float32, without gaps, at aligned addresses, their lines filled up with zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import aligned, is_device, zeros


def can_compute(*arrays: Any) -> bool:
    """Tell whether all arrays that are there lie on the device and are float32; anything else is NumPy's business."""
    return all(a is None or (is_device(a) and a.dtype == np.float32) for a in arrays)


def round_up(n: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-n // multiple) * multiple


def fill_up(array: Any, *multiples: int) -> Any:
    """Return the array, aligned, its last axes of lengths that the ``multiples`` divide: zeros are added behind."""
    lengths = array.shape[array.ndim - len(multiples) :]
    if not any(n % multiple for n, multiple in zip(lengths, multiples)):
        return aligned(array)
    wanted = (round_up(n, multiple) for n, multiple in zip(lengths, multiples, strict=True))
    filled = zeros((*array.shape[: array.ndim - len(multiples)], *wanted))
    filled[(..., *(slice(n) for n in lengths))] = array
    return filled


def cut_off(array: Any, columns: int) -> Any:
    """Undo ``fill_up`` of the last axis."""
    return array if array.shape[-1] == columns else array[..., :columns].copy()
