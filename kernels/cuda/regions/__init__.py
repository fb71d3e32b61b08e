"""What the operations on regions share: which arguments they take, and how gradients of regions reach the pixels."""

from __future__ import annotations

from typing import Any

from ..machine.arguments import is_float32
from ..machine.device import contiguous, is_device


def are_rois(rois: Any, batch_index: Any) -> bool:
    """Tell whether these have the shapes and types of RoIs (R, 4) and of the numbers of their maps (R,).

    Their values lie on the device, and to look at them the host would have to wait for all that was launched. So a RoI
    that is not finite, or whose map does not exist, is no error here: all it pools is NaN, and it has no gradient.
    """
    return bool(
        is_device(rois)
        and is_device(batch_index)
        and rois.ndim == 2
        and rois.shape[1] == 4
        and rois.dtype.kind == "f"
        and batch_index.shape == rois.shape[:1]
        and batch_index.dtype.kind in "iu"
    )


def is_target(array: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether a kernel can add to this array in place; None, for a new one, will do."""
    if array is None:
        return True
    return is_float32(array) and array.shape == tuple(shape) and bool(array.flags.c_contiguous)


def plain(array: Any, dtype: Any) -> Any:
    """Return the array without gaps and in this dtype, itself if it is so already."""
    return contiguous(array.astype(dtype, copy=False))
