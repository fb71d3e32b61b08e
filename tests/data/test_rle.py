"""Run lengths and polygons: by hand, against dense masks, and number for number against pycocotools."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_evaluate import counted_mask_iou

from mrcnn_np.data.augment import tight_box
from mrcnn_np.data.rle import RLE, decode, encode, from_text, mask_overlaps, merge, to_text
from mrcnn_np.data.segmentation import from_coco, polygon, to_coco
from mrcnn_np.evaluate.matching import mask_iou

EXAMPLE = np.array([[0, 1, 0], [0, 1, 1], [0, 1, 0]], bool)


def rle(size, *counts):
    return RLE(size, np.array(counts, np.int64))


def counts_of(found):
    return found.counts.tolist()


def blobs(rng, size):
    """A mask of some rectangles, with holes; now and then empty, full or noise."""
    mask = np.zeros(size, bool)
    kind = rng.integers(8)
    if kind == 0:
        return mask | bool(rng.integers(2))
    if kind == 1:
        return rng.random(size) < rng.random()
    for _ in range(rng.integers(1, 5)):
        y, x = (np.sort(rng.integers(0, side + 1, 2)) for side in size)
        mask[y[0] : y[1], x[0] : x[1]] = rng.random() < 0.75
    return mask


def scribble(rng, size):
    """Corners (x, y, ...) of a polygon: fractions, whole numbers, halves; some outside; some corners twice."""
    count = int(rng.integers(1, 12))
    xy = rng.uniform(-0.3, 1.3, (count, 2)) * size[::-1]
    digits = rng.integers(5)
    if digits < 3:
        xy = np.round(xy, digits)
    elif digits == 3:
        xy = np.round(2 * xy) / 2
    if rng.random() < 0.3:
        xy = np.repeat(xy, rng.integers(1, 3, count), axis=0)
    if rng.random() < 0.3:
        xy = np.concatenate([xy, xy[:1]])
    return xy.ravel().tolist()


# --- by hand ---


def test_the_runs_of_a_small_mask():
    found = encode(EXAMPLE)
    assert found.size == (3, 3) and counts_of(found) == [3, 3, 1, 1, 1]
    assert found.area == 4 and found.box().tolist() == [0, 1, 3, 3]
    np.testing.assert_array_equal(decode(found), EXAMPLE)
    assert counts_of(encode(~EXAMPLE)) == [0, 3, 3, 1, 1, 1]
    assert counts_of(encode(np.zeros((2, 3), bool))) == [6]
    assert counts_of(encode(np.ones((2, 3), bool))) == [0, 6]
    assert rle((2, 3), 6).box().tolist() == [0, 0, 0, 0]


def test_text_of_small_numbers_by_hand():
    # 3 3 1, then differences from the one before the last: 1 - 3 = -2, 1 - 1 = 0. -2 is 11110 in five bits: 48 + 30.
    assert to_text(encode(EXAMPLE)) == "331N0"
    assert counts_of(from_text("331N0", (3, 3))) == [3, 3, 1, 1, 1]
    # 15 fits five bits with its sign; 16 does not: 10000 with more to follow, then 0; 1000 = 31 * 32 + 8
    assert to_text(rle((1, 31), 15, 16)) == "?`0"
    assert to_text(rle((1000, 1), 1000)) == "Xo0"


def test_a_square_polygon_covers_its_pixels():
    found = polygon([1, 1, 1, 3, 4, 3, 4, 1], (4, 5))
    expected = np.zeros((4, 5), bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(decode(found), expected)


def test_polygons_that_enclose_nothing_or_lie_outside():
    for points in ([2, 2], [0, 0, 3, 3], [0, 0, 3, 3, 1, 1], [-9, -9, -5, -9, -5, -5], [9, 9, 12, 9, 12, 12]):
        assert counts_of(polygon(points, (4, 5))) == [20]
    assert polygon([-9, -9, -9, 30, 30, 30, 30, -9], (4, 5)).area == 20


def test_a_polygon_that_crosses_itself_is_hollow_in_the_middle_and_parts_are_united():
    twice = [0, 0, 6, 0, 6, 6, 0, 6]
    assert polygon(twice + twice, (6, 6)).area == 0
    assert from_coco([twice, twice], (6, 6)).area == 36


def test_union_and_intersection_by_hand():
    a, b = rle((1, 6), 1, 3, 2), rle((1, 6), 2, 3, 1)
    assert counts_of(merge([a, b])) == [1, 4, 1]
    assert counts_of(merge([a, b], intersect=True)) == [2, 2, 2]
    assert counts_of(merge([a])) == [1, 3, 2]
    # masks that touch become one run; nothing in common is the empty mask
    assert counts_of(merge([rle((1, 4), 0, 2, 2), rle((1, 4), 2, 2)])) == [0, 4]
    assert counts_of(merge([rle((1, 4), 0, 2, 2), rle((1, 4), 2, 2)], intersect=True)) == [4]


def test_runs_of_length_zero_change_nothing():
    padded = rle((3, 3), 3, 1, 0, 2, 1, 0, 0, 1, 1, 0)
    np.testing.assert_array_equal(decode(padded), EXAMPLE)
    assert padded.area == 4 and padded.box().tolist() == [0, 1, 3, 3]
    assert counts_of(merge([padded])) == counts_of(encode(EXAMPLE))
    assert mask_overlaps([padded], [encode(EXAMPLE)]).tolist() == [[1]]


# --- against dense masks ---


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_runs_agree_with_dense_masks(seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(s) for s in rng.integers(1, 20, 2))
    masks = [blobs(rng, size) for _ in range(3)]
    found = [encode(m) for m in masks]
    for mask, r in zip(masks, found):
        np.testing.assert_array_equal(decode(r), mask)
        assert counts_of(from_text(to_text(r), size)) == counts_of(r)
        assert counts_of(from_coco(json.loads(json.dumps(to_coco(r))), size)) == counts_of(r)
        assert r.area == mask.sum()
        assert r.box().tolist() == (tight_box(mask).tolist() if mask.any() else [0, 0, 0, 0])
    for intersect, operation in ((False, np.logical_or), (True, np.logical_and)):
        np.testing.assert_array_equal(decode(merge(found, intersect=intersect)), operation.reduce(masks))
    crowd = rng.random(2) < 0.5
    np.testing.assert_array_equal(
        mask_overlaps(found, found[:2], crowd=crowd), mask_iou(np.array(masks), np.array(masks[:2]), crowd=crowd)
    )
    np.testing.assert_array_equal(
        mask_overlaps(found, found[:2], crowd=crowd), counted_mask_iou(masks, masks[:2], crowd=crowd)
    )


def test_overlaps_of_nothing():
    r = encode(EXAMPLE)
    assert mask_overlaps([], [r]).shape == (0, 1) and mask_overlaps([r], []).shape == (1, 0)
    assert mask_overlaps([rle((3, 3), 9)], [rle((3, 3), 9)]).tolist() == [[0]]


# --- bad input ---


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "segmentation is None; expected polygons, or an object of size and counts"),
        ({"counts": [9]}, "expected polygons, or an object of size and counts"),
        ([], "empty list; expected at least one polygon"),
        ([[]], "polygon 1 has 0 coordinates"),
        ([[1, 1, 2, 2, 3, 1], [1, 2, 3, 4, 5, 6, 7]], "polygon 2 has 7 coordinates; .* an even number"),
        ([1, 2, 3, 4, 5, 6], r"polygon 1 is 1; expected a list of coordinates"),
        ([[1, 2, "3", 4, 5, 6]], "polygon 1 is .* expected a list of coordinates"),
        ([[1, 2, float("nan"), 4, 5, 6]], "polygon 1 has the coordinate nan, far outside the image"),
        ([[1, 2, 1e9, 4, 5, 6]], "polygon 1 has the coordinate 1000000000.0, far outside the image; expected pixels"),
        ([[1, 2, 10**400, 4, 5, 6]], "polygon 1 has a coordinate of hundreds of digits"),
        ({"size": [3, 4], "counts": [12]}, r"RLE has the size \[3, 4\]; expected \[3, 3\], height and width"),
        ({"size": 3, "counts": [9]}, "RLE has the size 3; expected"),
        ({"size": [3, 3], "counts": [3, 3, 1]}, "add up to 7 pixels; expected 9, the pixels of 3 x 3"),
        ({"size": [3, 3], "counts": [3, 3, 1, 1, 2]}, "add up to 10 pixels; expected 9"),
        ({"size": [3, 3], "counts": [10, -1]}, "run length -1 is negative"),
        ({"size": [3, 3], "counts": [1 << 61] * 8 + [9]}, "add up to 18446744073709551616 pixels"),
        ({"size": [3, 3], "counts": [1 << 70]}, "expected a list of whole numbers, or text"),
        ({"size": [3, 3], "counts": [4.5, 4.5]}, "expected a list of whole numbers, or text"),
        ({"size": [3, 3], "counts": 9}, "RLE has the counts 9"),
        ({"size": [3, 3], "counts": "331N"}, "add up to 8 pixels"),
        ({"size": [3, 3], "counts": "331N0h"}, "end in the middle of a number"),
        ({"size": [3, 3], "counts": "33 N0"}, "character 2 of the run lengths is ' '"),
        ({"size": [3, 3], "counts": "33é"}, "character 2 of the run lengths"),
        ({"size": [3, 3], "counts": "o" * 500}, "end in the middle of a number"),
        ({"size": [3, 3], "counts": "ooooooooooo?"}, "a run is longer than any image"),
        ({"size": [3, 3], "counts": "9O"}, "run length -1 is negative"),
        ({"size": [3, 3], "counts": ""}, "add up to 0 pixels"),
    ],
)
def test_broken_segmentations_are_named(segmentation, message):
    with pytest.raises(ValueError, match=message):
        from_coco(segmentation, (3, 3))


def test_masks_of_another_kind_or_size_are_refused():
    with pytest.raises(ValueError, match="dtype uint8; expected"):
        encode(np.zeros((2, 2), np.uint8))
    for combine in (lambda a, b: merge([a, b]), lambda a, b: mask_overlaps([a], [b])):
        with pytest.raises(ValueError, match="expected one size"):
            combine(rle((2, 2), 4), rle((4, 1), 4))
    with pytest.raises(ValueError, match="at least one mask"):
        merge([])


# --- against pycocotools ---


@pytest.fixture(scope="module")
def coco_mask():
    return pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


def same_as(theirs, ours):
    """The same size and, byte for byte, the same text."""
    assert tuple(theirs["size"]) == ours.size
    assert theirs["counts"].decode() == to_text(ours)
    assert counts_of(from_text(theirs["counts"], ours.size)) == counts_of(ours)


@pytest.mark.parametrize("seed", range(4))
def test_random_masks_like_pycocotools(coco_mask, seed):
    rng = np.random.default_rng(seed)
    for _ in range(100):
        size = tuple(int(s) for s in rng.integers(1, 60 if rng.random() < 0.9 else 700, 2))
        masks = [blobs(rng, size) for _ in range(4)]
        theirs = [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
        ours = [encode(m) for m in masks]
        for t, o in zip(theirs, ours):
            same_as(t, o)
            assert coco_mask.area(t) == o.area
            x, y, w, h = coco_mask.toBbox(t)
            assert o.box().tolist() == [y, x, y + h, x + w]
        for intersect in (False, True):
            same_as(coco_mask.merge(theirs, intersect=intersect), merge(ours, intersect=intersect))
        crowd = rng.random(4) < 0.5
        np.testing.assert_array_equal(coco_mask.iou(theirs, theirs, crowd), mask_overlaps(ours, ours, crowd=crowd))


@pytest.mark.parametrize("seed", range(4))
def test_random_polygons_like_pycocotools(coco_mask, seed):
    rng = np.random.default_rng(seed)
    drawn = 0
    for _ in range(500):
        size = tuple(int(s) for s in rng.integers(1, 50, 2))
        points = scribble(rng, size)
        if len(points) == 4:  # pycocotools takes four numbers for x, y, width, height
            points += points[:2]
        if len(points) < 6:
            points = points * 3
        (theirs,) = coco_mask.frPyObjects([points], *size)
        ours = polygon(points, size)
        same_as(theirs, ours)
        drawn += ours.area > 0
    assert drawn > 200


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("variable", ["COCO_ROOT", "COCO_POSE_ROOT"])
def test_every_real_segmentation_like_pycocotools(coco_mask, variable):
    """All annotations of a small copy, the first 5000 of a large one."""
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set")
    (path, *_) = sorted(Path(os.environ[variable]).glob("annotations/*_train2017.json"))
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    crowds = 0
    for annotation in content["annotations"][:5000]:
        size, segmentation = sizes[annotation["image_id"]], annotation["segmentation"]
        theirs = coco_mask.frPyObjects(segmentation, *size)
        if isinstance(segmentation, list):
            theirs = coco_mask.merge(theirs)
        ours = from_coco(segmentation, size)
        same_as(theirs, ours)
        np.testing.assert_array_equal(coco_mask.decode(theirs), decode(ours))
        crowds += annotation["iscrowd"]
    assert crowds > 0
