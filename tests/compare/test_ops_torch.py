"""Convolution, normalisation, pooling and resizing against PyTorch (bounds: ``agrees_with_torch.py``)."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")

import torch.nn.functional as F  # noqa: E402
from agrees_with_torch import FORWARD, check_float32, check_float64, check_op, nchw, nhwc, oihw  # noqa: E402

from mrcnn_np.ops.conv import (  # noqa: E402
    conv2d,
    conv2d_backward,
    conv2d_transpose,
    conv2d_transpose_backward,
)
from mrcnn_np.ops.norm import batch_norm, batch_norm_backward  # noqa: E402
from mrcnn_np.ops.pool import max_pool2d, max_pool2d_backward  # noqa: E402
from mrcnn_np.ops.resize import (  # noqa: E402
    resize_bilinear,
    resize_bilinear_backward,
    resize_nearest,
    upsample_nearest,
    upsample_nearest_backward,
)

CONVOLUTIONS = {
    # name: (input, kernel (kh, kw, C_in / groups, C_out), stride, padding, groups)
    "1x1": ((2, 9, 7, 6), (1, 1, 6, 5), 1, 0, 1),
    "1x1 stride 2": ((2, 9, 8, 6), (1, 1, 6, 5), 2, 0, 1),
    "3x3 padding 1": ((2, 9, 7, 6), (3, 3, 6, 5), 1, 1, 1),
    "7x7 stride 2, the stem": ((1, 33, 40, 3), (7, 7, 3, 16), 2, 3, 1),
    "5x2 stride (3, 1)": ((1, 17, 11, 4), (5, 2, 4, 3), (3, 1), 0, 1),
    "asymmetric padding": ((2, 8, 10, 3), (3, 3, 3, 4), 2, ((0, 1), (2, 0)), 1),
    "rows the stride leaves over": ((1, 10, 10, 2), (3, 3, 2, 2), 3, 0, 1),
    "2 groups": ((2, 9, 7, 6), (3, 3, 3, 4), 1, 1, 2),
    "32 groups stride 2": ((1, 9, 12, 64), (3, 3, 2, 96), 2, 1, 32),
    "one pixel": ((3, 1, 1, 4), (3, 3, 4, 2), 1, 1, 1),
    "a long sum": ((1, 6, 6, 256), (3, 3, 256, 32), 1, 1, 1),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d(case, bias):
    shape, kernel, stride, padding, groups = CONVOLUTIONS[case]
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape), rng.standard_normal(kernel)]
    inputs += [rng.standard_normal(kernel[3])] if bias else []
    (top, bottom), (left, right) = ((padding,) * 2,) * 2 if isinstance(padding, int) else padding

    def ours(x, w, b=None):
        y, cache = conv2d(x, w, b, stride=stride, padding=padding, groups=groups)
        return y, lambda dy: conv2d_backward(dy, cache)[: 2 + bias]

    def theirs(x, w, b=None):
        padded = F.pad(nchw(x), (left, right, top, bottom))
        return nhwc(F.conv2d(padded, oihw(w), b, stride=stride, groups=groups))

    check_op(f"conv2d {case}", ours, theirs, *inputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel, stride", [((2, 2), 2), ((3, 3), 2), ((4, 3), (1, 3)), ((1, 1), 1)])
def test_conv2d_transpose(kernel, stride, bias):
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((3, 5, 6, 8)), rng.standard_normal((*kernel, 8, 7))]
    inputs += [rng.standard_normal(7)] if bias else []

    def ours(x, w, b=None):
        y, cache = conv2d_transpose(x, w, b, stride=stride)
        return y, lambda dy: conv2d_transpose_backward(dy, cache)[: 2 + bias]

    def theirs(x, w, b=None):
        return nhwc(F.conv_transpose2d(nchw(x), w.permute(2, 3, 0, 1).contiguous(), b, stride=stride))

    check_op("conv2d_transpose", ours, theirs, *inputs)


def norm_inputs(shape):
    rng = np.random.default_rng(2)
    channels = shape[-1]
    x = rng.standard_normal(shape) * 3 + 1
    gamma, beta = rng.standard_normal(channels), rng.standard_normal(channels)
    mean, var = (a.astype(np.float32) for a in (rng.standard_normal(channels), rng.uniform(0.5, 2, channels)))
    return (x, gamma, beta), mean, var


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 9, 7, 6), (40, 5), (1, 64, 64, 8)])
def test_batch_norm(shape, training, eps):
    inputs, mean, var = norm_inputs(shape)

    def ours(x, gamma, beta):
        running = mean.astype(x.dtype), var.astype(x.dtype)
        y, cache = batch_norm(x, gamma, beta, *running, training=training, eps=eps)
        return y, lambda dy: batch_norm_backward(dy, cache)

    def theirs(x, gamma, beta):
        running = (torch.from_numpy(a).to(x.dtype, copy=True) for a in (mean, var))
        image = nchw(x) if x.ndim == 4 else x
        y = F.batch_norm(image, *running, gamma, beta, training=training, eps=eps)
        return nhwc(y) if x.ndim == 4 else y

    check_op(f"batch_norm training={training}", ours, theirs, *inputs)


@pytest.mark.parametrize("momentum", [0.1, 0.01, 1.0])
def test_running_statistics(momentum):
    (x, gamma, beta), mean, var = norm_inputs((2, 9, 7, 6))
    found, expected = {}, {}
    for dtype in (np.float64, np.float32):
        x, gamma, beta = (a.astype(np.float32).astype(dtype) for a in (x, gamma, beta))
        found[dtype] = mean.astype(dtype), var.astype(dtype)
        batch_norm(x, gamma, beta, *found[dtype], training=True, momentum=momentum)
        tensors = [torch.from_numpy(a.astype(dtype)) for a in (mean, var)]
        F.batch_norm(nchw(torch.from_numpy(x)), *tensors, training=True, momentum=momentum)
        expected[dtype] = [t.numpy() for t in tensors]
    for i, name in enumerate(("running mean", "running variance")):
        check_float64(name, found[np.float64][i], expected[np.float64][i], FORWARD)
        check_float32(name, found[np.float32][i], expected[np.float32][i], expected[np.float64][i])


def test_frozen_batch_norm():
    ops = pytest.importorskip("torchvision.ops", reason="comparison needs torchvision: pip install mrcnn-np[compare]")
    (x, gamma, beta), mean, var = norm_inputs((2, 9, 7, 6))
    frozen = ops.FrozenBatchNorm2d(6).double()
    frozen.weight[:], frozen.bias[:], frozen.running_mean[:], frozen.running_var[:] = (
        torch.from_numpy(a) for a in (gamma, beta, mean, var)
    )
    expected = nhwc(frozen(nchw(torch.from_numpy(x)))).numpy()
    y, _ = batch_norm(x, gamma, beta, mean.astype(np.float64), var.astype(np.float64), training=False)
    check_float64("frozen batch_norm", y, expected, FORWARD)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "kernel, stride, padding",
    [(3, 2, 1), (2, 2, 0), (1, 2, 0), ((3, 2), (1, 3), ((1, 1), (1, 1))), (3, 2, ((0, 1), (0, 1)))],
)
def test_max_pool2d(kernel, stride, padding, ties):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 9, 12, 5))
    if ties:
        x = np.round(2 * x)  # few different values: nearly every window has a tie
    (top, bottom), (left, right) = ((padding,) * 2,) * 2 if isinstance(padding, int) else padding

    def ours(x):
        y, cache = max_pool2d(x, kernel_size=kernel, stride=stride, padding=padding)
        return y, lambda dy: max_pool2d_backward(dy, cache)

    def theirs(x):
        padded = F.pad(nchw(x), (left, right, top, bottom), value=-torch.inf)
        return nhwc(F.max_pool2d(padded, kernel, stride))

    check_op("max_pool2d", ours, theirs, x)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_upsample_nearest(scale):
    def ours(x):
        y, cache = upsample_nearest(x, scale=scale)
        return y, lambda dy: upsample_nearest_backward(dy, cache)

    def theirs(x):
        return nhwc(F.interpolate(nchw(x), scale_factor=scale, mode="nearest"))

    check_op("upsample_nearest", ours, theirs, np.random.default_rng(4).standard_normal((2, 5, 7, 3)))


@pytest.mark.parametrize("size", [(20, 26), (5, 4), (10, 13), (1, 1), (37, 9), (3, 40)])
def test_resize_bilinear(size):
    def ours(x):
        y, cache = resize_bilinear(x, size)
        return y, lambda dy: resize_bilinear_backward(dy, cache)

    def theirs(x):
        return nhwc(F.interpolate(nchw(x), size=size, mode="bilinear", align_corners=False))

    check_op(f"resize_bilinear {size}", ours, theirs, np.random.default_rng(5).standard_normal((2, 10, 13, 3)))


def nearest_indices(old, new):
    """Which of ``old`` cells each of ``new`` cells is copied from: ours and PyTorch's."""
    cells = np.arange(old)
    ours = resize_nearest(np.broadcast_to(cells[None, :, None], (1, old, 1)), (new, 1))[0, :, 0]
    theirs = F.interpolate(torch.from_numpy(cells)[None, None, :, None].double(), size=(new, 1), mode="nearest")
    return ours, theirs[0, 0, :, 0].numpy().astype(int)


def test_resize_nearest():
    """Equal, except that PyTorch computes the index ``i H / h`` in float32 and we in integers.

    Where it is a whole number, PyTorch's can fall short of it and take the cell before: 3 of these 21,000 rows.
    """
    different = 0
    for old in (1, 2, 7, 28, 100, 133, 333, 375, 500):
        for new in (1, 3, 64, 57, 92, 100, 256, 341, 800, 1066):
            ours, theirs = nearest_indices(old, new)
            rows = np.flatnonzero(ours != theirs)
            assert ((rows * old) % new == 0).all() and (ours[rows] - theirs[rows] == 1).all()
            different += len(rows)
    assert different <= 10
