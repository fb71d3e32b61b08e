"""RoIAlign over the pyramid, and RoIPool, as nodes of ONNX, beside ours."""

import numpy as np
import pytest
from onnx_run import computed

from mrcnn_np import presets
from mrcnn_np.onnx.pyramid import roi_features, roi_level
from mrcnn_np.ops.roi_pool import roi_pool
from mrcnn_np.pyramid import pyramid_roi_align
from mrcnn_np.pyramid import roi_level as our_level

WAYS = {
    "torchvision": {},
    "aligned": {"roi_aligned": True},
    "adaptive": {"roi_aligned": True, "roi_sampling_ratio": 0},
    "three samples": {"roi_sampling_ratio": 3},
    "largest": {"roi_reduce": "max", "roi_aligned": True},
    "largest of one": {"roi_reduce": "max", "roi_sampling_ratio": 1},
    "crops": {"roi_method": "crop_and_resize", "roi_level_rounding": "round"},
    "pooled": {"roi_method": "roi_pool"},
}


def regions(count):
    """Regions of all levels, some beyond the canvas, one a line, one without area, one of a pixel."""
    rng = np.random.default_rng(0)
    corner, side = rng.uniform(-20, 100, (count, 2)), np.exp(rng.uniform(0, 5, (count, 2)))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    odd = np.array([[5, 5, 5, 60], [9, 9, 9, 9], [0, 0, 1, 1], [0, 0, 128, 96]], np.float32)
    return np.concatenate([boxes, odd[: len(boxes)]])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("count", "size"), [(30, 7), (30, 1), (0, 7)])
def test_features(way, count, size):
    config = presets.torchvision(roi_canonical_size=56.0, **way)
    rng, canvas, rois = np.random.default_rng(1), (128, 96), regions(count)
    maps = [rng.standard_normal((1, canvas[0] // s, canvas[1] // s, 5)).astype(np.float32) for s in (4, 8, 16, 32)]
    expected, _ = pyramid_roi_align(
        maps, rois, np.zeros(len(rois), np.int64), output_size=size, strides=(4, 8, 16, 32), canonical_size=56.0,
        rounding=config.roi_level_rounding, method=config.roi_method, sampling_ratio=config.roi_sampling_ratio,
        aligned=config.roi_aligned, reduce=config.roi_reduce, image_shape=canvas,
    )  # fmt: skip

    def add(g, rois, canvas, *pyramid):
        return [(roi_features(g, list(pyramid), rois, size, canvas, config), np.float32, 4)]

    inputs = {"rois": rois, "canvas": np.array(canvas, np.int64)}
    inputs |= {f"p{level}": m.transpose(0, 3, 1, 2) for level, m in enumerate(maps, start=2)}
    (found,) = computed(add, inputs)
    # A crop's positions go to -1 .. 1 and back, which costs a millionth of a pixel
    tolerance = 2e-5 if config.roi_method == "roi_align" else 2e-4
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, atol=tolerance)


@pytest.mark.parametrize("stride", [16, 12])
@pytest.mark.parametrize("size", [7, 14, 1])
def test_roi_pool_on_one_map_has_the_same_values(stride, size):
    """Corners lie on whole cells, halves and quarters, and somewhere; also beyond the map, and inside out."""
    config = presets.vgg16(anchor_strides=(stride,))
    rng = np.random.default_rng(0)
    feature = rng.standard_normal((1, 23, 31, 3)).astype(np.float32)
    corner, side = rng.integers(-24, 140, (400, 2)), rng.integers(-8, 248, (400, 2))
    rois = np.concatenate([corner, corner + side], axis=1) * stride / 8
    rois[200:] += rng.normal(0, 3, (200, 4))
    rois = rois.astype(np.float32)

    def add(g, rois, feature):
        return [(roi_features(g, [feature], rois, size, "", config), np.float32, 4)]

    for some in (rois, rois[:0]):
        index = np.zeros(len(some), np.int64)
        expected, _ = roi_pool(feature, some, index, output_size=size, spatial_scale=1 / stride)
        (found,) = computed(add, {"rois": some, "feature": feature.transpose(0, 3, 1, 2)})
        np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), expected)


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_levels_of_sides_next_to_a_power_of_two(rounding):
    config = presets.torchvision(roi_level_rounding=rounding)
    sides = [np.float32(224 * 2**power) for power in (-8, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 2)]
    sides += [np.nextafter(side, np.float32(towards)) for side in sides for towards in (0, 1e9)]
    rois = np.array([[0, 0, side, side] for side in [*sides, 0]], np.float32)
    (found,) = computed(lambda g, rois: [(roi_level(g, rois, config), np.float32, 1)], {"rois": rois})
    np.testing.assert_array_equal(found, our_level(rois, rounding=rounding))
