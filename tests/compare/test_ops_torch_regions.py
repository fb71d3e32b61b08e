"""RoIAlign and RoIPool against torchvision (bounds: ``agrees_with_torch.py``)."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
ops = pytest.importorskip("torchvision.ops", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

import torch.nn.functional as F  # noqa: E402
from agrees_with_torch import check_op, nchw, nhwc, xyxy  # noqa: E402

from mrcnn_np.ops.roi_align import roi_align, roi_align_backward  # noqa: E402
from mrcnn_np.ops.roi_pool import roi_pool, roi_pool_backward  # noqa: E402

SCALE = 0.25
ORDER = [1, 0, 3, 2]
MAPS = (3, 13, 17, 5)  # of images of 52 x 68 pixels


def ordinary(rng, count=40):
    """Boxes of all sizes, many of them partly outside the image."""
    centres, sides = rng.uniform(-5, [57, 73], (count, 2)), rng.uniform(0.5, 50, (count, 2))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)


# Corners on whole and half feature pixels, boxes beyond every edge, without area, thinner than a feature pixel
SPECIAL = np.array(
    [
        [0, 0, 52, 68], [-60, -80, -20, -30], [60, 80, 90, 120], [-200, -200, 300, 300], [8, 8, 8, 8],
        [10, 4, 10, 40], [4, 10, 40, 10], [2, 2, 30, 30], [50, 66, 54, 70], [-4.5, -4.5, 4, 4], [3, 3, 3.5, 3.5],
        [51.9, 67.9, 52, 68],
    ],
    np.float32,
)  # fmt: skip


def regions(flipped=False):
    rng = np.random.default_rng(0)
    rois = np.concatenate([ordinary(rng), SPECIAL])
    if flipped:  # y2 < y1: a negative side
        rois = np.concatenate([rois, np.array([[30, 10, 20, 40], [30, 40, 20, 10]], np.float32)])
    return rois, rng.integers(0, MAPS[0], len(rois))


def with_index(rois, index, dtype):
    return torch.cat([torch.from_numpy(index)[:, None], xyxy(rois)], dim=1).to(dtype)


@pytest.mark.parametrize("output_size", [7, (3, 2), 1])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align(aligned, sampling_ratio, output_size):
    rois, index = regions(flipped=sampling_ratio > 0)
    keywords = {
        "output_size": output_size,
        "spatial_scale": SCALE,
        "sampling_ratio": sampling_ratio,
        "aligned": aligned,
    }

    def ours(features):
        y, cache = roi_align(features, rois.astype(features.dtype), index, **keywords)
        return y, lambda dy: roi_align_backward(dy, cache)

    def theirs(features):
        return nhwc(ops.roi_align(nchw(features), with_index(rois, index, features.dtype), **keywords))

    check_op("roi_align", ours, theirs, np.random.default_rng(1).standard_normal(MAPS))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("aligned", [False, True])
def test_samples_where_the_value_jumps(aligned, dtype):
    """One pixel outside the map the value drops to 0. For a sample that lies there rounding decides: as torchvision's.

    Boxes with whole corners, some of them upside down, put many samples there.
    """
    corners = np.arange(-6, 15, dtype=dtype)
    first, last = (a.ravel() for a in np.meshgrid(corners, corners))
    rois = np.stack([first, np.full_like(first, 2), last, np.full_like(first, 9)], axis=1)
    rois = np.concatenate([rois, rois[:, ORDER]])
    index = np.zeros(len(rois), int)
    features = np.random.default_rng(5).uniform(1, 2, (1, 9, 9, 1)).astype(dtype)
    keywords = {"output_size": 7, "spatial_scale": 1.0, "sampling_ratio": 2, "aligned": aligned}
    y, _ = roi_align(features, rois, index, **keywords)
    tensor = torch.from_numpy(features)
    expected = nhwc(ops.roi_align(nchw(tensor), with_index(rois, index, tensor.dtype), **keywords)).numpy()
    np.testing.assert_allclose(y, expected, rtol=0, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_max(aligned, sampling_ratio):
    """torchvision has no maximum; but bins of one sample each, and a max pool over them, are the same."""
    rois, index = regions()

    def ours(features):
        y, cache = roi_align(
            features, rois.astype(features.dtype), index,
            output_size=5, spatial_scale=SCALE, sampling_ratio=sampling_ratio, aligned=aligned, reduce="max",
        )  # fmt: skip
        return y, lambda dy: roi_align_backward(dy, cache)

    def theirs(features):
        fine = ops.roi_align(
            nchw(features), with_index(rois, index, features.dtype), 5 * sampling_ratio, SCALE, 1, aligned
        )
        return nhwc(F.max_pool2d(fine, sampling_ratio))

    check_op("roi_align max", ours, theirs, np.random.default_rng(2).standard_normal(MAPS))


def test_roi_align_without_regions():
    features = np.random.default_rng(3).standard_normal(MAPS)
    y, cache = roi_align(features, np.zeros((0, 4)), np.zeros(0, int), output_size=7, spatial_scale=SCALE)
    expected = ops.roi_align(nchw(torch.from_numpy(features)), torch.zeros(0, 5).double(), 7, SCALE)
    assert y.shape == nhwc(expected).shape and not roi_align_backward(y, cache).any()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("output_size", [7, (3, 2), 1])
def test_roi_pool(output_size, ties):
    rois, index = regions(flipped=True)
    x = np.random.default_rng(4).standard_normal(MAPS)
    x = np.round(x) if ties else x

    def ours(features):
        y, cache = roi_pool(
            features, rois.astype(features.dtype), index, output_size=output_size, spatial_scale=SCALE, split="caffe"
        )
        return y, lambda dy: roi_pool_backward(dy, cache)

    def theirs(features):
        rows = with_index(rois, index, features.dtype)
        return nhwc(ops.roi_pool(nchw(features), rows, output_size, SCALE))

    check_op("roi_pool", ours, theirs, x)
