import naive_boxes
import numpy as np
import pytest

from mrcnn_np.anchors import pyramid_anchors

SIZES, STRIDES = (32, 64, 128, 256, 512), (4, 8, 16, 32, 64)


def test_first_cell_by_hand():
    (level,) = pyramid_anchors((64, 64), sizes=(32,), strides=(16,), aspect_ratios=(0.25, 1, 4))
    assert level.shape == (4 * 4 * 3, 4)
    # Ratio 1/4 = height / width: 16 high, 64 wide.
    np.testing.assert_array_equal(level[:3], [[-8, -32, 8, 32], [-16, -16, 16, 16], [-32, -8, 32, 8]])
    np.testing.assert_array_equal(level[3:6], np.add(level[:3], [0, 16, 0, 16]))  # next column first
    np.testing.assert_array_equal(level[12:15], np.add(level[:3], [16, 0, 16, 0]))  # then next row


def test_width_over_height_turns_anchors_on_their_side():
    options = {"sizes": (32,), "strides": (16,), "aspect_ratios": (0.25, 1, 4)}
    (wide,), (tall,) = (
        pyramid_anchors((16, 16), ratio_meaning=meaning, **options)
        for meaning in ("height_over_width", "width_over_height")
    )
    np.testing.assert_array_equal(wide[:, [1, 0, 3, 2]], tall)
    np.testing.assert_array_equal(tall[0], [-32, -8, 32, 8])


def test_rounding_is_of_half_sides_halves_to_even():
    (level,) = pyramid_anchors((8, 8), sizes=(128,), strides=(8,), rounding=True)
    np.testing.assert_array_equal(level, [[-45, -91, 45, 91], [-64, -64, 64, 64], [-91, -45, 91, 45]])
    # Sides 5 and 7: halves 2.5 and 3.5 go to the even 2 and 4.
    (five,), (seven,) = (
        pyramid_anchors((8, 8), sizes=(s,), strides=(8,), aspect_ratios=(1,), rounding=True) for s in (5, 7)
    )
    assert five[0].tolist() == [-2, -2, 2, 2] and seven[0].tolist() == [-4, -4, 4, 4]


def test_offset_moves_to_the_cells_centre():
    options = {"sizes": (32,), "strides": (16,)}
    (corner,), (centre,) = (pyramid_anchors((48, 32), offset=offset, **options) for offset in (0.0, 0.5))
    np.testing.assert_allclose(centre - corner, 8, atol=1e-5)


def test_feature_maps_round_up():
    levels = pyramid_anchors((800, 1333), sizes=SIZES, strides=STRIDES)
    shapes = [(200, 334), (100, 167), (50, 84), (25, 42), (13, 21)]
    assert [len(level) for level in levels] == [3 * h * w for h, w in shapes]


def test_stride_from_grid_is_what_torchvision_does():
    options = {"sizes": (512,), "strides": (64,), "aspect_ratios": (1,)}
    (nominal,) = pyramid_anchors((800, 1344), **options)
    (grid,) = pyramid_anchors((800, 1344), stride_from_grid=True, **options)
    # 13 x 21 cells: the second row is 800 // 13 = 61 pixels down, the second column 1344 // 21 = 64 across.
    assert len(nominal) == len(grid) == 13 * 21
    assert nominal[21, 0] - nominal[0, 0] == 64 and grid[21, 0] - grid[0, 0] == 61
    assert nominal[1, 1] - nominal[0, 1] == grid[1, 1] - grid[0, 1] == 64


def test_given_feature_shapes_are_used():
    (level,) = pyramid_anchors((100, 100), sizes=(32,), strides=(16,), feature_shapes=[(6, 3)])
    assert len(level) == 6 * 3 * 3


@pytest.mark.parametrize(("offset", "image"), [(0.0, (40, 24)), (0.5, (33, 65)), (0.25, (1, 1))])
def test_matches_the_loop(offset, image):
    ratios = (0.5, 1.0, 2.0, 3.0)
    levels = pyramid_anchors(
        image, sizes=(20, 50.5), strides=(8, 16), aspect_ratios=ratios, offset=offset, dtype=np.float64
    )
    for level, size, stride in zip(levels, (20, 50.5), (8, 16)):
        rows, columns = -(-image[0] // stride), -(-image[1] // stride)
        np.testing.assert_allclose(
            level, naive_boxes.anchors(rows, columns, size, stride, stride, ratios, offset), atol=1e-12
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype(dtype):
    assert {a.dtype for a in pyramid_anchors((64, 64), sizes=SIZES, strides=STRIDES, dtype=dtype)} == {np.dtype(dtype)}


def test_area_is_kept_whatever_the_ratio():
    (level,) = pyramid_anchors((8, 8), sizes=(37,), strides=(8,), aspect_ratios=(0.1, 0.5, 1, 2, 10), dtype=np.float64)
    np.testing.assert_allclose((level[:, 2] - level[:, 0]) * (level[:, 3] - level[:, 1]), 37**2)


def test_empty_map_and_no_levels():
    assert pyramid_anchors((64, 64), sizes=(), strides=()) == []
    for from_grid in (False, True):
        (level,) = pyramid_anchors(
            (64, 64), sizes=(8,), strides=(4,), feature_shapes=[(0, 5)], stride_from_grid=from_grid
        )
        assert level.shape == (0, 4)


def test_errors():
    with pytest.raises(ValueError, match="5 feature maps, 4 sizes, 5 strides"):
        pyramid_anchors((64, 64), sizes=SIZES[:4], strides=STRIDES)
    with pytest.raises(ValueError, match="4 feature maps, 5 sizes, 5 strides"):
        pyramid_anchors((64, 64), sizes=SIZES, strides=STRIDES, feature_shapes=[(1, 1)] * 4)
    with pytest.raises(ValueError, match="aspect_ratios is"):
        pyramid_anchors((64, 64), sizes=SIZES, strides=STRIDES, aspect_ratios=(0, 1))
    with pytest.raises(ValueError, match="ratio_meaning is 'tall'"):
        pyramid_anchors((64, 64), sizes=SIZES, strides=STRIDES, ratio_meaning="tall")


def test_several_sizes_on_one_level_come_behind_the_ratios():
    """The nine anchors of Faster R-CNN: for each ratio, all sizes."""
    (anchors,) = pyramid_anchors((32, 16), sizes=[(128, 256, 512)], strides=[16], aspect_ratios=(0.5, 1, 2))
    assert anchors.shape == (2 * 1 * 9, 4)
    sides = anchors[:9, 2:] - anchors[:9, :2]
    np.testing.assert_allclose(np.sqrt(sides.prod(axis=1)), [128, 256, 512] * 3, rtol=1e-6)
    np.testing.assert_allclose(sides[:, 0] / sides[:, 1], np.repeat([0.5, 1, 2], 3), rtol=1e-6)
    np.testing.assert_array_equal(anchors[9:] - anchors[:9], [[16, 0, 16, 0]] * 9)
    (single,) = pyramid_anchors((32, 16), sizes=[256], strides=[16], aspect_ratios=(0.5, 1, 2))
    np.testing.assert_array_equal(single.reshape(2, 3, 4), anchors.reshape(2, 3, 3, 4)[:, :, 1])


def test_a_size_among_several_is_positive():
    with pytest.raises(ValueError, match="sizes is"):
        pyramid_anchors((32, 32), sizes=[(16, 0)], strides=[16])
