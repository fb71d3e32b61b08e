"""Arrays of the host and of the device: results lie where the arguments did, and what changes in place, changes."""

import numpy as np
import pytest

import kernels
from kernels.contract import ReluCache
from kernels.cuda.machine.device import COPIES
from mrcnn_np.boxes import iou
from mrcnn_np.molding import Molding, mold_image
from mrcnn_np.ops.activation import relu, relu_backward
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.norm import batch_norm
from mrcnn_np.ops.roi_align import roi_align, roi_align_backward
from mrcnn_np.training.optim import clip_gradients, momentum_step

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_arrays_of_the_host_come_back_to_the_host():
    x, w = rand(1, 4, 5, 2), rand(3, 3, 2, 3)
    with kernels.use("cuda"):
        y, cache = conv2d(x, w, padding=1)
        dx, dw, db = conv2d_backward(y, cache)
    assert cache.x is x and cache.w is w  # what was given, not a copy of it
    assert all(isinstance(a, np.ndarray) for a in (y, dx, dw)) and db is None
    with kernels.use("numpy"):
        expected, theirs = conv2d(x, w, padding=1)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        for ours, other in zip((dx, dw), conv2d_backward(y, theirs)):
            np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-4)


def test_one_array_on_the_device_takes_the_others_there():
    x, b = rand(5, 4), np.abs(rand(3, 4))
    with kernels.use("cuda"):
        y, cache = relu(kernels.to_device(x))
        assert kernels.on_device(y) and kernels.on_device(cache.y)
        dx = relu_backward(x, cache)  # a gradient from elsewhere
        assert kernels.on_device(dx)
        assert kernels.on_device(iou(kernels.to_device(b), b))
    np.testing.assert_array_equal(kernels.to_host(dx), np.where(x > 0, x, 0))


def test_nothing_of_the_device_is_copied():
    with kernels.use("cuda"):
        x = kernels.to_device(rand(4, 3))
        COPIES.reset()
        y, _ = relu(x)
        relu_backward(y, ReluCache(y))
    assert (COPIES.to_device, COPIES.to_host, COPIES.sizes) == (0, 0, 0)


def test_what_changes_in_place_on_the_host_changes_there():
    found = []
    for backend in ("numpy", "cuda"):
        rng = np.random.default_rng(1)
        p, g, v, mean, var = (rng.standard_normal(8).astype(np.float32) for _ in range(5))
        var = np.abs(var)
        x = rng.standard_normal((1, 3, 2, 8)).astype(np.float32)
        into, boxes = np.ones((1, 6, 6, 2), np.float32), np.array([[0, 0, 4, 5]], np.float32)
        with kernels.use(backend):
            clip_gradients({"p": g}, 0.5)
            momentum_step(
                {"p": p}, {"p": g}, {"p": v}, learning_rate=0.1, momentum=0.9, weight_decay={"p": 0.01}
            )  # fmt: skip
            batch_norm(x, p, g, mean, var, training=True)
            pooled, cache = roi_align(into.copy(), boxes, np.zeros(1, int), output_size=2, spatial_scale=1.0)
            same = roi_align_backward(pooled, cache, into=into)
        assert same is into
        found.append((p, g, v, mean, var, into))
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_frozen_statistics_may_be_for_reading_only():
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    mean.flags.writeable = var.flags.writeable = False
    with kernels.use("cuda"):
        y, _ = batch_norm(rand(2, 3), var, mean, mean, var)
    assert isinstance(y, np.ndarray)


def test_float64_of_the_host_is_left_to_numpy():
    with kernels.use("cuda"):
        y, _ = conv2d(np.ones((1, 3, 3, 1)), np.ones((2, 2, 1, 1)))
    assert y.dtype == np.float64 and y[0, 0, 0, 0] == 4


def test_trees_keep_their_kinds():
    molding = Molding((1, 2), (1, 2), (1, 2), (0, 0))
    tree = {"a": ReluCache(rand(2)), "b": [rand(1), (3, "x", None)], "c": molding}
    there = kernels.to_device(tree)
    assert type(there["a"]) is ReluCache and kernels.on_device(there["a"].y)
    assert kernels.on_device(there["b"][0]) and there["b"][1] is tree["b"][1] and there["c"] is molding
    back = kernels.to_host(there)
    np.testing.assert_array_equal(back["a"].y, tree["a"].y)
    assert kernels.to_device(there) is there and kernels.to_host(tree) is tree


@pytest.mark.parametrize("preset", ["torchvision", "matterport"])
def test_images_are_brought_into_shape_on_the_host(preset):
    from mrcnn_np import presets

    config = presets.by_name(preset).replace(image_min_size=32, image_max_size=32)
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    with kernels.use("cuda"):
        COPIES.reset()
        molded, _ = mold_image(image, config)
    assert isinstance(molded, np.ndarray) and COPIES.to_device == 0
