import naive_roi
import numpy as np
import pytest
from gradcheck import adjoint_error, check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops.crop_and_resize import crop_and_resize, crop_and_resize_backward


def random_boxes(rng, n):
    """Normalised boxes that reach over every side, some of them flipped."""
    return rng.uniform(-0.3, 1.3, (n, 4))


ZERO = np.zeros(1, int)


def test_the_whole_image_at_its_own_size_is_the_image():
    image = np.arange(12.0).reshape(1, 3, 4, 1)
    crop, _ = crop_and_resize(image, np.array([[0.0, 0, 1, 1]]), ZERO, output_size=(3, 4))
    np.testing.assert_array_equal(crop, image)


def test_by_hand():
    image = np.array([[0.0, 1, 2], [10, 11, 12], [20, 21, 22]]).reshape(1, 3, 3, 1)
    corners, _ = crop_and_resize(image, np.array([[0.25, 0.5, 1, 1]]), ZERO, output_size=2)
    np.testing.assert_array_equal(corners[0, :, :, 0], [[6, 7], [21, 22]])
    centre, _ = crop_and_resize(image, np.array([[0.0, 0, 1, 0.5]]), ZERO, output_size=1)
    assert centre.item() == 10.5
    flipped, _ = crop_and_resize(image, np.array([[1.0, 0, 0, 1]]), ZERO, output_size=3)
    np.testing.assert_array_equal(flipped, image[:, ::-1])


def test_outside_takes_the_extrapolation_value_however_little_outside():
    image = np.ones((1, 3, 3, 2))
    box = np.array([[-0.5, 0, 1, 1.001]])
    crop, _ = crop_and_resize(image, box, ZERO, output_size=(4, 2), extrapolation_value=-7)
    np.testing.assert_array_equal(crop[0, :, :, 0], [[-7, -7], [1, -7], [1, -7], [1, -7]])


def test_ramp_is_read_by_pixel_centres_of_the_ends():
    """Value = column + 0.5 and box [2, 10) of 16 columns: neither way of normalising reads 3, 5, 7, 9."""
    ramp = np.broadcast_to(np.arange(16.0) + 0.5, (1, 16, 16))[..., None]
    for box, expected in (
        ((2 / 16, 10 / 16), [2.375, 4.875, 7.375, 9.875]),
        ((2 / 15, 9 / 15), [2.5, 29 / 6, 43 / 6, 9.5]),
    ):
        crop, _ = crop_and_resize(ramp, np.array([[box[0], box[0], box[1], box[1]]]), ZERO, output_size=4)
        np.testing.assert_allclose(crop[0, 0, :, 0], expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 4), (5, 2)])
def test_matches_the_loop(size):
    rng = np.random.default_rng(0)
    image, boxes, index = rng.normal(size=(2, 6, 5, 2)), random_boxes(rng, 12), rng.integers(0, 2, 12)
    boxes[0], boxes[1] = [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]
    crops, _ = crop_and_resize(image, boxes, index, output_size=size, extrapolation_value=0.25)
    expected = naive_roi.crop_and_resize(image, boxes, index, size, 0.25)
    np.testing.assert_allclose(crops, expected, atol=1e-14)


@pytest.mark.parametrize("size", [1, (3, 2)])
def test_gradients(size):
    rng = np.random.default_rng(1)
    boxes, index = random_boxes(rng, 7), rng.integers(0, 2, 7)

    def f(image):
        crops, cache = crop_and_resize(image, boxes, index, output_size=size, extrapolation_value=3.0)
        return crops, lambda dy: crop_and_resize_backward(dy, cache)

    check_gradients(f, rng.normal(size=(2, 5, 6, 3)), rng=rng)


def test_forward_and_backward_are_adjoint():
    rng = np.random.default_rng(2)
    boxes, index = random_boxes(rng, 9), rng.integers(0, 2, 9)
    _, cache = crop_and_resize(np.zeros((2, 8, 7, 3)), boxes, index, output_size=5)
    error = adjoint_error(
        lambda x: crop_and_resize(x, boxes, index, output_size=5)[0],
        lambda dy: crop_and_resize_backward(dy, cache),
        (2, 8, 7, 3), (9, 5, 5, 3), rng,
    )  # fmt: skip
    assert error < 1e-15


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_a_plane_is_read_exactly(seed, rows, columns):
    """Bilinear interpolation is exact on a + b y + c x, wherever the box lies inside."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=3)
    y, x = np.meshgrid(np.arange(9.0), np.arange(7.0), indexing="ij")
    box = rng.uniform(0, 1, (1, 4))
    crop, _ = crop_and_resize((a + b * y + c * x)[None, :, :, None], box, ZERO, output_size=(rows, columns))
    ys = np.linspace(box[0, 0], box[0, 2], rows) if rows > 1 else np.array([(box[0, 0] + box[0, 2]) / 2])
    xs = np.linspace(box[0, 1], box[0, 3], columns) if columns > 1 else np.array([(box[0, 1] + box[0, 3]) / 2])
    np.testing.assert_allclose(crop[0, :, :, 0], a + b * 8 * ys[:, None] + c * 6 * xs, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float32, np.float32), (np.float64, np.float64), (bool, np.float32), (np.uint8, np.float32)],
)
def test_dtype(dtype, expected):
    crops, cache = crop_and_resize(np.ones((1, 4, 4, 1), dtype), np.array([[0.1, 0.1, 0.9, 0.9]]), ZERO, output_size=2)
    assert crops.dtype == crop_and_resize_backward(crops, cache).dtype == expected
    np.testing.assert_allclose(crops, 1, rtol=1e-6)


def test_empty_and_one_pixel():
    image = np.full((2, 1, 1, 3), 4.0)
    crops, cache = crop_and_resize(image, np.zeros((0, 4)), np.zeros(0, int), output_size=3)
    assert crops.shape == (0, 3, 3, 3)
    np.testing.assert_array_equal(crop_and_resize_backward(crops, cache), np.zeros_like(image))
    crops, cache = crop_and_resize(image, np.array([[0.0, 0, 1, 1]]), ZERO, output_size=3)
    np.testing.assert_array_equal(crops, 4)
    np.testing.assert_array_equal(crop_and_resize_backward(np.ones_like(crops), cache)[:, 0, 0, 0], [9, 0])


def test_strided_input():
    rng = np.random.default_rng(3)
    image, boxes = rng.normal(size=(2, 3, 8, 8)).transpose(0, 2, 3, 1), random_boxes(rng, 5)
    index = rng.integers(0, 2, 5)
    crops, _ = crop_and_resize(image, np.asfortranarray(boxes), index, output_size=3)
    expected, _ = crop_and_resize(np.ascontiguousarray(image), boxes, index, output_size=3)
    np.testing.assert_array_equal(crops, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4, 1))}, "image has shape"),
        ({"boxes": np.array([[0, 0, np.inf, 1]])}, "roi 0 is"),
        ({"box_index": np.array([2])}, "batch_index of roi 0 is 2; expected 0 to 0"),
        ({"output_size": (0, 3)}, "output_size is"),
    ],
)
def test_errors(change, message):
    arguments = {
        "image": np.zeros((1, 4, 4, 1)), "boxes": np.zeros((1, 4)), "box_index": ZERO, "output_size": 2, **change
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        crop_and_resize(**arguments)
