"""Arrays of whole numbers give what the same numbers give in floating point, on every backend; nothing is cut off."""

import numpy as np
import pytest

import kernels
from mrcnn_np import presets
from mrcnn_np.backbone import backbone
from mrcnn_np.network import initialise
from mrcnn_np.ops import activation, conv, crop_and_resize, linear, losses, norm, pool, resize, roi_align, roi_pool
from mrcnn_np.pyramid import pyramid_roi_align

MAPS = np.random.default_rng(0).integers(0, 50, (1, 8, 9, 4))
W = np.random.default_rng(1).normal(size=(3, 3, 4, 4)).astype(np.float32)
ROIS, FIRST, ONES = np.array([[1, 1, 5.5, 6.5]], np.float32), np.array([0]), np.ones(4, np.float32)

OPS = {
    "roi_align": lambda x: roi_align.roi_align(x, ROIS, FIRST, output_size=2, spatial_scale=1.0),
    "roi_align max": lambda x: roi_align.roi_align(x, ROIS, FIRST, output_size=2, spatial_scale=1.0, reduce="max"),
    "roi_pool": lambda x: roi_pool.roi_pool(x, ROIS, FIRST, output_size=2, spatial_scale=1.0),
    "crop_and_resize": lambda x: crop_and_resize.crop_and_resize(x, ROIS / 9, FIRST, output_size=(3, 3)),
    "bilinear_interpolate": lambda x: (roi_align.bilinear_interpolate(x[0], 1.5, 2.25), None),
    "conv2d": lambda x: conv.conv2d(x, W, padding=1),
    "conv2d_transpose": lambda x: conv.conv2d_transpose(x, W[:2, :2]),
    "batch_norm": lambda x: norm.batch_norm(x, ONES / 3, ONES, ONES.copy(), ONES.copy(), training=False, eps=1e-3),
    "max_pool2d": lambda x: pool.max_pool2d(x, kernel_size=3, stride=2, padding=1),
    "upsample_nearest": lambda x: resize.upsample_nearest(x),
    "linear": lambda x: linear.linear(x.reshape(8, -1), np.full((36, 3), 0.3, np.float32)),
    "relu": lambda x: activation.relu(x),
    "sigmoid": lambda x: activation.sigmoid(x),
    "softmax": lambda x: activation.softmax(x),
    "softmax_cross_entropy": lambda x: losses.softmax_cross_entropy(x.reshape(-1, 4), np.zeros(72, np.int64)),
    "sigmoid_cross_entropy": lambda x: losses.sigmoid_cross_entropy(x, np.full(x.shape, 0.25, np.float32)),
    "smooth_l1": lambda x: losses.smooth_l1(x, np.full(x.shape, 0.25, np.float32)),
}


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("op", OPS)
def test_whole_numbers(op, dtype, backend):
    """Measured: at most 4e-7 of the largest value, in the products of conv2d."""
    with kernels.use(backend):
        expected, _ = OPS[op](MAPS.astype(np.float32))
        y, _ = OPS[op](MAPS.astype(dtype))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_whole_rois(backend):
    rois = np.array([[1, 2, 5, 7]])
    with kernels.use(backend):
        for pool_of in (roi_align.roi_align, roi_pool.roi_pool):
            y, _ = pool_of(MAPS.astype(np.float32), rois, FIRST, output_size=2, spatial_scale=0.5)
            expected, _ = pool_of(
                MAPS.astype(np.float32), rois.astype(np.float32), FIRST, output_size=2, spatial_scale=0.5
            )
            np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("images", [
    np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 3, 64, 64), np.float32), np.zeros((64, 64, 3), np.float32),
])  # fmt: skip
def test_the_backbone_takes_molded_images_only(images):
    config = presets.tiny(num_classes=2)
    with pytest.raises(ValueError, match=r"images have shape .* expected \(N, H, W, 3\) of floating point"):
        backbone(images, initialise(config, np.random.default_rng(0)), config)


def test_channels_come_last():
    levels = [np.zeros((1, 4, side, side), np.float32) for side in (16, 8)]  # (N, C, H, W)
    with pytest.raises(ValueError, match="the same number of channels on every level"):
        pyramid_roi_align(levels, ROIS, FIRST, output_size=2, strides=(4, 8))
    with pytest.raises(ValueError, match=r"looks like \(N, C, H, W\)"):
        conv.conv2d(levels[0], W, padding=1)
