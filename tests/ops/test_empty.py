"""Empty is normal, also where there is no kernel: batches of nothing, one pixel, one channel.

``tests/kernels/test_sweep.py`` does the same for every accelerated function.
"""

import numpy as np
import pytest

from mrcnn_np.ops import activation, losses, resize, roi_align

SHAPES = [(0, 5), (0, 1), (3, 1), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_backward_passes_without_a_kernel(shape):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal(shape), rng.standard_normal(shape)
    labels = rng.integers(0, shape[1], shape[0])
    for (y, cache), backward in (
        (activation.sigmoid(x), activation.sigmoid_backward),
        (activation.softmax(x), activation.softmax_backward),
        (losses.softmax_cross_entropy(x, labels), losses.softmax_cross_entropy_backward),
        (losses.smooth_l1(x, t), losses.smooth_l1_backward),
        (losses.smooth_l1(x, t, beta=0.0), losses.smooth_l1_backward),
    ):
        dx = backward(np.ones_like(y), cache)
        assert dx.shape == shape and np.isfinite(dx).all()


@pytest.mark.parametrize("shape", [(0, 5, 4, 3), (0, 1, 1, 1), (2, 1, 1, 3), (2, 5, 4, 1)])
@pytest.mark.parametrize("size", [(1, 1), (7, 3)])
def test_resize_bilinear_backward(shape, size):
    x = np.random.default_rng(0).standard_normal(shape)
    y, cache = resize.resize_bilinear(x, size)
    assert y.shape == (shape[0], *size, shape[3])
    dx = resize.resize_bilinear_backward(np.ones_like(y), cache)
    assert dx.shape == shape
    np.testing.assert_allclose(dx.sum(), y.size)  # the weights of each output add up to one


def test_no_points_and_one_pixel():
    feature = np.full((1, 1, 1), 3.0)
    assert roi_align.bilinear_interpolate(feature, np.zeros(0), np.zeros(0)).shape == (0, 1)
    np.testing.assert_array_equal(roi_align.bilinear_interpolate(feature, 0.5, -0.5), [3])
