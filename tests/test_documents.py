"""Every number that the walkthrough documents state and that this code can compute, one test for each row of the list.

A test is named by the numbers of its rows. Where a document is wrong or leaves something open, the test asserts what is
true and its docstring quotes the document (S0 slides, S1 notes, S2 code walk, S3 article, S4 questions on anchors).
Rows 28 and 29 have no test: they are accuracies that the paper reports.
"""

import inspect

import numpy as np
import pytest

from mrcnn_np import presets
from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.boxes import decode_boxes, encode_boxes, iou
from mrcnn_np.config import LOG_1000_16
from mrcnn_np.nms import nms
from mrcnn_np.ops.crop_and_resize import crop_and_resize
from mrcnn_np.ops.roi_align import bilinear_interpolate, roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool
from mrcnn_np.params import count
from mrcnn_np.pyramid import normalise_boxes, pyramid_roi_align, pyramid_roi_align_backward, roi_level
from mrcnn_np.rpn import rpn_head, rpn_spec
from mrcnn_np.targets import match_anchors

ONE = np.zeros(1, int)  # the batch index of a single RoI
SIZES, STRIDES = (32, 64, 128, 256, 512), (4, 8, 16, 32, 64)

# The slides' example has Q11 = 100, Q21 = 105, Q12 = 110, Q22 = 112 at (x, y) = (1, 1), (2, 1), (1, 2), (2, 2).
CORNERS = np.zeros((4, 5))
CORNERS[1, 1], CORNERS[1, 2], CORNERS[2, 1], CORNERS[2, 2] = 100, 105, 110, 112


def xyxy(*box):
    """Return one box (x1, y1, x2, y2), the documents' order, as ours: (1, 4) with (y1, x1, y2, x2)."""
    return np.array([box], dtype=float)[:, [1, 0, 3, 2]]


def align(feature, box, output_size, **options):
    """RoIAlign of one box on one (H, W) map, without the axes of one."""
    options = {"spatial_scale": 1.0, "aligned": False, **options}
    return roi_align(np.asarray(feature, float)[None, :, :, None], box, ONE, output_size=output_size, **options)[0][
        0, :, :, 0
    ]


def pool(feature, box, output_size, **options):
    """RoIPool of one box on one (H, W) map, without the axes of one."""
    options = {"spatial_scale": 1.0, **options}
    return roi_pool(np.asarray(feature, float)[None, :, :, None], box, ONE, output_size=output_size, **options)[0][
        0, :, :, 0
    ]


def ramp(height, width, per_row=0.0, per_column=1.0):
    """A map that tells where it was read: value = per_row * y + per_column * x, in pixel indices."""
    return per_row * np.arange(height)[:, None] + per_column * np.arange(width)[None, :]


def square(side):
    return np.array([[0.0, 0, side, side]])


# --- 1. RoIAlign, bilinear interpolation, RoIPool ---------------------------------------------------------------------


def test_fact_001_002_003_004_the_slides_bilinear_example():
    """S0 writes points as (x, y): P = (1.4, 1.7) lies in column 1.4 of row 1.7."""
    assert bilinear_interpolate(CORNERS, 1.0, 1.4) == pytest.approx(102, rel=1e-15)  # f(R1), on the row y = 1
    assert bilinear_interpolate(CORNERS, 2.0, 1.4) == pytest.approx(110.8, rel=1e-15)  # f(R2), on the row y = 2
    assert bilinear_interpolate(CORNERS, 1.7, 1.4) == pytest.approx(108.16, rel=1e-15)
    by_weights = 0.18 * 100 + 0.12 * 105 + 0.42 * 110 + 0.28 * 112
    assert by_weights == pytest.approx(108.16, rel=1e-15)
    assert bilinear_interpolate(CORNERS, 1.4, 1.7) != pytest.approx(108.16)  # the axes exchanged


def test_fact_005_the_half_pixel_trap():
    """The picture means "coordinate = pixel index", which is aligned=False; aligned=True reads 91.8 there."""
    box = xyxy(0.9, 1.2, 1.9, 2.2)  # its centre is P
    assert align(CORNERS, box, 1, sampling_ratio=1).item() == pytest.approx(108.16, rel=1e-14)
    assert align(CORNERS, box + 0.5, 1, sampling_ratio=1, aligned=True).item() == pytest.approx(108.16, rel=1e-14)
    assert align(CORNERS, box, 1, sampling_ratio=1, aligned=True).item() == pytest.approx(91.8, rel=1e-14)


def test_fact_006_a_bin_is_the_mean_of_its_samples_unless_asked():
    """S0, S1 and S4 say maximum. The paper allows both and uses the mean, and so do the frameworks."""
    assert inspect.signature(roi_align).parameters["reduce"].default == "mean"
    for preset in (presets.matterport, presets.torchvision, presets.detectron2):
        assert preset().roi_reduce == "mean"
    feature, box = ramp(8, 8, 8), xyxy(1, 1, 5, 5)
    samples = align(feature, box, 4, sampling_ratio=1).reshape(2, 2, 2, 2)  # bin, sample within it
    np.testing.assert_allclose(align(feature, box, 2, reduce="mean"), samples.mean(axis=(1, 3)))
    np.testing.assert_allclose(align(feature, box, 2, reduce="max"), samples.max(axis=(1, 3)))


def test_fact_007_maximum_means_of_interpolated_samples():
    """ONNX takes the largest weighted corner, 46.2; the documents interpolate first."""
    weighted = [0.18 * 100, 0.12 * 105, 0.42 * 110, 0.28 * 112]
    assert max(weighted) == pytest.approx(46.2)
    box = xyxy(0.9, 1.2, 1.9, 2.2)
    assert align(CORNERS, box, 1, sampling_ratio=1, reduce="max").item() == pytest.approx(108.16, rel=1e-14)


def test_fact_008_where_the_sixteen_samples_lie():
    """S0 gives the RoI as [xmin, ymin, xmax, ymax], here only. P = (1.4, 1.7) is on its edge and is no sample."""
    box = xyxy(1.4, 0.95, 3.25, 4.15)
    np.testing.assert_allclose((box[0, 2:] - box[0, :2]) / 2, [1.6, 0.925])  # a bin's height and width
    x, y = (align(ramp(6, 6, *slopes), box, 4, sampling_ratio=1) for slopes in ((0, 1), (1, 0)))
    np.testing.assert_allclose(x, np.tile([1.63125, 2.09375, 2.55625, 3.01875], (4, 1)))
    np.testing.assert_allclose(y.T, np.tile([1.35, 2.15, 2.95, 3.75], (4, 1)))


def test_fact_009_numbers_for_that_roi():
    feature, box = np.arange(30).reshape(6, 5), xyxy(1.4, 0.95, 3.25, 4.15)
    np.testing.assert_allclose(align(feature, box, 2), [[10.6125, 11.5375], [18.6125, 19.5375]])
    np.testing.assert_allclose(align(feature, box, 2, aligned=True), [[7.6125, 8.5375], [15.6125, 16.5375]])


DEEPSENSE = np.array(
    [
        [0.88, 0.44, 0.14, 0.16, 0.37, 0.77, 0.96, 0.27],
        [0.19, 0.45, 0.57, 0.16, 0.63, 0.29, 0.71, 0.70],
        [0.66, 0.26, 0.82, 0.64, 0.54, 0.73, 0.59, 0.26],
        [0.85, 0.34, 0.76, 0.84, 0.29, 0.75, 0.62, 0.25],
        [0.32, 0.74, 0.21, 0.39, 0.34, 0.03, 0.33, 0.48],
        [0.20, 0.14, 0.16, 0.13, 0.73, 0.65, 0.96, 0.32],
        [0.19, 0.69, 0.09, 0.86, 0.88, 0.07, 0.01, 0.48],
        [0.83, 0.24, 0.97, 0.04, 0.24, 0.35, 0.50, 0.91],
    ]
)


def test_fact_010_the_pictures_roi_pooling():
    """S4 shows rows split 2 | 3 and columns 3 | 4: disjoint bins, the box's end excluded."""
    result = pool(DEEPSENSE, xyxy(0, 3, 7, 8), 2, split="disjoint")
    np.testing.assert_array_equal(result, [[0.85, 0.84], [0.97, 0.96]])


def test_fact_011_what_the_real_kernel_gives():
    np.testing.assert_array_equal(pool(DEEPSENSE, xyxy(0, 3, 6, 7), 2), [[0.85, 0.96], [0.97, 0.96]])
    np.testing.assert_array_equal(pool(DEEPSENSE, xyxy(0, 3, 7, 8), 2), [[0.85, 0.96], [0.97, 0.91]])


def test_fact_013_two_rois_on_four_by_four():
    feature = np.arange(16).reshape(4, 4)
    assert pool(feature, xyxy(0, 0, 20, 20), 2, spatial_scale=0.1).tolist() == [[5, 6], [9, 10]]
    assert pool(feature, xyxy(0, 10, 30, 30), 2, spatial_scale=0.1).tolist() == [[9, 11], [13, 15]]


def test_fact_015_the_ramp_that_explains_the_dispute():
    """Value = centre of the pixel, box from 2 to 10 in 4 bins: their centres are 3, 5, 7, 9."""
    feature = ramp(16, 16) + 0.5

    def crop(x1, x2):
        return crop_and_resize(feature[None, :, :, None], xyxy(x1, x1, x2, x2), ONE, output_size=4)[0][0, 0, :, 0]

    np.testing.assert_allclose(align(feature, xyxy(2, 2, 10, 10), 4, aligned=True)[0], [3, 5, 7, 9])
    np.testing.assert_allclose(align(feature, xyxy(2, 2, 10, 10), 4, aligned=False)[0], [3.5, 5.5, 7.5, 9.5])
    np.testing.assert_allclose(crop(2 / 16, 10 / 16), [2.375, 4.875, 7.375, 9.875])
    matterport = normalise_boxes(xyxy(2, 2, 10, 10), (16, 16))[0]
    np.testing.assert_allclose(crop(matterport[1], matterport[3]), [2.5, 4.833, 7.167, 9.5], atol=4e-4)
    # tensorpack puts the first and the last point on the centres of the first and the last bin.
    bin_width = (10 - 2) / 4
    first = (2 + bin_width / 2 - 0.5) / 15
    np.testing.assert_allclose(crop(first, first + 3 * bin_width / 15), [3, 5, 7, 9])


def test_fact_017_cells_of_an_800_pixel_image():
    (level,) = pyramid_anchors((800, 800), sizes=(256,), strides=(32,), aspect_ratios=(1,))
    assert len(level) == 25 * 25


def test_fact_018_a_665_pixel_box_on_stride_32():
    """S1 rounds 20.78 cells down to 20. The real kernel rounds to 21 and includes it: columns 0 to 21, 22 of them."""
    assert 665 / 32 == 20.78125
    box, last_column = xyxy(0, 0, 665, 665), ramp(25, 25)
    assert pool(last_column, box, 1, spatial_scale=1 / 32, split="disjoint").item() == 19
    assert pool(last_column, box, 1, spatial_scale=1 / 32, split="caffe").item() == 21


def test_fact_019_bins_of_twenty_cells_in_seven():
    """S1: bins of 2.86 -> 2 cells, which would read 14 of 20. Real bins read all 20; RoIAlign's are 2.97 wide."""
    assert pytest.approx(2.857, abs=1e-3) == 20 / 7
    box = xyxy(0, 0, 665, 665)
    ends = pool(ramp(25, 25), box, 7, spatial_scale=1 / 32, split="disjoint")[0]  # the last column of each bin
    assert ends.tolist() == [1, 4, 7, 10, 13, 16, 19]
    starts = -pool(-ramp(25, 25), box, 7, spatial_scale=1 / 32, split="disjoint")[0]
    assert starts.tolist() == [0, *(ends[:-1] + 1)]
    centres = align(ramp(25, 25), box, 7, spatial_scale=1 / 32)[0]
    np.testing.assert_allclose(np.diff(centres), 2.96875)  # = 20.78125 / 7


def test_fact_020_021_what_a_fraction_of_a_cell_is_in_pixels():
    """S1: 0.1 cell is 3.2 pixels, right; 0.8 cell is "nearly 30", wrong: 25.6, and 0.78125 cell is exactly 25."""
    feature = ramp(25, 25)

    def cells_moved(pixels):
        there, here = (align(feature, xyxy(320 + d, 320, 480 + d, 480), 1, spatial_scale=1 / 32) for d in (pixels, 0))
        return (there - here).item()

    assert cells_moved(3.2) == pytest.approx(0.1)
    assert cells_moved(25.6) == pytest.approx(0.8)
    assert cells_moved(665 - 640) == pytest.approx(0.78125)


def test_fact_022_a_15_pixel_box_on_25_cells_for_128_pixels():
    """S3: 2.93 cells -> 2x2, by truncation. Rounding gives corner 3, and the kernel reads cells 0 to 3."""
    assert 15 * 25 / 128 == 2.9296875
    box, scale = xyxy(0, 0, 15, 15), 25 / 128
    assert pool(ramp(25, 25), box, 1, spatial_scale=scale, split="disjoint").item() == 1
    assert pool(ramp(25, 25), box, 1, spatial_scale=scale, split="caffe").item() == 3


def test_fact_023_roi_pool_rounds_the_box_and_then_the_bins():
    feature, box, moved = ramp(25, 25), xyxy(100, 100, 310, 310), xyxy(104, 100, 314, 310)
    for split in ("caffe", "disjoint"):
        before, after = (pool(feature, b, 7, spatial_scale=1 / 32, split=split) for b in (box, moved))
        np.testing.assert_array_equal(before, after)  # an eighth of a cell goes unnoticed
        assert (before % 1 == 0).all()
    before, after = (align(feature, b, 7, spatial_scale=1 / 32) for b in (box, moved))
    np.testing.assert_allclose(after - before, 1 / 8)


def test_fact_024_samples_are_the_centres_of_the_quarters_of_a_bin():
    """4 samples in total, sampling_ratio 2: at (i + 1/2) / 2 of the bin on each axis."""
    inside_a_bin = align(ramp(4, 4), xyxy(1, 1, 2, 2), 2, sampling_ratio=1)[0] - 1
    assert inside_a_bin.tolist() == [0.25, 0.75]
    feature = np.random.default_rng(0).normal(size=(8, 8))
    quarters = align(feature, xyxy(1, 1, 6.3, 4.7), 6, sampling_ratio=1).reshape(3, 2, 3, 2)
    np.testing.assert_allclose(align(feature, xyxy(1, 1, 6.3, 4.7), 3, sampling_ratio=2), quarters.mean(axis=(1, 3)))


def test_fact_025_fourteen_then_pooled_to_seven_is_another_operation():
    """S4: "interpolate to 14x14, then pool to 7x7" is a shortcut of TF-Faster-RCNN (crop, 2x2 maximum)."""
    feature, box = ramp(32, 32), xyxy(4, 4, 25, 25)
    crop, _ = crop_and_resize(feature[None, :, :, None], box / 31, ONE, output_size=14)
    shortcut = crop[0, :, :, 0].reshape(7, 2, 7, 2).max(axis=(1, 3))[0]
    true = align(feature, box, 7)[0]
    np.testing.assert_allclose(np.diff(true), 3)  # bins of 21 / 7 cells
    np.testing.assert_allclose(np.diff(shortcut), 2 * 21 / 13)  # 14 points from corner to corner, every other one
    assert np.abs(shortcut - true).min() > 0.1


def test_fact_026_shapes_of_the_pooled_features():
    """(batch, RoIs, 7, 7, 256) and (.., 14, 14, 256), pooled independently; batch and RoIs are one axis here."""
    features = [np.zeros((2, 32 // s, 32 // s, 256), np.float32) for s in (1, 2, 4, 8)]
    rois, batch_index = np.tile(square(64.0), (6, 1)), np.repeat([0, 1], 3)
    for size in (7, 14):
        pooled, _ = pyramid_roi_align(features, rois, batch_index, output_size=size, strides=STRIDES[:4])
        assert pooled.reshape(2, 3, *pooled.shape[1:]).shape == (2, 3, size, size, 256)
    for preset in (presets.matterport, presets.torchvision, presets.detectron2):
        assert (preset().box_pool_size, preset().mask_pool_size) == (7, 14)


def test_fact_027_rois_are_read_from_four_levels():
    """S0 says "5 scale features". P6 serves the proposals only: no RoI, however large, is read from it."""
    assert sorted(set(roi_level(np.concatenate([square(s) for s in (1, 60, 120, 250, 500, 1e6)])))) == [2, 3, 4, 5]


def test_fact_030_no_gradient_to_the_boxes():
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(1, 64 // s, 64 // s, 2)) for s in STRIDES[:4]]
    pooled, cache = pyramid_roi_align(features, square(40.0), ONE, output_size=2, strides=STRIDES[:4])
    gradients = pyramid_roi_align_backward(pooled, cache)
    assert [g.shape for g in gradients] == [f.shape for f in features]  # one for each level and none for the boxes
    pooled, cache = roi_align(features[0], square(40.0), ONE, output_size=2, spatial_scale=0.25)
    assert roi_align_backward(pooled, cache).shape == features[0].shape


# --- 2. RoI -> pyramid level ------------------------------------------------------------------------------------------


def levels(*sides, **options):
    return roi_level(np.concatenate([square(s) for s in sides]), **options).tolist()


def test_fact_031_the_formula_at_powers_of_two():
    assert levels(224, 112, 448, 56) == [4, 3, 5, 2]


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_fact_032_normalised_boxes_only_change_the_unit(rounding):
    """S0 credits 224 / sqrt(image area) to the paper; it is matterport's code, and the same formula."""
    image = 1024
    sides = np.array([40.0, 100, 150, 170, 300, 330, 500])
    normalised = np.concatenate([square(s / image) for s in sides])
    by_fraction = roi_level(normalised, canonical_size=224 / np.sqrt(image * image), rounding=rounding)
    assert by_fraction.tolist() == levels(*sides, rounding=rounding)


def test_fact_033_floor_and_round_disagree():
    """S0 and S2 do not say how k becomes whole: the paper, torchvision and detectron2 floor, matterport rounds."""
    assert levels(320, 111.9, 447) == [4, 2, 4]
    assert levels(320, 111.9, 447, rounding="round") == [5, 3, 5]
    assert [presets.by_name(n).roi_level_rounding for n in ("torchvision", "detectron2", "matterport")] == [
        "floor",
        "floor",
        "round",
    ]


def test_fact_034_a_quarter_of_448():
    assert levels(0.25 * 448) == levels(0.25 * 448, rounding="round") == [3]


def test_fact_035_levels_are_kept_within_two_and_five():
    """S0 presents the clamp as the rule for fractions; rounding is a step of its own."""
    for rounding in ("floor", "round"):
        assert levels(1, 10, 1000, 1e5, rounding=rounding) == [2, 2, 5, 5]


def test_fact_036_another_canonical_size_for_640_pixel_images():
    assert levels(0.5 * 640, canonical_size=320, rounding="round") == [4]
    # Needed with rounding only: log2(320 / 224) = .5146 rounds up to P5, and floors to P4 without any change.
    assert np.log2(320 / 224) == pytest.approx(0.5146, abs=1e-4)
    assert levels(320, rounding="round") == [5] and levels(320, rounding="floor") == [4]


def test_fact_037_levels_and_strides():
    for preset in (presets.matterport, presets.torchvision, presets.detectron2):
        assert dict(zip((2, 3, 4, 5), preset().anchor_strides)) == {2: 4, 3: 8, 4: 16, 5: 32}


def test_fact_038_canonical_size_320_with_floor():
    assert levels(112, 320, canonical_size=320) == [2, 4]


# --- 3. Anchors -------------------------------------------------------------------------------------------------------


def anchors(height, width, **options):
    return pyramid_anchors((height, width), **{"sizes": SIZES, "strides": STRIDES, **options})


def sides(boxes):
    """(width, height) of each box, the documents' order."""
    return np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)


def test_fact_039_anchors_of_a_1024_pixel_image():
    """S2's exponents got lost: "2562+1282+..." is 256^2 + 128^2 + ..."""
    per_level = [len(a) for a in anchors(1024, 1024)]
    assert per_level == [196608, 49152, 12288, 3072, 768]
    assert sum(per_level) == 3 * (256**2 + 128**2 + 64**2 + 32**2 + 16**2) == 261888


def test_fact_040_anchors_of_other_sizes():
    counts = {640: 102300, 512: 65472, 256: 16368, 128: 4092, 800: 159882}
    assert {s: sum(len(a) for a in anchors(s, s)) for s in counts} == counts
    assert sum(len(a) for a in anchors(800, 1344)) == 268569


def test_fact_041_one_size_for_each_level():
    for level, size in zip(anchors(128, 128, aspect_ratios=(1,)), SIZES):
        assert np.unique(sides(level)).tolist() == [size]
    for preset in (presets.matterport, presets.torchvision, presets.detectron2):
        assert preset().anchor_sizes == SIZES and preset().anchor_strides == STRIDES


def test_fact_042_three_aspect_ratios_in_every_cell():
    """S0 calls them "rotation ratios"; nothing rotates."""
    assert [len(a) / (128 // s) ** 2 for a, s in zip(anchors(128, 128), STRIDES)] == [3] * 5
    assert presets.torchvision().anchor_ratios == (0.5, 1.0, 2.0)


def test_fact_043_sides_of_a_128_anchor():
    """S4 says 181x91, 128x128, 91x181. Unrounded it is 181.019 x 90.510; torchvision rounds halves and has 182 x 90."""

    def shapes(size, **options):
        (level,) = pyramid_anchors((8, 8), sizes=(size,), strides=(8,), **options)
        return sides(level)

    np.testing.assert_array_equal(np.round(shapes(128)), [[181, 91], [128, 128], [91, 181]])
    np.testing.assert_allclose(shapes(128)[0], [181.019, 90.510], atol=5e-4)
    np.testing.assert_array_equal(shapes(128, rounding=True), [[182, 90], [128, 128], [90, 182]])
    assert shapes(512, rounding=True)[0].tolist() == [724, 362]
    assert shapes(32, rounding=True)[0].tolist() == [46, 22]
    assert [presets.by_name(n).anchor_rounding for n in ("torchvision", "matterport", "detectron2")] == [
        True,
        False,
        False,
    ]


def test_fact_044_what_one_half_means():
    """Wide by h / w (S4, torchvision); tall by w / h (matterport, whose comment says "0.5 is a wide anchor")."""
    for meaning, expected in (("height_over_width", [181.019, 90.510]), ("width_over_height", [90.510, 181.019])):
        (level,) = pyramid_anchors((8, 8), sizes=(128,), strides=(8,), aspect_ratios=(0.5,), ratio_meaning=meaning)
        np.testing.assert_allclose(sides(level)[0], expected, atol=5e-4)
    assert (
        presets.torchvision().anchor_ratio_meaning == presets.detectron2().anchor_ratio_meaning == "height_over_width"
    )
    assert presets.matterport().anchor_ratio_meaning == "width_over_height"


def test_fact_045_the_area_does_not_depend_on_the_ratio():
    (level,) = pyramid_anchors((8, 8), sizes=(128,), strides=(8,), dtype=np.float64)
    np.testing.assert_allclose(sides(level).prod(axis=1), 128**2)


def test_fact_046_centres_lie_on_the_cells_corners():
    first, *_ = anchors(64, 64, aspect_ratios=(1,))
    assert first[0].tolist() == [-16, -16, 16, 16]
    centred, *_ = anchors(64, 64, aspect_ratios=(1,), offset=0.5)
    assert centred[0].tolist() == [-14, -14, 18, 18]
    assert {presets.by_name(n).anchor_offset for n in ("matterport", "torchvision", "detectron2")} == {0.0}


def test_fact_047_more_than_a_hundred_thousand():
    """S4 says 10,000 to 100,000 anchors for an image: right up to 600 pixels or so, wrong at the default sizes."""
    assert min(sum(len(a) for a in anchors(*s)) for s in ((1024, 1024), (800, 1344))) > 250_000
    assert sum(len(a) for a in anchors(512, 512)) < 100_000 < sum(len(a) for a in anchors(640, 640))


def test_fact_048_fifteen_kinds_over_the_pyramid():
    """S3's "12 -> 15": 4 scales x 3 ratios in each cell of one map, then 5 x 3 over the pyramid, 3 in each cell."""
    kinds = {tuple(np.round(side, 2)) for level in anchors(256, 256) for side in sides(level).tolist()}
    assert len(kinds) == 15


def test_fact_049_the_short_side_is_800():
    """S3: 600 in Faster R-CNN, 800 here."""
    assert presets.torchvision().image_min_size == presets.detectron2().image_min_size == 800


def test_fact_050_faster_rcnn_has_nine_anchors_in_a_cell():
    three_scales = pyramid_anchors((600, 1000), sizes=(128, 256, 512), strides=(16, 16, 16))
    assert sum(len(a) for a in three_scales) == 9 * 38 * 63


def test_fact_051_anchor_generator_of_torchvision():
    """S4's table names `anchor_sizes` and `strides`; the parameters are `sizes`, and no strides: image // grid."""
    config = presets.torchvision()
    assert len(config.anchor_sizes) == 5 and len(config.anchor_ratios) == 3
    assert config.anchor_stride_from_grid
    *_, p6 = anchors(800, 1344, aspect_ratios=(1,), stride_from_grid=True)
    assert p6[21, 0] - p6[0, 0] == 800 // 13 == 61  # 13 rows of 21 cells


def test_fact_052_parameters_of_the_proposals_not_of_the_anchors():
    config = presets.torchvision()
    assert (config.proposals_pre_nms_train, config.proposals_pre_nms_test) == (2000, 1000)
    assert (config.proposals_post_nms_train, config.proposals_post_nms_test) == (2000, 1000)
    assert config.proposals_per_level and config.proposals_nms_iou == 0.7
    assert (config.rpn_positive_iou, config.rpn_negative_iou) == (0.7, 0.3)
    assert (config.rpn_anchors_per_image, config.rpn_positive_fraction) == (256, 0.5)


def test_fact_053_three_kinds_and_three_per_cell():
    """S4: "kinds per level = 3 x pixels". There are 3 kinds; their number is 3 H W."""
    for level, stride in zip(anchors(192, 320), STRIDES):
        assert len(np.unique(np.round(sides(level), 2), axis=0)) == 3
        assert len(level) == 3 * -(-192 // stride) * -(-320 // stride)


# --- 4. RPN network, targets, proposals -------------------------------------------------------------------------------


def test_fact_054_shapes_of_the_region_proposal_head():
    """3x3x512, then 1x1 to 2A = 6 and 4A = 12 channels. Run on a smaller P2: the weights do not know its size."""
    config = presets.matterport(backbone="resnet50")
    shapes = {name: tensor.shape for name, tensor in rpn_spec(config).items()}
    assert shapes["rpn.conv.w"] == (3, 3, 256, 512)
    assert shapes["rpn.objectness.w"] == (1, 1, 512, 6) and shapes["rpn.deltas.w"] == (1, 1, 512, 12)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    logits, deltas, _ = rpn_head([np.zeros((2, 8, 8, 256), np.float32)], weights, config)
    assert logits.shape == (2, 8 * 8 * 3, 2) and deltas.shape == (2, 8 * 8 * 3, 4)
    assert 256 * 256 * 3 == len(anchors(1024, 1024)[0]) == 196608


def test_fact_055_parameters_of_the_region_proposal_head():
    assert count(rpn_spec(presets.matterport())) == 1_180_160 + 3_078 + 6_156 == 1_189_394
    assert count(rpn_spec(presets.torchvision())) == 593_935


def test_fact_058_the_order_of_deltas():
    """S0 and S2: (dy, dx, log dh, log dw) on (y1, x1, y2, x2). S4, torchvision: (dx, dy, dw, dh) on (x1, y1, ..)."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (2, 20, 2))
    box, anchor = np.concatenate([corner, corner + rng.uniform(5, 40, (2, 20, 2))], axis=2)
    swap = [1, 0, 3, 2]
    # The codec does not know which axis is which: exchange the axes of both boxes, and the deltas' are exchanged.
    np.testing.assert_array_equal(encode_boxes(box[:, swap], anchor[:, swap]), encode_boxes(box, anchor)[:, swap])


def test_fact_059_the_encoding():
    """S2 leaves out the division by RPN_BBOX_STD_DEV."""
    anchor, box = xyxy(0, 0, 200, 100), xyxy(20, 10, 220, 110)
    np.testing.assert_allclose(encode_boxes(box, anchor), [[0.1, 0.1, 0, 0]], atol=1e-16)
    std = presets.matterport().rpn_box_std
    np.testing.assert_allclose(encode_boxes(box, anchor, std=std), [[1, 1, 0, 0]], atol=1e-15)
    assert std == (0.1, 0.1, 0.2, 0.2) and presets.torchvision().rpn_box_std == (1, 1, 1, 1)
    for preset in (presets.matterport, presets.torchvision, presets.detectron2):
        assert preset().head_box_std == (0.1, 0.1, 0.2, 0.2)  # torchvision's weights 10, 10, 5, 5


def test_fact_060_the_decoded_side_is_limited():
    assert pytest.approx(4.135166, abs=1e-6) == LOG_1000_16 == np.log(62.5)
    box = decode_boxes(np.array([[0.0, 0, 100, 100]]), square(16.0))
    np.testing.assert_allclose(sides(box), 1000)
    assert presets.torchvision().max_log_scale == presets.detectron2().max_log_scale == LOG_1000_16
    assert presets.matterport().max_log_scale is None


def test_fact_068_an_overlap_equal_to_the_threshold_survives():
    boxes = np.concatenate([xyxy(0, 0, 2, 1), xyxy(0, 0, 1, 1)])
    assert iou(boxes[:1], boxes[1:]).item() == 0.5
    assert nms(boxes, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]


def test_fact_071_ties_between_anchors_break_in_the_last_bit():
    """Anchors that contain a small object overlap it equally, but half of these ten miss it by one bit of float64.

    Computing all of it in float32 would not mend that (there are two values then, too); a tolerance does.
    """
    (level,) = pyramid_anchors((256, 256), sizes=(64,), strides=(16,), aspect_ratios=(0.5,), dtype=np.float64)
    gt = np.array([[100.0, 100, 110, 110]])
    containing = (level[:, :2] <= gt[:, :2]).all(axis=1) & (level[:, 2:] >= gt[:, 2:]).all(axis=1)
    overlaps = iou(level[containing], gt)[:, 0]
    assert len(overlaps) == 10 and np.sum(overlaps == overlaps.max()) == 5
    np.testing.assert_allclose(overlaps, overlaps[0], rtol=1e-15)
    assert len(set(iou(level[containing].astype(np.float32), gt.astype(np.float32))[:, 0])) == 2
    labels, _ = match_anchors(level, gt, np.zeros(1, bool), presets.torchvision())
    np.testing.assert_array_equal(labels == 1, containing)  # every one of them is the object's best


def test_fact_094_normalised_boxes():
    np.testing.assert_allclose(normalise_boxes(xyxy(10, 10, 20, 20), (101, 101)), [[0.10, 0.10, 0.19, 0.19]])
