import tracemalloc

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import make_sample, small_config
from PIL import Image
from scenes import sample_of

import kernels
from mrcnn_np.config import presets
from mrcnn_np.errors import ConfigError
from mrcnn_np.model import MaskRCNN
from mrcnn_np.molding import (
    Molding,
    at_size,
    compose_meta,
    expand_masks,
    make_batch,
    minimise_masks,
    mold_image,
    parse_meta,
    plan,
    resized_shape,
    whole_pixels,
)
from mrcnn_np.resizing import resize_image

TINY, MATTERPORT = presets.tiny(), presets.matterport()
TORCHVISION, DETECTRON2 = presets.torchvision(), presets.detectron2()
sides = st.integers(1, 3000)


def noise(shape, boxes=(), name="a"):
    """A sample of noise whose masks fill their boxes."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return sample_of(boxes, shape=shape, image=image, name=name)


# --- where an image goes, by hand ---

SHAPES = [
    # (config, original, resized, canvas, offset)
    (MATTERPORT, (375, 500), (768, 1024), (1024, 1024), (128, 0)),  # scale 2.048, not 2.133
    (MATTERPORT, (500, 375), (1024, 768), (1024, 1024), (0, 128)),
    (MATTERPORT, (1024, 1024), (1024, 1024), (1024, 1024), (0, 0)),
    (MATTERPORT, (900, 900), (900, 900), (1024, 1024), (62, 62)),  # fits already: neither grown nor shrunk
    (MATTERPORT, (2048, 1000), (1024, 500), (1024, 1024), (0, 262)),
    (MATTERPORT, (1, 1), (800, 800), (1024, 1024), (112, 112)),
    (MATTERPORT, (5000, 50), (1024, 10), (1024, 1024), (0, 507)),
    (MATTERPORT, (50, 5000), (10, 1024), (1024, 1024), (507, 0)),
    (MATTERPORT, (2048, 1025), (1024, 512), (1024, 1024), (0, 256)),  # 512.5: halves go to even
    (MATTERPORT, (801, 834), (801, 834), (1024, 1024), (111, 95)),  # odd rest: the smaller half goes first
    (TORCHVISION, (375, 500), (800, 1066), (800, 1088), (0, 0)),  # 1066.67 rounds down
    (DETECTRON2, (375, 500), (800, 1067), (800, 1088), (0, 0)),
    (TORCHVISION, (480, 640), (800, 1066), (800, 1088), (0, 0)),
    (TORCHVISION, (800, 1333), (800, 1333), (800, 1344), (0, 0)),
    (TORCHVISION, (1, 1), (800, 800), (800, 800), (0, 0)),
    (TORCHVISION, (5000, 50), (1333, 13), (1344, 32), (0, 0)),
    (TORCHVISION, (447, 1235), (482, 1332), (512, 1344), (0, 0)),  # 1235 * (1333 / 1235) < 1333
    (TORCHVISION, (1, 5000), (1, 1333), (32, 1344), (0, 0)),  # never below one pixel
    (DETECTRON2, (5000, 50), (1333, 13), (1344, 32), (0, 0)),
    (DETECTRON2, (64, 65), (800, 813), (800, 832), (0, 0)),  # 812.5: halves go up
    (TINY, (128, 128), (128, 128), (128, 128), (0, 0)),
    (TINY, (300, 200), (128, 85), (128, 128), (0, 0)),
    (TINY, (1, 1), (128, 128), (128, 128), (0, 0)),
    (TINY, (5000, 50), (128, 1), (128, 128), (0, 0)),
]


@pytest.mark.parametrize("config, original, resized, canvas, offset", SHAPES, ids=lambda v: getattr(v, "name", str(v)))
def test_plan_by_hand(config, original, resized, canvas, offset):
    assert plan(original, config) == Molding(original, resized, canvas, offset)


def detectron2_shape(h, w, short_edge=800, max_size=1333):
    """The arithmetic of detectron2's shortest-edge resize."""
    scale = short_edge / min(h, w)
    new_h, new_w = (short_edge, scale * w) if h < w else (scale * h, short_edge)
    if max(new_h, new_w) > max_size:
        shrink = max_size / max(new_h, new_w)
        new_h, new_w = new_h * shrink, new_w * shrink
    return max(1, int(new_h + 0.5)), max(1, int(new_w + 0.5))


def test_shortest_edge_equals_detectron2s_arithmetic():
    rng = np.random.default_rng(0)
    for h, w in rng.integers(1, 2500, (5000, 2)).tolist():
        assert resized_shape((h, w), DETECTRON2) == detectron2_shape(h, w), (h, w)


def test_shortest_edge_equals_torchvision():
    torch = pytest.importorskip("torch")
    transform = pytest.importorskip("torchvision.models.detection.transform")
    resize = transform.GeneralizedRCNNTransform(80, 133, [0, 0, 0], [1, 1, 1])
    rng = np.random.default_rng(0)
    config = TORCHVISION.replace(image_min_size=80, image_max_size=133)
    for h, w in [(45, 124), *rng.integers(8, 200, (100, 2)).tolist()]:
        images, _ = resize([torch.zeros(3, h, w)])
        molding = plan((h, w), config)
        assert molding.resized_shape == images.image_sizes[0]
        assert molding.molded_shape == tuple(images.tensors.shape[2:])


@given(sides, sides, st.sampled_from([TINY, MATTERPORT, TORCHVISION, DETECTRON2]))
@settings(max_examples=200, deadline=None)
def test_the_image_fits_its_canvas(h, w, config):
    molding = plan((h, w), config)
    top, left, bottom, right = molding.window
    assert 0 <= top < bottom <= molding.molded_shape[0]
    assert 0 <= left < right <= molding.molded_shape[1]
    assert (bottom - top, right - left) == molding.resized_shape
    assert all(side % 32 == 0 for side in molding.molded_shape)
    assert max(molding.resized_shape) <= config.image_max_size


# --- boxes ---


def test_boxes_by_hand():
    # 375 x 500 -> 768 x 1024, 128 rows of padding on top: y = 2.048 y + 128, x = 2.048 x
    molding = plan((375, 500), MATTERPORT)
    assert molding.scale == (2.048, 2.048) and molding.window == (128, 0, 896, 1024)
    boxes = np.array([[0.0, 0, 375, 500], [100, 200, 110, 225]])
    expected = [[128, 0, 896, 1024], [332.8, 409.6, 353.28, 460.8]]
    np.testing.assert_allclose(molding.mold_boxes(boxes), expected, rtol=1e-15)
    np.testing.assert_allclose(molding.unmold_boxes(np.array(expected)), boxes, rtol=1e-14)


@given(
    sides, sides, st.integers(0, 2**32 - 1), st.sampled_from([TINY, MATTERPORT, TORCHVISION, DETECTRON2]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_boxes_survive_the_round_trip(h, w, seed, config):
    molding = plan((h, w), config)
    boxes = np.random.default_rng(seed).uniform(0, 1, (5, 4)) * [h, w, h, w]
    there = molding.mold_boxes(boxes)
    # Two roundings on coordinates up to 3000 (float64)
    np.testing.assert_allclose(molding.unmold_boxes(there), boxes, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(molding.mold_boxes(molding.unmold_boxes(there)), there, rtol=1e-12, atol=1e-10)
    # The whole image is the window, whatever was rounded
    whole = molding.mold_boxes(np.array([[0.0, 0, h, w]]))
    np.testing.assert_allclose(whole, [molding.window], rtol=1e-12)


def test_boxes_keep_dtype_and_number():
    molding = plan((30, 40), TINY)
    for dtype in (np.float32, np.float64):
        for count in (0, 3):
            boxes = np.ones((count, 4), dtype)
            assert molding.mold_boxes(boxes).dtype == molding.unmold_boxes(boxes).dtype == dtype
            assert molding.mold_boxes(boxes).shape == (count, 4)


# --- pixels ---


def test_pixels_by_hand():
    image = np.array([[[255, 0, 51]]], np.uint8)
    molded, molding = mold_image(image, TINY)  # (p / 255 - 0.5) / 0.25
    assert molded.shape == (128, 128, 3) and molding.window == (0, 0, 128, 128)
    np.testing.assert_allclose(molded[64, 64], [2, -2, -1.2], rtol=1e-6)

    image = np.full((1024, 512, 3), (10, 20, 30), np.uint8)
    molded, _ = mold_image(image, MATTERPORT)
    np.testing.assert_allclose(molded[500, 500], [10 - 123.7, 20 - 116.8, 30 - 103.9], rtol=1e-6)
    # matterport's padding is black *before* the mean is taken off
    np.testing.assert_allclose(molded[500, 0], [-123.7, -116.8, -103.9], rtol=1e-6)

    image = np.full((800, 801, 3), (10, 20, 30), np.uint8)
    molded, _ = mold_image(image, TORCHVISION)
    expected = [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(molded[0, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(molded[0, 801], 0)

    molded, _ = mold_image(image, DETECTRON2)  # blue first
    np.testing.assert_allclose(molded[0, 0], [30 - 103.53, 20 - 116.28, 10 - 123.675], rtol=1e-6)
    np.testing.assert_array_equal(molded[0, 801], 0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 23), (90, 2)])
def test_pixels_equal_a_loop(shape):
    config = TINY.replace(image_min_size=32, image_max_size=32)
    image = noise(shape).image
    molded, molding = mold_image(image, config, np.float64)
    h, w = molding.resized_shape
    expected = (naive.resize_bilinear(image.astype(float), (h, w)) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(molded[:h, :w], expected, atol=1e-12)


def test_pixels_equal_torchvision():
    torch = pytest.importorskip("torch")
    transform = pytest.importorskip("torchvision.models.detection.transform")
    resize = transform.GeneralizedRCNNTransform(80, 133, TORCHVISION.pixel_mean, TORCHVISION.pixel_std)
    config = TORCHVISION.replace(image_min_size=80, image_max_size=133)
    for shape in [(50, 70), (123, 61), (45, 124), (200, 90)]:
        image = noise(shape).image
        images, _ = resize([torch.from_numpy(image).permute(2, 0, 1) / 255])
        molded, _ = mold_image(image, config)
        # torch computes coordinates in float32: the last bit of column 100 is 7.6e-6, times differences of pixels up to
        # 4.5, makes 3.4e-5; 2.0e-5 measured
        np.testing.assert_allclose(molded, images.tensors[0].permute(1, 2, 0).numpy(), atol=4e-5)


def test_pil_filter_is_pillows():
    image = noise((1500, 1700)).image
    molded, molding = mold_image(image, DETECTRON2, np.float64)
    h, w = molding.resized_shape
    expected = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))[..., ::-1]
    np.testing.assert_array_equal(np.round(molded[:h, :w] + DETECTRON2.pixel_mean), expected)


def test_an_image_of_the_right_size_is_not_touched():
    image = noise((128, 128)).image
    for resize_filter in ("bilinear", "pil"):
        molded, _ = mold_image(image, TINY.replace(resize_filter=resize_filter), np.float64)
        np.testing.assert_array_equal(np.round((molded * 0.25 + 0.5) * 255), image)


@given(st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_a_constant_image_stays_constant(h, w):
    molded, molding = mold_image(np.full((h, w, 3), 200, np.uint8), TINY, np.float64)
    top, left, bottom, right = molding.window
    np.testing.assert_allclose(molded[top:bottom, left:right], (200 / 255 - 0.5) / 0.25, rtol=1e-12)
    assert np.count_nonzero(molded) == 3 * (bottom - top) * (right - left)


def test_dtype_and_input_are_kept():
    image = noise((20, 30)).image
    before = image.copy()
    for config in (TINY, DETECTRON2.replace(image_min_size=32, image_max_size=64)):
        for dtype in (np.float32, np.float64):
            assert mold_image(image, config, dtype)[0].dtype == dtype
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_mold_image_refuses_other_images(image):
    with pytest.raises(ValueError, match="expected \\(H, W, 3\\) of uint8"):
        mold_image(image, TINY)


# --- masks ---


def test_masks_follow_their_boxes():
    # 2 x enlarged and padded by 3 rows at the top: mask pixel (i, j) becomes a 2 x 2 block
    molding = Molding((4, 5), (8, 10), (16, 16), (3, 0))
    masks = np.zeros((1, 4, 5), bool)
    masks[0, 1, 2] = True
    molded = molding.mold_masks(masks)
    assert np.argwhere(molded[0]).tolist() == [[5, 4], [5, 5], [6, 4], [6, 5]]
    np.testing.assert_array_equal(molding.mold_boxes(np.array([[1.0, 2, 2, 3]])), [[5, 4, 7, 6]])


def test_masks_without_objects():
    assert plan((5000, 50), TINY).mold_masks(np.zeros((0, 5000, 50), bool)).shape == (0, 128, 128)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_enlarged_masks_come_back_exactly(h, w, factor, seed):
    mask = np.random.default_rng(seed).random((2, h, w)) < 0.5
    molding = Molding((h, w), (h * factor, w * factor), (h * factor + 5, w * factor + 7), (2, 3))
    molded = molding.mold_masks(mask)
    top, left, bottom, right = molding.window
    np.testing.assert_array_equal(molded[:, top:bottom:factor, left:right:factor], mask)
    assert molded.sum() == mask.sum() * factor**2


# --- batches ---


def test_batch_pads_to_the_largest():
    config = TORCHVISION.replace(image_min_size=32, image_max_size=64)
    a = noise((10, 20), [(1, 2, 5, 9)], name="a")
    b = noise((30, 10), [(0, 0, 3, 3), (4, 5, 6, 10)], name="b")
    batch = make_batch([a, b], config)
    assert batch.image_ids == ("a", "b")
    assert batch.images.shape == (2, 64, 64, 3)
    assert [m.molded_shape for m in batch.moldings] == [(64, 64)] * 2
    assert [m.resized_shape for m in batch.moldings] == [(32, 64), (64, 21)]
    assert [len(g) for g in batch.gt_boxes] == [1, 2]
    assert batch.gt_masks[0].shape == (1, 64, 64)
    assert not batch.images[0, 32:].any()
    np.testing.assert_allclose(batch.gt_boxes[0], [[3.2, 6.4, 16, 28.8]], rtol=1e-6)
    assert batch.active_class_ids.shape == (2, config.num_classes) and batch.active_class_ids.all()
    for n, sample in enumerate((a, b)):
        alone, molding = mold_image(sample.image, config)
        np.testing.assert_array_equal(batch.images[n, : alone.shape[0], : alone.shape[1]], alone)
        assert batch.moldings[n].window == molding.window


@pytest.mark.parametrize("shape", [(1, 1), (5000, 50), (50, 5000), (7, 9)])
@pytest.mark.parametrize("objects", [0, 1])
def test_batch_of_any_shape(shape, objects):
    sample = noise(shape, [(0, 0, *shape)][:objects])
    batch = make_batch([sample], TINY, np.float64)
    assert batch.images.dtype == batch.gt_boxes[0].dtype == np.float64
    assert batch.gt_boxes[0].shape == (objects, 4) and batch.gt_masks[0].shape == (objects, 128, 128)
    np.testing.assert_allclose(batch.gt_boxes[0], [batch.moldings[0].window][:objects] or np.zeros((0, 4)), rtol=1e-12)
    assert batch.gt_masks[0].sum() == objects * np.prod(batch.moldings[0].resized_shape)


def test_batch_needs_a_sample():
    with pytest.raises(ValueError, match="at least one sample"):
        make_batch([], TINY)


def test_batch_with_mini_masks():
    sample = noise((128, 128), [(10, 20, 40, 80)])
    batch = make_batch([sample, noise((128, 128))], TINY.replace(mini_mask_shape=(14, 12)))
    assert batch.gt_masks[0].shape == (1, 14, 12) and batch.gt_masks[0].all()
    assert batch.gt_masks[1].shape == (0, 14, 12)


# --- mini masks ---


def test_whole_pixels():
    boxes = np.array([[1.0, 2, 3, 4], [1.2, 2.7, 3.1, 4.9], [0, 0, 0.1, 0.1], [9.9995, 9, 12, 11], [5, 5, 5, 5]])
    expected = [[1, 2, 3, 4], [1, 2, 4, 5], [0, 0, 1, 1], [9, 9, 10, 10], [5, 5, 6, 6]]
    np.testing.assert_array_equal(whole_pixels(boxes, (10, 10)), expected)
    assert whole_pixels(np.zeros((0, 4)), (10, 10)).shape == (0, 4)


def naive_mini(box, mask, shape):
    """matterport's minimise: cut out, resize, round."""
    y1, x1, y2, x2 = (int(v) for v in box)
    return naive.resize_bilinear(mask[y1:y2, x1:x2, None].astype(float), shape)[..., 0] > 0.5  # a half to even


def test_minimise_equals_a_loop():
    rng = np.random.default_rng(0)
    boxes = np.array([[0.0, 0, 30, 30], [3, 5, 4, 6], [10, 2, 27, 25]])
    masks = rng.random((3, 30, 30)) < 0.5
    mini = minimise_masks(boxes, masks, (8, 6))
    assert mini.dtype == bool
    for g in range(3):
        np.testing.assert_array_equal(mini[g], naive_mini(boxes[g], masks[g], (8, 6)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_mini_masks_of_whole_multiples_come_back_exactly(seed, fy, fx):
    """An object drawn in blocks no finer than the mini pixels survives, and nothing appears outside the box."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((6, 7)) < 0.5
    mask = np.zeros((1, 50, 60), bool)
    mask[0, 3 : 3 + 6 * fy, 4 : 4 + 7 * fx] = coarse.repeat(fy, 0).repeat(fx, 1)
    boxes = np.array([[3.0, 4, 3 + 6 * fy, 4 + 7 * fx]])
    mini = minimise_masks(boxes, mask, (6 * fy, 7 * fx))  # one mini pixel per pixel
    np.testing.assert_array_equal(expand_masks(boxes, mini, (50, 60)), mask)


def test_mini_mask_flaw_thin_parts_are_lost():
    """Known flaw: a box of 560 pixels in 56 cells is read at every tenth pixel, and a line between them is not seen."""
    mask = np.zeros((1, 600, 600), bool)
    mask[0, 0:560, 0] = mask[0, 0, 0:560] = True  # two edges make the box
    mask[0, 302, :560] = True  # centres of mini pixels read rows 4 and 5, 14 and 15, ..: never row 302
    mini = minimise_masks(np.array([[0.0, 0, 560, 560]]), mask, (56, 56))
    assert not mini.any()
    assert not expand_masks(np.array([[0.0, 0, 560, 560]]), mini, (600, 600)).any()


def test_mini_mask_flaw_corners_are_rounded():
    """Known flaw: what is enlarged comes back right, what is larger than the mini mask comes back with other edges."""
    rng = np.random.default_rng(0)
    small, large = np.zeros((1, 300, 300), bool), np.zeros((1, 300, 300), bool)
    small[0, :20, :20] = rng.random((20, 20)) < 0.5
    large[0, :280, :280] = np.kron(rng.random((40, 40)) < 0.5, np.ones((7, 7), bool))
    box = np.array([[0.0, 0, 280, 280]])
    back = expand_masks(box, minimise_masks(box, large, (56, 56)), (300, 300))
    assert 0.02 < (back != large).sum() / 280**2 < 0.25
    box = np.array([[0.0, 0, 20, 20]])
    back = expand_masks(box, minimise_masks(box, small, (100, 100)), (300, 300))
    assert (back != small).sum() == 0


def test_mini_mask_flaw_what_is_outside_the_box_is_gone():
    mask = np.ones((1, 20, 20), bool)
    box = np.array([[5.0, 5, 10, 10]])
    back = expand_masks(box, minimise_masks(box, mask, (4, 4)), (20, 20))
    assert back.sum() == 25 and back[0, 5:10, 5:10].all()


# --- image meta ---


@pytest.mark.parametrize("classes, length", [(81, 93), (21, 33), (2, 14)])
def test_meta_round_trip(classes, length):
    molding = plan((375, 500), MATTERPORT)
    active = np.arange(classes) % 2
    meta = compose_meta(42, molding, active)
    assert meta.shape == (length,)
    parts = parse_meta(meta)
    assert {name: part.tolist() for name, part in parts.items()} == {
        "image_id": [42],
        "original_shape": [375, 500, 3],
        "molded_shape": [1024, 1024, 3],
        "window": [128, 0, 896, 1024],
        "scale": [2.048],
        "active_class_ids": active.tolist(),
    }


@given(sides, sides, st.integers(0, 10**6), st.integers(2, 100), st.sampled_from([TINY, MATTERPORT, TORCHVISION]))
@settings(max_examples=40, deadline=None)
def test_parse_undoes_compose(h, w, image_id, classes, config):
    molding = plan((h, w), config)
    meta = compose_meta(image_id, molding, np.ones(classes, bool))
    assert len(meta) == 12 + classes
    parts = parse_meta(np.stack([meta, meta]))
    again = np.concatenate(list(parts.values()), axis=1)
    np.testing.assert_array_equal(again, [meta, meta])
    assert tuple(parts["window"][0].astype(int)) == molding.window


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gt_boxes": np.array([[5, 5, 5, 9]], np.float32)}, r"image a: box 0 is .* expected y1 < y2"),
        ({"gt_boxes": np.array([[5, 5, np.nan, 9]], np.float32)}, "box 0"),
        ({"gt_masks": np.zeros((1, 3, 4), bool)}, r"gt_masks has shape \(1, 3, 4\), expected \(1, 64, 64\)"),
        ({"gt_masks": np.zeros((0, 64, 64), bool)}, "gt_masks"),
        ({"gt_class_ids": np.array([0])}, r"class ids \[0\], expected 1 .. 3"),
        ({"gt_class_ids": np.array([4])}, "class ids"),
    ],
)
def test_contradictory_samples_are_refused(change, message):
    sample = make_sample(np.random.default_rng(0), objects=1)
    with pytest.raises(ValueError, match=message):
        make_batch([sample.replace(**change)], small_config())


# --- large images ---


@pytest.mark.parametrize("preset", ["tiny", "matterport", "torchvision", "detectron2"])
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_strips_are_the_same_bits(monkeypatch, preset, backend):
    """However large an image is, and however it is cut: also where it grows, or keeps its height or width."""
    image = np.random.default_rng(0).integers(3, 256, (210, 150, 3), np.uint8)
    config = presets.by_name(preset)
    with kernels.use(backend):
        for size in [(40, 31), (210, 31), (40, 150), (500, 400), (1, 1), (210, 151)]:
            for dtype in (np.float32, np.float64):
                monkeypatch.setattr("mrcnn_np.resizing.WHOLE", 1 << 25)
                whole = resize_image(image, size, config, dtype)
                monkeypatch.setattr("mrcnn_np.resizing.WHOLE", 0)
                for strip in (1, 3 * 150 * 7, 1 << 21):
                    monkeypatch.setattr("mrcnn_np.resizing.STRIP", strip)
                    np.testing.assert_array_equal(resize_image(image, size, config, dtype), whole)


def test_memory_of_a_large_image():
    """Nothing as large as the image is made on the way: 36 megapixels as float64 would be 824 MiB."""
    image = np.full((6000, 6000, 3), 7, np.uint8)
    tracemalloc.start()
    mold_image(image, MATTERPORT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 << 20


def test_at_another_size():
    square, edge = presets.small(num_classes=2), presets.torchvision(num_classes=2)
    assert at_size(square, square.image_max_size) == square
    larger = at_size(square, 2 * square.image_max_size, ("detections_per_image",))
    assert larger.image_min_size == larger.image_max_size == 2 * square.image_max_size
    assert larger.proposals_pre_nms_test == 4 * square.proposals_pre_nms_test
    assert larger.proposals_post_nms_test == 4 * square.proposals_post_nms_test
    assert larger.detections_per_image == square.detections_per_image
    assert at_size(square, 64).detections_per_image == square.detections_per_image
    assert (at_size(edge, 1600).image_min_size, at_size(edge, 1600).image_max_size) == (1600, 2666)
    for size, near in ((250, "224 or 256"), (5, "32 or 64")):
        with pytest.raises(ConfigError, match=f"^size is {size}; expected a multiple of 32, such as {near}"):
            at_size(square, size)
    model = MaskRCNN(presets.tiny(num_classes=2), rng=np.random.default_rng(0))
    slide = np.zeros((256, 256, 3), np.uint8)
    assert model.at_size(256).config == at_size(model.config, 256) and model.at_size(256).params is model.params
    assert len(model.at_size(256).detect(slide)) == 1
