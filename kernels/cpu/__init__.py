"""Numba kernels for the CPU.

Compiled code is kept on disk. Numba notices an edit of the file a kernel stands in, but not of a file it takes a helper
from, and would go on running the old code. So the folder it keeps them in is named after the text of all files below
``kernels/``. It is a folder of one's own (``machine/folders.py``), or a temporary one. What several processes want at
the same time one of them compiles (``machine/once.py``).
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from .machine.folders import private_folder, temporary_folder
from .machine.memory import keep_freed_memory
from .machine.once import compile_once


def _cache_folder() -> tuple[Path, bool]:
    """Return a folder for compiled kernels that changes with any of the sources, and whether it stays."""
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    versions = numba.__version__ + os.environ.get("MRCNN_NP_VECTOR", "")
    name = hashlib.sha256(text + versions.encode()).hexdigest()[:16]
    try:
        base = os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache" / "mrcnn_np"
        return private_folder(Path(base) / name), True
    except (OSError, RuntimeError) as error:  # a read-only home; none at all; one that others can write
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)
        warnings.warn(f"compiled kernels are kept for this run only ({reason})", RuntimeWarning, stacklevel=2)
        return temporary_folder(), False


_folder, KEPT = _cache_folder()  # whether compiled kernels are there for the next process
numba.config.CACHE_DIR = str(_folder)  # type: ignore[attr-defined]
keep_freed_memory()

from . import (  # noqa: E402  (when a kernel is defined, the folder is read)
    activation,
    boxes,
    conv,
    crop_and_resize,
    detections,
    fused,
    group_norm,
    linear,
    losses,
    nms,
    norm,
    optim,
    pool,
    resize,
    roi_align,
    roi_pool,
    targets,
)

compile_once(dict(sys.modules), __name__)

KERNELS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        activation.relu,
        activation.relu_backward,
        activation.sigmoid,
        activation.softmax,
        boxes.decode_boxes,
        boxes.iou,
        conv.conv2d,
        conv.conv2d_backward,
        conv.conv2d_transpose,
        conv.conv2d_transpose_backward,
        crop_and_resize.crop_and_resize,
        crop_and_resize.crop_and_resize_backward,
        detections.paste_into_boxes,
        fused.conv2d_fused,
        fused.conv2d_fused_backward,
        group_norm.group_norm,
        group_norm.group_norm_backward,
        linear.channel_sum,
        linear.linear,
        linear.linear_backward,
        losses.sigmoid_cross_entropy,
        losses.sigmoid_cross_entropy_backward,
        losses.softmax_cross_entropy,
        nms.batched_nms,
        nms.nms,
        norm.batch_norm,
        norm.batch_norm_backward,
        optim.global_norm,
        optim.momentum_step,
        pool.max_pool2d,
        pool.max_pool2d_backward,
        resize.resize_bilinear,
        resize.resize_nearest,
        resize.upsample_nearest,
        resize.upsample_nearest_backward,
        roi_align.roi_align,
        roi_align.roi_align_backward,
        roi_pool.roi_pool,
        roi_pool.roi_pool_backward,
        targets.crop_masks,
        targets.label_anchors,
    )
}
