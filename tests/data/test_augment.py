import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scenes import sample_of

from mrcnn_np import presets
from mrcnn_np.data.augment import augment, augmented_as, cut, flip_horizontal, recoloured, rescale, tight_box, turn
from mrcnn_np.data.masks import Masks

FIELDS = ("image", "gt_boxes", "gt_class_ids", "gt_masks", "gt_crowd", "gt_difficult", "void")


def make(seed=0, count=3, height=20, width=28, margin=0):
    """Random rectangles, boxes wider than the masks by ``margin`` pixels."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), bool)
    boxes = np.zeros((count, 4), np.float32)
    for mask, box in zip(masks, boxes):
        y, x = rng.integers(2, max(height - 8, 3)), rng.integers(2, max(width - 8, 3))
        h, w = rng.integers(1, 6, size=2)
        mask[y : y + h, x : x + w] = True
        box[:] = (y - margin, x - margin, y + h + margin, x + w + margin)
    return sample_of(
        boxes,
        name="a",
        image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        class_ids=rng.integers(1, 4, count),
        masks=masks,
        crowd=rng.random(count) < 0.5,
        difficult=rng.random(count) < 0.5,
        void=rng.random((height, width)) < 0.1,
    )


def assert_equal(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        assert getattr(a, name).dtype == getattr(b, name).dtype


def assert_consistent(sample, shape):
    """Shapes, dtypes, and boxes within the image; tight around the masks."""
    count = len(sample.gt_boxes)
    assert sample.image.shape == (*shape, 3) and sample.image.dtype == np.uint8
    assert sample.gt_masks.shape == (count, *shape) and sample.gt_masks.dtype == bool
    assert sample.void.shape == shape and sample.void.dtype == bool
    assert sample.gt_boxes.shape == (count, 4) and sample.gt_boxes.dtype == np.float32
    assert len(sample.gt_class_ids) == len(sample.gt_crowd) == len(sample.gt_difficult) == count
    for box, mask in zip(sample.gt_boxes, sample.gt_masks):
        np.testing.assert_allclose(box, tight_box(mask), atol=1e-5)


def test_flip_by_hand():
    sample = make(count=1, height=3, width=5).replace(
        gt_boxes=np.array([[0, 1, 2, 3.5]], np.float32), gt_masks=np.eye(3, 5, dtype=bool)[None]
    )
    out = flip_horizontal(sample)
    np.testing.assert_array_equal(out.gt_boxes, [[0, 1.5, 2, 4]])
    np.testing.assert_array_equal(out.gt_masks[0], [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0]])
    np.testing.assert_array_equal(out.image[:, 0], sample.image[:, 4])
    np.testing.assert_array_equal(out.void[:, 1], sample.void[:, 3])


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("margin", [0, 2])
def test_two_flips_are_the_identity(count, margin):
    sample = make(count=count, margin=margin)
    assert_equal(flip_horizontal(flip_horizontal(sample)), sample)
    if margin == 0:
        assert_consistent(flip_horizontal(sample), (20, 28))


def test_a_quarter_turn_by_hand():
    sample = make(count=1, height=3, width=5).replace(
        gt_boxes=np.array([[0, 1, 2, 3.5]], np.float32), gt_masks=np.eye(3, 5, dtype=bool)[None]
    )
    out = turn(sample, 1)
    np.testing.assert_array_equal(out.gt_boxes, [[1.5, 0, 4, 2]])
    np.testing.assert_array_equal(out.gt_masks[0], [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(out.image[0], sample.image[:, 4])  # the right column is the upper row
    np.testing.assert_array_equal(out.void[4], sample.void[:, 0])


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("quarters", range(-1, 6))
def test_turns_are_those_of_numpy_and_boxes_those_of_the_masks(quarters, count, runs):
    sample = make(seed=3, count=count)
    if runs:
        sample = sample.replace(gt_masks=Masks.of_array(sample.gt_masks))
    out = turn(sample, quarters)
    assert isinstance(out.gt_masks, Masks) == runs
    np.testing.assert_array_equal(out.image, np.rot90(sample.image, quarters))
    np.testing.assert_array_equal(out.void, np.rot90(sample.void, quarters))
    np.testing.assert_array_equal(np.asarray(out.gt_masks), np.rot90(sample.gt_masks, quarters, axes=(1, 2)))
    assert_consistent(out.replace(gt_masks=np.asarray(out.gt_masks)), (28, 20) if quarters % 2 else (20, 28))
    again = turn(out, -quarters)
    assert_equal(again.replace(gt_masks=np.asarray(again.gt_masks)), make(seed=3, count=count))


def test_wide_boxes_and_empty_masks_turn_with_the_picture():
    sample = make(seed=1, margin=2)
    masks = sample.gt_masks.copy()
    masks[0] = False
    out = turn(sample.replace(gt_masks=masks), 1)
    assert not out.gt_masks[0].any()
    for box, mask in zip(out.gt_boxes[1:], out.gt_masks[1:]):
        np.testing.assert_allclose(box, tight_box(mask) + np.array([-2, -2, 2, 2]))


def test_vertical_flips_and_turns_come_as_often_as_asked():
    sample, rng = make(height=21, width=21), np.random.default_rng(0)
    over = turn(flip_horizontal(sample), 2)
    np.testing.assert_array_equal(over.image, sample.image[::-1])
    np.testing.assert_array_equal(over.gt_masks, sample.gt_masks[:, ::-1])
    ways = {turn(sample, q).image.tobytes(): q for q in range(4)}
    found = [ways[augment(sample, rng, flip=0.0, quarter_turns=0.75).image.tobytes()] for _ in range(400)]
    assert all(65 < found.count(q) < 135 for q in range(4))  # 100 each; four standard deviations
    flipped = [augment(sample, rng, flip=0.0, flip_vertical=0.25) is not sample for _ in range(400)]
    assert 65 < sum(flipped) < 135  # the same
    assert_equal(augment(sample, rng, flip=0.0, flip_vertical=1.0), over)


def test_a_window_by_hand():
    masks = np.zeros((2, 4, 5), bool)
    masks[0, 0:2, 1:4] = True
    masks[1, 3, 4] = True
    sample = make(count=2, height=4, width=5).replace(
        gt_masks=masks, gt_boxes=np.array([[0, 1, 2, 4], [3, 4, 4, 5]], np.float32), gt_class_ids=np.array([2, 3])
    )
    out = cut(sample, (1, 2, 4, 4))
    np.testing.assert_array_equal(out.image, sample.image[1:4, 2:4])
    np.testing.assert_array_equal(out.void, sample.void[1:4, 2:4])
    np.testing.assert_array_equal(out.gt_boxes, [[0, 0, 1, 2]])
    np.testing.assert_array_equal(out.gt_masks[0], [[1, 1], [0, 0], [0, 0]])
    assert out.gt_class_ids.tolist() == [2]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 4), low=st.floats(0.05, 1), runs=st.booleans())
def test_crops_are_consistent_and_as_large_as_asked(seed, count, low, runs):
    sample = make(seed, count)
    given_masks = Masks.of_array(sample.gt_masks) if runs else sample.gt_masks
    out = augment(sample.replace(gt_masks=given_masks), np.random.default_rng(seed), flip=0.0, crop=(low, 1.0))
    height, width = out.image.shape[:2]
    assert round(20 * low) <= height <= 20 and round(28 * low) <= width <= 28
    assert_consistent(out.replace(gt_masks=np.asarray(out.gt_masks)), (height, width))
    assert_equal(sample, make(seed, count))
    places = [(y, x) for y in range(21 - height) for x in range(29 - width)]
    assert any((sample.image[y : y + height, x : x + width] == out.image).all() for y, x in places)


def test_colours_by_hand_and_as_pillow_has_them():
    image = make(seed=2, height=30, width=40).image
    assert (recoloured(image, 1.0, 1.0, 1.0) == image).all()
    grey = np.full((2, 2, 3), 100, np.uint8)
    assert (recoloured(grey, 1.5, 0.3, 0.0) == 150).all() and (recoloured(grey, 9.0, 1.0, 1.0) == 255).all()
    picture = Image.fromarray(image)
    for i, enhance in enumerate((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)):
        for factor in (0.5, 1.4):
            factors = [factor if i == j else 1.0 for j in range(3)]
            theirs = np.asarray(enhance(picture).enhance(factor)).astype(int)
            assert abs(recoloured(image, *factors) - theirs).max() <= 1  # they round the grey first


def test_colours_leave_boxes_and_masks_alone():
    sample, rng = make(), np.random.default_rng(0)
    out = augment(sample, rng, flip=0.0, colour_jitter=(0.3, 0.3, 0.3))
    assert (out.image != sample.image).any()
    assert_equal(out.replace(image=sample.image), sample)


def test_fields_that_are_off_draw_nothing():
    """So a run from before there were any goes on to the same bits."""
    used, plain = np.random.default_rng(1), np.random.default_rng(1)
    augmented_as(make(), used, presets.tiny())
    plain.random(4)
    assert used.random() == plain.random()
    one, other = (np.random.default_rng(1) for _ in range(2))
    augment(make(), one, flip_vertical=1.0)
    augment(make(), other, quarter_turns=0.01)
    assert one.random() == other.random()


def test_double_size_and_crop_by_hand():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0:2, 1:3] = True
    masks[1, 3, 3] = True
    sample = make(count=2, height=4, width=4).replace(
        gt_masks=masks, gt_boxes=np.array([[0, 1, 2, 3], [3, 3, 4, 4]], np.float32), gt_class_ids=np.array([2, 3])
    )
    out = rescale(sample, 2.0, (0.0, 0.0))  # the top left quarter: rows 0..1 and columns 0..1 of the original
    np.testing.assert_array_equal(out.gt_masks[0], [[0, 0, 1, 1]] * 4)
    np.testing.assert_array_equal(out.gt_boxes, [[0, 2, 4, 4]])
    assert out.gt_class_ids.tolist() == [2]  # the other one lies outside
    out = rescale(sample, 2.0, (1.0, 1.0))  # the bottom right quarter
    np.testing.assert_array_equal(out.gt_boxes, [[2, 2, 4, 4]])
    assert out.gt_class_ids.tolist() == [3]


def test_half_size_and_padding_by_hand():
    masks = np.zeros((1, 4, 8), bool)
    masks[0, 0:2, 4:8] = True
    sample = make(count=1, height=4, width=8).replace(
        gt_masks=masks, gt_boxes=np.array([[0, 4, 2, 8]], np.float32), void=np.ones((4, 8), bool)
    )
    out = rescale(sample, 0.5, (1.0, 0.0))  # lies in rows 2..3, columns 0..3
    np.testing.assert_array_equal(out.gt_boxes, [[2, 2, 3, 4]])
    np.testing.assert_array_equal(np.argwhere(out.gt_masks[0]), [[2, 2], [2, 3]])
    np.testing.assert_array_equal(out.image[0, 0], np.rint(sample.image.mean(axis=(0, 1))))
    assert out.void[2:, :4].all() and out.void.sum() == 8  # padding is background, not void


def test_wide_boxes_keep_their_margin():
    sample = make(count=1, height=40, width=40).replace(
        gt_masks=np.zeros((1, 40, 40), bool), gt_boxes=np.array([[6, 7, 22, 23]], np.float32)
    )
    sample.gt_masks[0, 10:20, 10:20] = True  # margins: top 4, left 3, bottom 2, right 3
    out = rescale(sample, 1.5, (0.0, 0.0))
    np.testing.assert_allclose(out.gt_boxes, [[9, 10.5, 33, 34.5]])
    out = rescale(sample, 2.0, (0.0, 0.0))  # cut below and to the right
    np.testing.assert_allclose(out.gt_boxes, [[12, 14, 40, 40]])


def test_instance_without_mask_keeps_its_clipped_box():
    sample = make(count=2, height=10, width=10).replace(
        gt_masks=np.zeros((2, 10, 10), bool), gt_boxes=np.array([[1, 2, 4, 9], [6, 6, 9, 9]], np.float32)
    )
    out = rescale(sample, 2.0, (0.0, 0.0))
    np.testing.assert_array_equal(out.gt_boxes, [[2, 4, 8, 10]])
    assert not out.gt_masks.any() and out.gt_masks.shape == (1, 10, 10)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 4),
    scale=st.floats(0.3, 3),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_rescaled_samples_are_consistent(seed, count, scale, place):
    sample = make(seed, count)
    copy = make(seed, count)
    assert_consistent(rescale(sample, scale, place), (20, 28))
    assert_equal(sample, copy)  # inputs are never modified


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5000, 3)])
@pytest.mark.parametrize("scale", [0.1, 0.9, 4.0])
def test_extreme_shapes(shape, scale):
    sample = make(count=0).replace(
        image=np.zeros((*shape, 3), np.uint8), void=np.zeros(shape, bool), gt_masks=np.zeros((0, *shape), bool)
    )
    assert_consistent(rescale(sample, scale), shape)


def test_pixels_masks_and_void_move_together():
    """Paint mask and void into the image: after any augmentation they still lie where the paint is."""
    sample = make(count=1, height=40, width=60)
    masks = np.zeros((1, 40, 60), bool)
    masks[0, 12:28, 20:44] = True
    void = np.zeros((40, 60), bool)
    void[2:10, 30:50] = True
    image = np.zeros((40, 60, 3), np.uint8)
    image[masks[0], 0] = 255
    image[void, 1] = 255
    sample = sample.replace(image=image, gt_masks=masks, void=void, gt_boxes=np.array([[12, 20, 28, 44]], np.float32))
    rng = np.random.default_rng(5)
    for _ in range(20):
        out = augment(sample, rng, scale_jitter=(0.6, 1.6))
        # Bilinear colours cross 128 within a pixel of the edge of the nearest-neighbour mask.
        inner = out.image[1:-1, 1:-1]
        mask = out.gt_masks[0] if len(out.gt_masks) else np.zeros((40, 60), bool)
        assert (mask[1:-1, 1:-1] != (inner[:, :, 0] > 128)).mean() < 0.05
        assert (out.void[1:-1, 1:-1] != (inner[:, :, 1] > 128)).mean() < 0.05


def test_augment_is_determined_by_the_generator():
    sample = make()
    one = augment(sample, np.random.default_rng(1), scale_jitter=(0.5, 2.0))
    assert_equal(one, augment(sample, np.random.default_rng(1), scale_jitter=(0.5, 2.0)))
    assert augment(sample, np.random.default_rng(1), flip=0.0) is sample
    assert_equal(augment(sample, np.random.default_rng(1), flip=1.0), flip_horizontal(sample))
    used, plain = np.random.default_rng(1), np.random.default_rng(1)
    augment(sample, used, flip=1.0, scale_jitter=(0.5, 2.0))
    augment(sample, plain, flip=0.0)
    assert used.random() == plain.random()


def test_about_half_are_flipped():
    sample, rng = make(), np.random.default_rng(0)
    flipped = sum(augment(sample, rng) is not sample for _ in range(400))
    assert 160 < flipped < 240  # four standard deviations
