import numpy as np
import pytest
from gradcheck import check_gradients

from mrcnn_np.ops.crop_and_resize import crop_and_resize
from mrcnn_np.ops.roi_align import roi_align
from mrcnn_np.ops.roi_pool import roi_pool
from mrcnn_np.pyramid import normalise_boxes, pyramid_roi_align, pyramid_roi_align_backward, roi_level

STRIDES = (4, 8, 16, 32)


def squares(*sides, dtype=np.float64):
    return np.array([[0, 0, s, s] for s in sides], dtype=dtype)


def random_pyramid(rng, channels=2, maps=2, dtype=np.float64):
    """Levels of a 64 x 96 image."""
    return [rng.normal(size=(maps, 64 // s, 96 // s, channels)).astype(dtype) for s in STRIDES]


def random_rois(rng, n, dtype=np.float64):
    """RoIs of 4 to 60 pixels: with a canonical size of 24 they spread over all levels."""
    sides = np.exp(rng.uniform(np.log(4), np.log(60), (n, 1))) * rng.uniform(0.8, 1.25, (n, 2))
    corner = rng.uniform(0, [40, 60], (n, 2))
    return np.concatenate([corner, corner + sides], axis=1).astype(dtype)


# --- level ---


def test_levels_by_hand():
    sides = squares(56, 111, 112, 223, 224, 447, 448, 10000, 1)
    assert roi_level(sides).tolist() == [2, 2, 3, 3, 4, 4, 5, 5, 2]
    # Nearest: the borders lie at 224 / sqrt(2) = 158.4 and 224 sqrt(2) = 316.8.
    assert roi_level(squares(158, 159, 316, 317), rounding="round").tolist() == [3, 4, 4, 5]
    assert roi_level(squares(56, 28, 112), canonical_size=56).tolist() == [4, 3, 5]
    assert roi_level(squares(112), canonical_level=5).tolist() == [4]
    assert roi_level(squares(1, 1e4), min_level=3, max_level=4).tolist() == [3, 4]


def test_only_the_area_counts():
    assert roi_level(np.array([[0.0, 0, 448, 112], [0, 0, 112, 448]])).tolist() == [4, 4]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_of_two_do_not_fall_a_level(dtype):
    for fraction in (1.0, 0.1, 0.7):  # corners that float32 cannot hold exactly
        rois = squares(112, 224, 448, dtype=dtype) + dtype(fraction)
        assert roi_level(rois).tolist() == [3, 4, 5]


@pytest.mark.parametrize("rounding", ["floor", "round"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rois_without_area_go_to_the_lowest_level_without_warnings(rounding, dtype):
    with np.errstate(all="raise"):
        levels = roi_level(np.array([[5, 5, 5, 5], [5, 5, 9, 2], [0, 0, 0, 7]], dtype=dtype), rounding=rounding)
    assert levels.tolist() == [2, 2, 2] and levels.dtype == np.int64


def test_rounding_parts_at_half_a_level():
    side = 100 * 2**0.5
    below, above = squares(side * (1 - 1e-12), side * (1 + 1e-12))[:, None]
    assert roi_level(below, canonical_size=100, rounding="round").tolist() == [4]
    assert roi_level(above, canonical_size=100, rounding="round").tolist() == [5]


def test_no_rois_have_no_levels():
    assert roi_level(np.zeros((0, 4))).shape == (0,)


def test_level_errors():
    with pytest.raises(ValueError, match="rounding is 'ceil'"):
        roi_level(squares(1), rounding="ceil")
    with pytest.raises(ValueError, match="min_level is 5"):
        roi_level(squares(1), min_level=5, max_level=2)


# --- pooling over levels ---


@pytest.mark.parametrize("options", [{}, {"aligned": True, "sampling_ratio": 0}, {"reduce": "max"}])
def test_every_roi_is_read_from_its_own_level(options):
    rng = np.random.default_rng(0)
    features, rois, batch_index = random_pyramid(rng), random_rois(rng, 20), rng.integers(0, 2, 20)
    pooled, _ = pyramid_roi_align(
        features, rois, batch_index, output_size=(3, 2), strides=STRIDES, canonical_size=24.0, **options
    )
    levels = roi_level(rois, canonical_size=24)
    assert set(levels) == {2, 3, 4, 5}
    for r in range(20):
        alone, _ = roi_align(
            features[levels[r] - 2], rois[r : r + 1], batch_index[r : r + 1], output_size=(3, 2),
            spatial_scale=1 / STRIDES[levels[r] - 2], **{"aligned": False, **options},
        )  # fmt: skip
        np.testing.assert_allclose(pooled[r], alone[0], atol=1e-14)


def test_crop_and_resize_reads_normalised_boxes():
    rng = np.random.default_rng(1)
    features, rois, batch_index = random_pyramid(rng), random_rois(rng, 12), rng.integers(0, 2, 12)
    pooled, _ = pyramid_roi_align(
        features, rois, batch_index, output_size=3, strides=STRIDES, canonical_size=32.0, rounding="round",
        method="crop_and_resize", image_shape=(64, 96),
    )  # fmt: skip
    for r in range(12):
        y1, x1, y2, x2 = rois[r]
        box = np.array([[y1 / 63, x1 / 95, (y2 - 1) / 63, (x2 - 1) / 95]])
        side = np.sqrt((box[0, 2] - box[0, 0]) * 64 * (box[0, 3] - box[0, 1]) * 96)
        level = int(np.clip(4 + np.round(np.log2(side / 32)), 2, 5))
        alone, _ = crop_and_resize(features[level - 2], box, batch_index[r : r + 1], output_size=3)
        np.testing.assert_allclose(pooled[r], alone[0], atol=1e-13)


def test_normalise_by_hand():
    box = np.array([[10, 0, 20, 101]], dtype=np.float32)
    np.testing.assert_allclose(normalise_boxes(box, (101, 101)), [[0.1, 0, 0.19, 1]], rtol=1e-6)
    assert normalise_boxes(box, (101, 101)).dtype == np.float32
    np.testing.assert_array_equal(normalise_boxes(np.array([[0.0, 0, 1, 1]]), (1, 1)), np.zeros((1, 4)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"aligned": True, "sampling_ratio": 0},
        {"reduce": "max"},
        {"method": "crop_and_resize", "image_shape": (64, 96)},
        {"method": "roi_pool"},
    ],
)
def test_gradients(options):
    rng = np.random.default_rng(2)
    rois, batch_index = random_rois(rng, 10), rng.integers(0, 2, 10)

    def f(*features):
        y, cache = pyramid_roi_align(
            features, rois, batch_index, output_size=2, strides=STRIDES, canonical_size=32.0, **options
        )
        return y, lambda dy: pyramid_roi_align_backward(dy, cache)

    check_gradients(f, *random_pyramid(rng), rng=rng)


@pytest.mark.parametrize("method", ["roi_align", "crop_and_resize", "roi_pool"])
def test_a_level_without_rois_has_zero_gradient(method):
    rng = np.random.default_rng(3)
    features = random_pyramid(rng, dtype=np.float32)
    y, cache = pyramid_roi_align(
        features, squares(33, 40, dtype=np.float32), np.zeros(2, int), output_size=2, strides=STRIDES,
        canonical_size=32.0, method=method, image_shape=(64, 96),
    )  # fmt: skip
    gradients = pyramid_roi_align_backward(np.ones_like(y), cache)
    assert [bool(g.any()) for g in gradients] == [False, False, True, False]
    assert [g.shape for g in gradients] == [f.shape for f in features]
    assert {g.dtype for g in gradients} == {y.dtype} == {np.dtype(np.float32)}
    assert not gradients[2][1].any()  # the other image of the batch

    there = [np.ones_like(f) for f in features]
    assert all(a is b for a, b in zip(pyramid_roi_align_backward(np.ones_like(y), cache, into=there), there))
    for level, gradient in zip(there, gradients):
        np.testing.assert_allclose(level, 1 + gradient, rtol=1e-6)


@pytest.mark.parametrize("method", ["roi_align", "crop_and_resize", "roi_pool"])
def test_no_rois(method):
    features = random_pyramid(np.random.default_rng(4))
    y, cache = pyramid_roi_align(
        features,
        np.zeros((0, 4)),
        np.zeros(0, int),
        output_size=7,
        strides=STRIDES,
        method=method,
        image_shape=(64, 96),
    )
    assert y.shape == (0, 7, 7, 2)
    for gradient, feature in zip(pyramid_roi_align_backward(y, cache), features):
        np.testing.assert_array_equal(gradient, np.zeros_like(feature))


def test_one_map_serves_rois_of_every_size():
    rng = np.random.default_rng(5)
    feature, rois, index = rng.normal(size=(2, 4, 6, 3)), random_rois(rng, 8) * 1.5, rng.integers(0, 2, 8)
    for method, alone in (("roi_align", roi_align), ("roi_pool", roi_pool)):
        y, _ = pyramid_roi_align([feature], rois, index, output_size=7, strides=(16,), method=method, aligned=True)
        options = {"aligned": True} if method == "roi_align" else {}
        expected, _ = alone(feature, rois, index, output_size=7, spatial_scale=1 / 16, **options)
        np.testing.assert_array_equal(y, expected)


def test_the_order_of_rois_is_kept():
    rng = np.random.default_rng(5)
    features, rois, batch_index = random_pyramid(rng), random_rois(rng, 15), rng.integers(0, 2, 15)
    options = {"output_size": 2, "strides": STRIDES, "canonical_size": 32.0}
    y, _ = pyramid_roi_align(features, rois, batch_index, **options)
    shuffle = rng.permutation(15)
    np.testing.assert_array_equal(
        pyramid_roi_align(features, rois[shuffle], batch_index[shuffle], **options)[0], y[shuffle]
    )


def test_two_images_are_two_batches_of_one():
    rng = np.random.default_rng(6)
    features, rois, batch_index = random_pyramid(rng), random_rois(rng, 15), rng.integers(0, 2, 15)
    options = {"output_size": 2, "strides": STRIDES, "canonical_size": 32.0}
    y, _ = pyramid_roi_align(features, rois, batch_index, **options)
    for image in (0, 1):
        mine = batch_index == image
        alone = pyramid_roi_align(
            [f[image : image + 1] for f in features], rois[mine], batch_index[mine] * 0, **options
        )
        np.testing.assert_array_equal(alone[0], y[mine])


def test_errors():
    features = random_pyramid(np.random.default_rng(7))
    arguments = {"output_size": 2, "strides": STRIDES}
    with pytest.raises(ValueError, match="4 feature maps, 5 strides"):
        pyramid_roi_align(features, squares(1), np.zeros(1, int), output_size=2, strides=(4, 8, 16, 32, 64))
    with pytest.raises(ValueError, match="method is 'roi_warp'"):
        pyramid_roi_align(features, squares(1), np.zeros(1, int), method="roi_warp", **arguments)
    with pytest.raises(ValueError, match="image_shape is None"):
        pyramid_roi_align(features, squares(1), np.zeros(1, int), method="crop_and_resize", **arguments)
    with pytest.raises(ValueError, match=r"roi 0 is .*nan"):
        pyramid_roi_align(features, squares(np.nan), np.zeros(1, int), **arguments)
