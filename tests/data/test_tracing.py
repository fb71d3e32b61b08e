"""Masks as polygons: drawn again they are the masks."""

import os

import numpy as np
import pytest
from scipy import ndimage

from mrcnn_np.data import open_dataset
from mrcnn_np.data.rle import decode, merge
from mrcnn_np.data.segmentation import polygon
from mrcnn_np.data.tracing import LEAST_IOU, polygons_of, without_specks


def drawn(polygons, size):
    return decode(merge([polygon(points.ravel(), size) for points in polygons]))


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def test_by_hand():
    mask = np.zeros((5, 6), bool)
    assert polygons_of(mask) == []
    mask[1:3, 2:5] = True
    (only,) = polygons_of(mask)
    assert sorted(map(tuple, only.tolist())) == [(2, 1), (2, 3), (5, 1), (5, 3)]
    mask[3, 5] = True  # it touches with a corner: a part of its own
    assert [len(points) for points in polygons_of(mask)] == [4, 4]


@pytest.mark.parametrize("seed", range(40))
def test_every_corner_kept_is_exact(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 20, 2)) < rng.uniform(0.1, 0.95)
    polygons = polygons_of(mask, least_iou=1)
    assert len(polygons) == ndimage.label(mask)[1]
    if mask.any():
        np.testing.assert_array_equal(drawn(polygons, mask.shape), mask)


def test_few_corners_of_a_disc_with_a_hole():
    y, x = np.mgrid[:80, :90]
    apart = np.hypot(y - 40, x - 45)
    disc, ring = apart < 30, (apart < 30) & (apart > 12)
    for mask in (disc, ring):
        (only,) = polygons_of(mask)
        assert iou(drawn([only], mask.shape), mask) >= LEAST_IOU
        assert len(only) < 40 < 90 < len(polygons_of(mask, least_iou=1)[0])


def test_small_and_large_things_need_few():
    """A small disc's outline is a staircase; of a large one, what is seen from afar counts, not a pixel."""
    y, x = np.mgrid[:700, :700]
    for radius, most in ((2, 8), (6.5, 16), (30, 16), (300, 24)):
        disc = np.hypot(y - 350, x - 350) < radius
        (only,) = polygons_of(disc)
        assert 3 <= len(only) <= most and iou(drawn([only], disc.shape), disc) >= LEAST_IOU
    slanted = np.abs(y - x) < 40
    (only,) = polygons_of(slanted)
    assert len(only) <= 8 and iou(drawn([only], slanted.shape), slanted) >= LEAST_IOU


def test_a_rectangle_stays_one_and_thin_things_stay():
    for size in ((1, 1), (1, 9), (9, 1), (2, 3), (40, 50)):
        mask = np.zeros((60, 70), bool)
        mask[5 : 5 + size[0], 7 : 7 + size[1]] = True
        (only,) = polygons_of(mask)
        assert len(only) == 4
        np.testing.assert_array_equal(drawn([only], mask.shape), mask)
    line = np.eye(40, dtype=bool) | np.eye(40, k=1, dtype=bool)
    assert iou(drawn(polygons_of(line), line.shape), line) >= LEAST_IOU


@pytest.mark.parametrize(("kind", "most"), [("dsb", 0.4), ("voc", 0.25), ("coco", 0.2)])
def test_real_masks_keep_few_corners(kind, most):
    if not os.environ.get(f"{kind.upper()}_ROOT"):
        pytest.skip(f"{kind.upper()}_ROOT is not set")
    dataset = open_dataset(kind, None, "train", skip_bad=True)
    kept = corners = 0
    for index in np.linspace(0, len(dataset) - 1, min(len(dataset), 12)).astype(int):
        for mask in np.asarray(dataset.load(index).gt_masks):
            polygons = polygons_of(mask)
            assert iou(drawn(polygons, mask.shape), mask) >= LEAST_IOU or not mask.any()
            assert all(len(points) >= 3 for points in polygons)
            assert len(polygons) == ndimage.label(mask)[1]
            kept += sum(map(len, polygons))
            corners += sum(map(len, polygons_of(mask, least_iou=1)))
    assert 0 < kept < most * corners


@pytest.mark.parametrize("seed", range(10))
def test_rough_masks_agree_as_promised(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.standard_normal((60, 70)), 3) > 0.05
    assert iou(drawn(polygons_of(mask), mask.shape), mask) >= LEAST_IOU


def test_a_single_pixel_in_the_last_corner():
    mask = np.zeros((7, 9), bool)
    mask[6, 8] = True
    np.testing.assert_array_equal(drawn(polygons_of(mask), mask.shape), mask)


def test_specks():
    """A part is one if it is small beside the mask and small by itself; a mask of nothing else keeps them."""
    mask = np.zeros((200, 200), bool)
    assert not without_specks(mask).any()
    mask[10:110, 10:110] = True
    assert without_specks(mask) is mask
    speckled = mask.copy()
    speckled[150, 150:199] = speckled[0, 0] = True  # 49 of 10050
    np.testing.assert_array_equal(without_specks(speckled), mask)
    speckled[150:153, 150:199] = True  # 147: above 1 %
    speckled[0, 0] = False
    np.testing.assert_array_equal(without_specks(speckled), speckled)
    dust = np.zeros((40, 40), bool)
    dust[::2, ::2] = True
    np.testing.assert_array_equal(without_specks(dust), dust)
    large = np.zeros((400, 400), bool)
    large[:300] = True
    large[320:336, 0:16] = True  # 0.2 %, but 256 pixels
    np.testing.assert_array_equal(without_specks(large), large)
    two = np.zeros((4, 4), bool)
    two[0, 0] = two[3, 3] = True
    np.testing.assert_array_equal(without_specks(two), two)
