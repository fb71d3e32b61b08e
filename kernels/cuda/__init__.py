"""Kernels for a graphics card, written with ``numba.cuda``; one file for each of ``kernels.cpu``, of the same name.

Read the CPU's first. What is common to all: a *kernel* is the text that one thread runs; thousands of threads run it,
told apart by ``cuda.threadIdx`` in their block and ``cuda.blockIdx`` in the grid. The threads of a block share a small,
fast memory (``cuda.shared.array``) and can wait for each other (``cuda.syncthreads``). A *warp* is 32 threads that go
in step; a *lane* is one of them. ``cuda.local.array`` is a thread's own, and lies in registers as long as the compiler
knows every index, that is, in loops it unrolls.

Each kernel's docstring says which element of the result a thread **Owns**, what is **Shared** in the block's memory,
why there is **No race** (no two threads are in each other's way), and its **Floor**, what no kernel for this can be
faster than: the bytes it has to move, or the operations it has to do. Where this one has to do more, that is said
behind.

Nothing is added atomically in floating point: every element has one owner, who adds in one order, so results have the
same bits each time.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

# Of each file: the functions it offers, by the names of the NumPy functions they stand for.
_FUNCTIONS = {
    "activation": ("relu", "relu_backward", "sigmoid", "softmax"),
    "boxes": ("decode_boxes", "iou"),
    "conv": ("conv2d", "conv2d_backward", "conv2d_transpose", "conv2d_transpose_backward"),
    "crop_and_resize": ("crop_and_resize", "crop_and_resize_backward"),
    "detections": ("paste_into_boxes",),
    "fused": ("conv2d_fused", "conv2d_fused_backward"),
    "group_norm": ("group_norm", "group_norm_backward"),
    "linear": ("channel_sum", "linear", "linear_backward"),
    "losses": (
        "sigmoid_cross_entropy",
        "sigmoid_cross_entropy_backward",
        "smooth_l1",
        "smooth_l1_backward",
        "softmax_cross_entropy",
        "softmax_cross_entropy_backward",
    ),
    "nms": ("batched_nms", "nms"),
    "norm": ("batch_norm", "batch_norm_backward"),
    "optim": ("clip_gradients", "global_norm", "momentum_step"),
    "pool": ("max_pool2d", "max_pool2d_backward"),
    "resize": (
        "resize_bilinear",
        "resize_bilinear_backward",
        "resize_nearest",
        "upsample_nearest",
        "upsample_nearest_backward",
    ),
    "roi_align": ("roi_align", "roi_align_backward"),
    "roi_pool": ("roi_pool", "roi_pool_backward"),
    "targets": ("crop_masks", "label_anchors"),
}


#: the functions that there are kernels for; known without a card, and without the packages that drive one
NAMES = frozenset(name for names in _FUNCTIONS.values() for name in names)


@functools.cache
def _load() -> dict[str, Callable[..., Any]]:
    """Import the files and return their functions by name."""
    modules = {file: importlib.import_module(f".{file}", __name__) for file in _FUNCTIONS}
    return {name: getattr(modules[file], name) for file, names in _FUNCTIONS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "KERNELS":  # not before it is asked for
        return _load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
