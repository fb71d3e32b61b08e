"""What a kernel leaves to NumPy, which computes it or says what is wrong: a kernel has no bounds checks."""

import ctypes

import numpy as np
import pytest
from kernel_cases import draw, scattered

import kernels
from kernels.cpu import boxes, conv, crop_and_resize, detections, fused, linear, losses, nms, optim, pool, resize
from kernels.cpu.machine import memory
from kernels.cpu.roi_pool import roi_pool
from mrcnn_np.ops.fused import conv2d_fused, conv2d_fused_backward

RNG = np.random.default_rng(0)
MAP, FEW = draw(RNG, 1, 8, 8, 4), draw(RNG, 3, 4)
BOXES, SCORES = np.float32([[0, 0, 2, 2], [1, 1, 3, 3]]), np.float32([0.5, 0.7])
INDEX = np.zeros(2, np.int64)
PASTE = {"method": "resize", "threshold": 0.5}


@pytest.mark.parametrize(
    ("function", "args", "options"),
    [
        (boxes.iou, (BOXES, BOXES), {}),  # too small
        (boxes.decode_boxes, (BOXES, BOXES), {}),  # too small
        (conv.conv2d, (MAP[0], FEW), {}),
        (conv.conv2d, (MAP, draw(RNG, 3, 3, 4, 5)), {"padding": (1, 2, 3)}),
        (crop_and_resize.crop_and_resize, (MAP, BOXES, INDEX + 1), {"output_size": 2}),
        (detections.paste_into_boxes, (draw(RNG, 2, 3, 3), BOXES * np.float32(np.nan), (5, 5)), PASTE),
        (detections.paste_into_boxes, (draw(RNG, 2, 3, 3), BOXES, (5, 5)), {**PASTE, "method": "somehow"}),
        (linear.linear, (draw(RNG, 2000, 40), draw(RNG, 40, 50), draw(RNG, 51)), {}),
        (losses.sigmoid_cross_entropy_backward, (FEW, (FEW, FEW)), {}),  # too small
        (losses.softmax_cross_entropy, (FEW, INDEX), {}),
        (nms.batched_nms, (BOXES, SCORES, INDEX[:1], 0.5), {}),
        (nms.batched_nms, (BOXES, SCORES, INDEX.astype(np.float32), 0.5), {}),
        (optim.global_norm, ({"a": FEW.astype(np.float64)},), {}),
        (pool.max_pool2d, (MAP,), {"kernel_size": 2, "padding": 2}),
        (pool.max_pool2d, (MAP,), {"kernel_size": 2}),  # too small
        (resize.resize_bilinear, (MAP, (3, 3)), {}),
        (resize.resize_nearest, (FEW[None], (3, 3)), {}),
        (resize.resize_nearest, (FEW[None] > 0, (3, 3)), {}),
        (roi_pool, (MAP, BOXES, INDEX + 1), {"output_size": 2, "spatial_scale": 1.0}),
    ],
)
def test_a_kernel_declines(function, args, options):
    assert function(*args, **options) is NotImplemented


def test_the_optimiser_declines_what_it_cannot_change_in_place():
    g = {"a": FEW}
    apart = {"a": scattered(FEW)}
    how = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": {"a": 0.0}}
    assert optim.momentum_step(apart, g, apart, **how) is NotImplemented


def test_a_stride_that_leaves_inputs_out():
    # They get what comes to them on other ways, and nothing else
    w, plus = draw(RNG, 1, 1, 4, 5), draw(RNG, *MAP.shape)
    y, cache = conv2d_fused(MAP, w, stride=2)
    dy = draw(RNG, *y.shape)
    found = fused.conv2d_fused_backward(dy, cache, plus=plus).dx
    wanted = conv2d_fused_backward.reference(dy, cache, plus=plus).dx
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found[:, 1::2, 1::2], plus[:, 1::2, 1::2])


def test_an_unknown_backend():
    with kernels.use("numpy"):
        assert kernels.backend() == "numpy"
    for name, message in (("gpu", "expected one of numpy, cpu, cuda"), ("cuda", "not available")):
        with pytest.raises(ValueError, match=message), kernels.use(name):
            pass


def test_without_glibc_freed_memory_is_not_kept(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert memory.keep_freed_memory() is False
    monkeypatch.undo()
    monkeypatch.setenv("MRCNN_NP_KEEP_MEMORY", "0")
    assert memory.keep_freed_memory() is False
