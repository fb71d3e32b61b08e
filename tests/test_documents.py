"""Every number that the walkthrough documents state and that this code can compute, one test for each row of the list.

A test is named by the numbers of its rows, and the tests stand in their order. Where a document is wrong or leaves
something open, the test asserts what is true and its docstring quotes the document: S0 slides, S1 notes, S2 code walk,
S3 article, S4 questions on anchors (translated).

Rows without a test:

- 28: how much mask accuracy RoIAlign gains, in relative terms. It is measured by training on COCO with and without it.
- 109: 5 images a second and the ranks in the COCO challenge of 2016. They belong to another machine and another year.
- 111: "accuracy unsurpassed since 2017". A claim about all other models.
- 118: what another repository contains.

Of rows 29 and 110 the accuracies are the paper's; what causes them, and what the best network consists of, is tested.
The list has no rows 12, 14, 16 and 120.
"""

import inspect
import math
import os

import numpy as np
import pytest
from nets import make_sample, small_config
from scenes import boxes_of, detections_of, fill, sample_of, strips
from voc_tree import VOC_COLOURS

from mrcnn_np import MaskRCNN, model, presets
from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.backbone import ARCHITECTURES, backbone, residual_block
from mrcnn_np.boxes import decode_boxes, encode_boxes, iou
from mrcnn_np.config import LOG_1000_16
from mrcnn_np.data import VOC_CLASSES, VOCDataset, colour_map
from mrcnn_np.data.augment import tight_box
from mrcnn_np.data.images import read_index_mask
from mrcnn_np.detections import paste_masks, refine
from mrcnn_np.evaluate import average_precision, evaluate_detections, matterport_map
from mrcnn_np.fpn import fpn
from mrcnn_np.heads import box_head, box_head_spec, mask_head, mask_head_spec
from mrcnn_np.molding import compose_meta, make_batch, minimise_masks, mold_image, plan
from mrcnn_np.network import initialise, spec
from mrcnn_np.nms import nms
from mrcnn_np.objective import head_box_loss, head_class_loss, head_mask_loss, rpn_box_loss, rpn_class_loss
from mrcnn_np.ops.activation import relu, softmax
from mrcnn_np.ops.crop_and_resize import crop_and_resize
from mrcnn_np.ops.losses import smooth_l1
from mrcnn_np.ops.roi_align import bilinear_interpolate, roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool
from mrcnn_np.params import count, draw
from mrcnn_np.proposals import objectness_scores, propose
from mrcnn_np.pyramid import normalise_boxes, pyramid_roi_align, pyramid_roi_align_backward, roi_level
from mrcnn_np.rpn import rpn_head, rpn_spec
from mrcnn_np.targets import mask_targets, match_anchors, negative_count, roi_targets, rpn_targets

# Measured between edges, unpadded, with whole masks, so that the examples are those of the documents; what matterport
# does instead is in conventions/test_frame.py
MATTERPORT = presets.matterport(box_frame="edges", rois_padded=False, mini_mask_shape=None, detection_min_size=0.0)
TORCHVISION, DETECTRON2 = presets.torchvision(), presets.detectron2()
FRAMEWORKS = MATTERPORT, TORCHVISION, DETECTRON2
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
    assert [config.roi_reduce for config in FRAMEWORKS] == ["mean"] * 3
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
    assert [(config.box_pool_size, config.mask_pool_size) for config in FRAMEWORKS] == [(7, 14)] * 3


def test_fact_027_rois_are_read_from_four_levels():
    """S0 says "5 scale features". P6 serves the proposals only: no RoI, however large, is read from it."""
    assert sorted(set(roi_level(np.concatenate([square(s) for s in (1, 60, 120, 250, 500, 1e6)])))) == [2, 3, 4, 5]


def test_fact_029_rounding_costs_more_at_a_larger_stride():
    """S4: "the larger the stride, the larger the gain". Rounded boxes lie beside the true ones by a part of a cell."""
    corner = np.random.default_rng(0).uniform(0, 600, (300, 2))
    boxes, batch_index = np.concatenate([corner, corner + 200.3], axis=1), np.zeros(300, int)
    centre = (boxes[:, 1] + boxes[:, 3]) / 2
    beside = {}
    for stride in (16, 32):
        options = {"output_size": 1, "spatial_scale": 1 / stride}
        pixel = (ramp(1024 // stride, 1024 // stride) + 0.5)[None, :, :, None] * stride  # where each cell's centre lies
        aligned = roi_align(pixel, boxes, batch_index, **options)[0].ravel()
        np.testing.assert_allclose(aligned, centre, rtol=1e-12)
        last = roi_pool(pixel, boxes, batch_index, split="disjoint", **options)[0].ravel()
        first = -roi_pool(-pixel, boxes, batch_index, split="disjoint", **options)[0].ravel()
        beside[stride] = np.abs((first + last) / 2 - centre).mean()
    assert beside[16] == pytest.approx(8, rel=0.05) and beside[32] == pytest.approx(16, rel=0.05)  # half a cell


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
    """How k becomes whole: S0 writes floor brackets but computes without them; S2 writes nothing.

    The paper, torchvision and detectron2 floor; matterport rounds.
    """
    assert levels(320, 111.9, 447) == [4, 2, 4]
    assert levels(320, 111.9, 447, rounding="round") == [5, 3, 5]
    assert [config.roi_level_rounding for config in FRAMEWORKS] == ["round", "floor", "floor"]


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
    for config in FRAMEWORKS:
        assert dict(zip((2, 3, 4, 5), config.anchor_strides)) == {2: 4, 3: 8, 4: 16, 5: 32}


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
    for config in FRAMEWORKS:
        assert config.anchor_sizes == SIZES and config.anchor_strides == STRIDES


def test_fact_042_three_aspect_ratios_in_every_cell():
    """S0 calls them "rotation ratios"; nothing rotates."""
    assert [len(a) / (128 // s) ** 2 for a, s in zip(anchors(128, 128), STRIDES)] == [3] * 5
    assert TORCHVISION.anchor_ratios == (0.5, 1.0, 2.0)


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
    assert [config.anchor_rounding for config in FRAMEWORKS] == [False, True, False]


def test_fact_044_what_one_half_means():
    """Wide by h / w (S4, torchvision); tall by w / h (matterport, whose comment says "0.5 is a wide anchor")."""
    for meaning, expected in (("height_over_width", [181.019, 90.510]), ("width_over_height", [90.510, 181.019])):
        (level,) = pyramid_anchors((8, 8), sizes=(128,), strides=(8,), aspect_ratios=(0.5,), ratio_meaning=meaning)
        np.testing.assert_allclose(sides(level)[0], expected, atol=5e-4)
    by_width, by_height = "width_over_height", "height_over_width"
    assert [config.anchor_ratio_meaning for config in FRAMEWORKS] == [by_width, by_height, by_height]


def test_fact_045_the_area_does_not_depend_on_the_ratio():
    (level,) = pyramid_anchors((8, 8), sizes=(128,), strides=(8,), dtype=np.float64)
    np.testing.assert_allclose(sides(level).prod(axis=1), 128**2)


def test_fact_046_centres_lie_on_the_cells_corners():
    first, *_ = anchors(64, 64, aspect_ratios=(1,))
    assert first[0].tolist() == [-16, -16, 16, 16]
    centred, *_ = anchors(64, 64, aspect_ratios=(1,), offset=0.5)
    assert centred[0].tolist() == [-14, -14, 18, 18]
    assert [config.anchor_offset for config in FRAMEWORKS] == [0, 0, 0]


def test_fact_047_more_than_a_hundred_thousand():
    """S4 says 10,000 to 100,000 anchors for an image: right up to 600 pixels or so, wrong at the default sizes."""
    assert min(sum(len(a) for a in anchors(*s)) for s in ((1024, 1024), (800, 1344))) > 250_000
    assert sum(len(a) for a in anchors(512, 512)) < 100_000 < sum(len(a) for a in anchors(640, 640))


def test_fact_048_fifteen_kinds_over_the_pyramid():
    """S3's "12 -> 15": 4 scales x 3 ratios in each cell of one map, then 5 x 3 over the pyramid, 3 in each cell."""
    (one_map,) = {len(a) for a in pyramid_anchors((64, 64), sizes=(64, 128, 256, 512), strides=(64,) * 4)}
    assert 4 * one_map == 12
    kinds = {tuple(np.round(side, 2)) for level in anchors(256, 256) for side in sides(level).tolist()}
    assert len(kinds) == 15


def test_fact_049_the_short_side_is_800():
    """S3: 600 in Faster R-CNN, 800 here."""
    assert TORCHVISION.image_min_size == DETECTRON2.image_min_size == 800


def test_fact_050_faster_rcnn_has_nine_anchors_in_a_cell():
    three_scales = pyramid_anchors((600, 1000), sizes=(128, 256, 512), strides=(16, 16, 16))
    assert sum(len(a) for a in three_scales) == 9 * 38 * 63


def test_fact_051_anchor_generator_of_torchvision():
    """S4's table names `anchor_sizes` and `strides`; the parameters are `sizes`, and no strides: image // grid."""
    assert len(TORCHVISION.anchor_sizes) == 5 and len(TORCHVISION.anchor_ratios) == 3
    assert TORCHVISION.anchor_stride_from_grid
    *_, p6 = anchors(800, 1344, aspect_ratios=(1,), stride_from_grid=True)
    assert p6[21, 0] - p6[0, 0] == 800 // 13 == 61  # 13 rows of 21 cells


def test_fact_052_parameters_of_the_proposals_not_of_the_anchors():
    config = TORCHVISION
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

NO_CROWD = np.zeros(1, bool)
OBJECT = np.array([[0.0, 0, 10, 10]])


@pytest.fixture
def network():
    """A small network and a batch of one image with two objects."""
    config = small_config()
    return MaskRCNN(config), make_batch([make_sample(np.random.default_rng(0))], config)


def noise(side=64):
    """An image."""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def spy(monkeypatch, *names):
    """Log the calls that the model makes to functions: a list of (name, positional arguments, result)."""
    calls = []

    def logged(name, function):
        def call(*args, **options):
            result = function(*args, **options)
            calls.append((name, args, result))
            return result

        return call

    for name in names:
        monkeypatch.setattr(model, name, logged(name, getattr(model, name)))
    return calls


def drawn(config, part):
    """Fresh float64 parameters of one part of a network, which may be too large to draw whole."""
    tensors = {name: tensor for name, tensor in spec(config).items() if name.startswith(part)}
    return draw(tensors, np.random.default_rng(0), np.float64)


def test_fact_054_shapes_of_the_region_proposal_head():
    """3x3x512, then 1x1 to 2A = 6 and 4A = 12 channels. Run on a smaller P2: the weights do not know its size.

    S0's snippet leaves out the ReLU behind the first.
    """
    shapes = {name: tensor.shape for name, tensor in rpn_spec(MATTERPORT).items()}
    assert shapes["rpn.conv.w"] == (3, 3, 256, 512)
    assert shapes["rpn.objectness.w"] == (1, 1, 512, 6) and shapes["rpn.deltas.w"] == (1, 1, 512, 12)
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    weights["rpn.conv.b"][:] = -1
    logits, deltas, _ = rpn_head([np.zeros((2, 8, 8, 256), np.float32)], weights, MATTERPORT)
    assert logits.shape == (2, 8 * 8 * 3, 2) and deltas.shape == (2, 8 * 8 * 3, 4)
    assert (logits == 1).all()  # only the last bias is left: the ReLU took the -1
    assert 256 * 256 * 3 == len(anchors(1024, 1024)[0]) == 196608


def test_fact_055_parameters_of_the_region_proposal_head():
    assert count(rpn_spec(MATTERPORT)) == 1_180_160 + 3_078 + 6_156 == 1_189_394
    assert count(rpn_spec(TORCHVISION)) == 593_935


def test_fact_056_two_softmax_classes_equal_one_sigmoid_logit():
    logits = np.random.default_rng(0).normal(size=(50, 2))
    difference = logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(
        objectness_scores(logits, MATTERPORT), objectness_scores(difference, TORCHVISION), rtol=1e-14
    )
    labels = np.random.default_rng(1).integers(-1, 2, 50)
    two, one = rpn_class_loss(logits[None], labels[None])[0], rpn_class_loss(difference[None], labels[None])[0]
    assert two == pytest.approx(one, rel=1e-14)


def test_fact_057_one_set_of_weights_for_all_levels():
    config = presets.tiny()
    rng = np.random.default_rng(0)
    params = initialise(config, rng, np.float64)
    pyramid = [rng.normal(size=(1, s, s, config.fpn_channels)) for s in (8, 4, 2, 1, 1)]
    logits, deltas, _ = rpn_head(pyramid, params, config)
    alone = [rpn_head([level], params, config)[:2] for level in pyramid]
    np.testing.assert_array_equal(logits, np.concatenate([a for a, _ in alone], axis=1))
    np.testing.assert_array_equal(deltas, np.concatenate([b for _, b in alone], axis=1))
    assert not any(name.startswith("rpn.p") for name in rpn_spec(config))


def test_fact_058_the_order_of_deltas():
    """S0 and S2: (dy, dx, log dh, log dw) on (y1, x1, y2, x2). S4, torchvision: (dx, dy, dw, dh) on (x1, y1, ..)."""
    anchor, box = boxes_of([0, 0, 100, 200]), boxes_of([-40, 60, 160, 260])  # 10 down, 60 right, twice the height
    np.testing.assert_allclose(encode_boxes(box, anchor), [[0.1, 0.3, math.log(2), 0]], atol=1e-16)
    # The codec does not know which axis is which: exchange the axes of both boxes, and the deltas' are exchanged.
    swap = [1, 0, 3, 2]
    np.testing.assert_array_equal(encode_boxes(box[:, swap], anchor[:, swap]), encode_boxes(box, anchor)[:, swap])


def test_fact_059_the_encoding():
    """S2 leaves out the division by RPN_BBOX_STD_DEV."""
    anchor, box = xyxy(0, 0, 200, 100), xyxy(20, 10, 220, 110)
    np.testing.assert_allclose(encode_boxes(box, anchor), [[0.1, 0.1, 0, 0]], atol=1e-16)
    std = MATTERPORT.rpn_box_std
    np.testing.assert_allclose(encode_boxes(box, anchor, std=std), [[1, 1, 0, 0]], atol=1e-15)
    assert std == (0.1, 0.1, 0.2, 0.2) and TORCHVISION.rpn_box_std == (1, 1, 1, 1)
    for config in FRAMEWORKS:
        assert config.head_box_std == (0.1, 0.1, 0.2, 0.2)  # torchvision's weights 10, 10, 5, 5


def test_fact_060_the_decoded_side_is_limited():
    assert pytest.approx(4.135166, abs=1e-6) == LOG_1000_16 == np.log(62.5)
    box = decode_boxes(np.array([[0.0, 0, 100, 100]]), square(16.0))
    np.testing.assert_allclose(sides(box), 1000)
    assert [config.max_log_scale for config in FRAMEWORKS] == [None, LOG_1000_16, LOG_1000_16]


def test_fact_061_labels_by_overlap():
    """Papers: > .7 and < .3; code: >= .7 and < .3; S4: "<= .3". S0 leaves out the best anchor of each object."""
    labels, _ = match_anchors(strips(10, 7, 6.99, 3, 2.99), OBJECT, NO_CROWD, TORCHVISION)
    assert labels.tolist() == [1, 1, 0, 0, -1]
    labels, _ = match_anchors(strips(2, 1), OBJECT, NO_CROWD, TORCHVISION)
    assert labels.tolist() == [1, -1]
    assert [(config.rpn_positive_iou, config.rpn_negative_iou) for config in FRAMEWORKS] == [(0.7, 0.3)] * 3


def test_fact_062_labels_are_plus_one_minus_one_and_neutral_zero():
    """S0: "0/1, background and foreground" for each anchor. S2 has -1, 0, 1; the loss drops 0 and takes -1 for 0."""
    labels, _ = match_anchors(strips(10, 5, 1), OBJECT, NO_CROWD, MATTERPORT)
    assert labels.tolist() == [1, 0, -1]
    logits = np.array([[0.0, 50, math.log(3)]])
    assert rpn_class_loss(logits, labels[None])[0] == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_fact_063_064_256_anchors_one_to_one():
    """S2: rpn_match has 261888 entries, rpn_bbox "256". S0: [positives, 4].

    matterport packs the deltas into (256, 4), padded with zeros; here they lie beside their anchors.
    """
    all_anchors = np.concatenate(anchors(1024, 1024))
    corner = np.random.default_rng(0).uniform(0, 700, (60, 2)).astype(np.float32)
    objects = np.concatenate([corner, corner + 300], axis=1)
    labels, deltas = rpn_targets(all_anchors, objects, np.zeros(60, bool), MATTERPORT, np.random.default_rng(0))
    assert ((labels == 1).sum(), (labels == -1).sum()) == (128, 128)
    assert labels.shape == (261888,) and deltas.shape == (261888, 4)
    assert (deltas != 0).any(axis=1).sum() <= 128
    labels, _ = rpn_targets(all_anchors, objects[:1], NO_CROWD, MATTERPORT, np.random.default_rng(0))
    assert 0 < (labels == 1).sum() < 128 and (labels != 0).sum() == 256  # negatives fill


def test_fact_065_negatives_keep_off_crowds():
    for crowd, label in ((boxes_of([0, 0, 3, 3]), -1), (boxes_of([0, 0, 4, 4]), 0)):  # IoU .0009 and .0016
        assert match_anchors(square(100.0), crowd, np.ones(1, bool), MATTERPORT)[0].tolist() == [label]
    assert MATTERPORT.crowd_iou == 0.001


def test_fact_066_one_backward_pass_trains_both_networks(network):
    """S2: RPN labels are "trained separately from the heads". Separate targets, one optimisation of all five losses.

    It is joint only approximately: the heads' losses do not reach the RPN, because boxes are constants to them.
    """
    net, batch = network
    targets = net.losses(batch, np.random.default_rng(0))[1].targets

    def parts_reached(*loss_weights):
        weighted = MaskRCNN(net.config.replace(loss_weights=loss_weights), net.params)
        grads = weighted.backward(weighted.losses(batch, np.random.default_rng(0), targets=targets)[1])
        return {name.split(".")[0] for name, gradient in grads.items() if gradient.any()}

    assert parts_reached(1, 1, 1, 1, 1) == {"backbone", "fpn", "rpn", "box_head", "mask_head"}
    assert parts_reached(1, 1, 0, 0, 0) == {"backbone", "fpn", "rpn"}
    assert parts_reached(0, 0, 1, 1, 1) == {"backbone", "fpn", "box_head", "mask_head"}


def test_fact_067_the_proposal_layer():
    """6000 best, decode, clip, NMS .7, 2000 or 1000 best. S0 leaves out clip and NMS; there is no zero padding here."""
    c = MATTERPORT
    assert (c.proposals_pre_nms_train, c.proposals_pre_nms_test, c.proposals_nms_iou) == (6000, 6000, 0.7)
    assert (c.proposals_post_nms_train, c.proposals_post_nms_test) == (2000, 1000)
    # 9000 anchors apart from each other: 6000 survive the first cut, 2000 or 1000 the second.
    y, x = np.meshgrid(np.arange(90.0) * 10, np.arange(100.0) * 10, indexing="ij")
    grid = np.stack([y, x, y + 8, x + 8], axis=-1).reshape(-1, 4)
    score = np.random.default_rng(0).permutation(9000).astype(float)
    logits = np.stack([np.zeros(9000), score], axis=1)
    for training, kept in ((True, 2000), (False, 1000)):
        boxes, _ = propose(logits, np.zeros((9000, 4)), [grid], (0, 0, 1000, 1000), c, training=training)
        np.testing.assert_array_equal(boxes, grid[np.argsort(-score)[:kept]])
    both = boxes_of([-5, -5, 10, 10], [-5, -5, 10, 9])
    boxes, _ = propose(np.array([[0.0, 2], [0, 1]]), np.zeros((2, 4)), [both], (0, 0, 50, 50), c, training=True)
    np.testing.assert_array_equal(boxes, OBJECT)


def test_fact_068_an_overlap_equal_to_the_threshold_survives():
    boxes = np.concatenate([xyxy(0, 0, 2, 1), xyxy(0, 0, 1, 1)])
    assert iou(boxes[:1], boxes[1:]).item() == 0.5
    assert nms(boxes, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]


def test_fact_069_suppression_does_not_combine():
    """S3: NMS "combines the overlapping proposals". It keeps the best as it is and drops the others."""
    boxes = boxes_of([0, 0, 10, 10], [1, 1, 11, 11])
    assert nms(boxes, np.array([0.9, 0.8]), 0.5).tolist() == [0]


def test_fact_070_the_second_stage_reads_the_first_stages_proposals(network, monkeypatch):
    net, _ = network
    proposals = boxes_of([0, 0, 40, 40], [10, 10, 50, 30], [5, 20, 60, 64], dtype=np.float32)
    monkeypatch.setattr(model, "propose", lambda *args, **options: (proposals, np.ones(len(proposals))))
    calls = spy(monkeypatch, "box_head", "refine")
    net.detect([noise()])
    (_, (roi_features, *_), _), (_, (refined, *_), _) = calls
    assert len(roi_features) == 3
    np.testing.assert_array_equal(refined, proposals)
    proposals = proposals[:0]
    (found,) = net.detect([noise()])
    assert len(found.scores) == 0  # without a proposal nothing is found


def test_fact_071_ties_between_anchors_break_in_the_last_bit():
    """Anchors that contain a small object overlap it equally, but half of these ten miss it by one bit of float64.

    Computing all of it in float32 would not mend that (there are two values then, too); a tolerance does.
    """
    (level,) = pyramid_anchors((256, 256), sizes=(64,), strides=(16,), aspect_ratios=(0.5,), dtype=np.float64)
    gt = boxes_of([100, 100, 110, 110])
    containing = (level[:, :2] <= gt[:, :2]).all(axis=1) & (level[:, 2:] >= gt[:, 2:]).all(axis=1)
    overlaps = iou(level[containing], gt)[:, 0]
    assert len(overlaps) == 10 and np.sum(overlaps == overlaps.max()) == 5
    np.testing.assert_allclose(overlaps, overlaps[0], rtol=1e-15)
    assert len(set(iou(level[containing].astype(np.float32), gt.astype(np.float32))[:, 0])) == 2
    labels, _ = match_anchors(level, gt, NO_CROWD, TORCHVISION.replace(rpn_best_ties="tolerance"))
    np.testing.assert_array_equal(labels == 1, containing)  # every one of them is the object's best
    labels, _ = match_anchors(level, gt, NO_CROWD, TORCHVISION)
    np.testing.assert_array_equal(np.flatnonzero(labels == 1), np.flatnonzero(containing)[overlaps == overlaps.max()])


# --- 5. Head targets, heads, inference --------------------------------------------------------------------------------


def targets_of(proposals, config):
    """The targets of these proposals in an image whose only object is OBJECT."""
    masks = fill(OBJECT, (100, 100))
    return roi_targets(proposals, OBJECT, np.ones(1, int), masks, NO_CROWD, config, np.random.default_rng(0))


def test_fact_072_a_roi_is_positive_from_one_half():
    """S0, S2, S3: IoU > .5; paper and code >= .5. S0 says "each anchor" where it means each RoI."""
    for config in (MATTERPORT.replace(roi_negatives="fill"), TORCHVISION, DETECTRON2):
        t = targets_of(strips(5, 4.99), config.replace(gt_joins_proposals=False))
        assert t.class_ids.tolist() == [1, 0]


def test_fact_073_074_shares_of_positives():
    """S2: 200 RoIs, .33 positive, "ratio 1:2". The paper and torchvision have 512 and 1:3, and ground truth joins."""
    assert int(200 * 0.33) == 66 and MATTERPORT.rois_per_image == 200
    assert [negative_count(p, MATTERPORT) for p in (66, 33, 50, 10)] == [134, 67, 101, 20]
    rng = np.random.default_rng(0)
    proposals = np.concatenate([np.tile(OBJECT, (700, 1)), rng.uniform(0, 5, (700, 4)) + np.array([20, 20, 40, 40])])
    for config, positives, negatives in ((MATTERPORT, 66, 134), (TORCHVISION, 128, 384), (DETECTRON2, 128, 384)):
        t = targets_of(proposals, config)
        assert ((t.class_ids > 0).sum(), (t.class_ids == 0).sum()) == (positives, negatives)
    assert [len(targets_of(boxes_of(), config).rois) for config in FRAMEWORKS] == [0, 1, 1]


def test_fact_075_mask_targets_rounded_or_soft():
    """S2: crop_and_resize to 28x28. matterport rounds the result, torchvision keeps the fractions of RoIAlign."""
    mask = np.zeros((1, 100, 100), bool)
    mask[0, ::2] = True
    rois = boxes_of([3.3, 3.3, 61.7, 61.7])
    targets = {config.name: mask_targets(rois, ONE, rois, mask, config) for config in FRAMEWORKS}
    assert all(t.shape == (1, 28, 28) for t in targets.values())
    assert set(np.unique(targets["matterport"])) == set(np.unique(targets["detectron2"])) == {0, 1}
    assert len(np.unique(targets["torchvision"])) > 2


def test_fact_076_mini_masks_are_the_resized_inside_of_the_box():
    """S2: "only the data inside the box is kept"; it is resized, too, to (56, 56) (not the docstring's 224x224)."""
    mask = np.zeros((1, 200, 200), bool)
    mask[0, 20:132, 30:142] = True
    mask[0, 20:76, 30:86] = False  # the top left quarter is empty
    mini = minimise_masks(boxes_of([20, 30, 132, 142]), mask, (56, 56))
    assert mini.shape == (1, 56, 56)
    assert not mini[0, :28, :28].any() and mini[0, 28:].all() and mini[0, :, 28:].all()


def test_fact_077_shapes_of_the_class_and_box_head():
    config = presets.tiny(num_classes=21)
    params = drawn(config, "box_head.")
    logits, deltas, _ = box_head(np.zeros((5, 7, 7, config.fpn_channels)), params, config)
    assert logits.shape == (5, 21) and deltas.shape == (5, 21, 4)  # COCO 81, VOC 21, background included
    assert len(VOC_CLASSES) == 21 and MATTERPORT.num_classes == 81


@pytest.mark.parametrize("classes, logits, deltas", [(81, 83_025, 332_100), (21, 21_525, 86_100)])
def test_fact_078_parameters_of_the_class_and_box_head(classes, logits, deltas):
    shapes = box_head_spec(presets.matterport(classes))
    assert shapes["box_head.conv1.w"].shape == (7, 7, 256, 1024)
    assert shapes["box_head.conv2.w"].shape == (1, 1, 1024, 1024)
    assert count(shapes, "box_head.conv1") == 12_846_080
    assert count(shapes, "box_head.conv2") == 1_049_600
    assert (count(shapes, "box_head.class"), count(shapes, "box_head.deltas")) == (logits, deltas)


@pytest.mark.parametrize("classes, logits", [(81, 20_817), (21, 5_397)])
def test_fact_079_parameters_of_the_mask_head(classes, logits):
    shapes = mask_head_spec(presets.matterport(classes))
    assert [count(shapes, f"mask_head.conv{i}") for i in (1, 2, 3, 4)] == [590_080] * 4
    assert count(shapes, "mask_head.deconv") == 262_400
    assert count(shapes, "mask_head.logits") == logits
    assert shapes["mask_head.deconv.w"].shape == (2, 2, 256, 256)


def test_fact_079_080_the_mask_is_28_by_28():
    """S4: "K m^2, where m is the pooling resolution (7x7)". The mask head pools 14 and doubles it."""
    config = presets.tiny(num_classes=21)
    assert config.mask_pool_size == 14
    logits, _ = mask_head(np.zeros((3, 14, 14, config.fpn_channels)), drawn(config, "mask_head."), config)
    assert logits.shape == (3, 28, 28, 21) and logits[0].size == 16_464
    assert (81 * 28**2, 80 * 28**2) == (63_504, 62_720)


def test_fact_081_only_the_true_classs_mask_counts():
    """S4: "Lmask(Cls_k) = Sigmoid(Cls_k)". That is the activation; the loss is the mean cross entropy of it."""
    logits = np.random.default_rng(0).normal(size=(2, 28, 28, 21))
    targets, class_ids = np.ones((2, 28, 28)), np.array([3, 7])
    loss, _ = head_mask_loss(logits, class_ids, targets)
    others = np.ones(21, bool)
    others[[3, 7]] = False
    logits[..., others] += 100  # no competition between classes
    assert head_mask_loss(logits, class_ids, targets)[0] == loss
    own = np.stack([logits[0, ..., 3], logits[1, ..., 7]])
    assert loss == pytest.approx(np.log1p(np.exp(-own)).mean())


def test_fact_082_every_mask_has_one_size_whatever_the_rois():
    """S1 asks: should the mask not have the RoI's size, instead of m x m?

    One m makes one array of all RoIs, for one convolution. The mask lives in the RoI's frame and gets the RoI's size
    when it is pasted.
    """
    config = presets.tiny()
    rois = boxes_of([0, 0, 8, 8], [10, 4, 110, 24], [0, 0, 128, 128])
    features = [np.ones((1, 128 // s, 128 // s, config.fpn_channels)) for s in STRIDES[:4]]
    pooled, _ = pyramid_roi_align(features, rois, np.zeros(3, int), output_size=14, strides=STRIDES[:4])
    logits, _ = mask_head(pooled, drawn(config, "mask_head."), config)
    assert logits.shape == (3, 28, 28, config.num_classes)
    pasted = paste_masks(np.ones((3, 28, 28)), rois, (128, 128), MATTERPORT)
    assert pasted.sum(axis=(1, 2)).tolist() == [8 * 8, 100 * 20, 128 * 128]


def test_fact_083_the_order_of_inference(monkeypatch):
    """S0's prediction graph has no ProposalLayer, and the masks before the DetectionLayer. S2 has it right."""
    names = ("propose", "box_head", "refine", "mask_head", "paste_masks")
    calls = spy(monkeypatch, *names)
    MaskRCNN(small_config(detection_score_threshold=0.0)).detect([noise()])
    assert tuple(name for name, _, _ in calls) == names


def test_fact_084_proposal_targets_need_no_prediction(network):
    """S0 has build_rpn_targets inside the model; matterport computes it in the data generator.

    Both can be: it depends on the anchors and the ground truth alone. The heads' targets depend on the proposals.
    """
    net, batch = network
    other = MaskRCNN(net.config, rng=np.random.default_rng(1))
    mine, theirs = (n.losses(batch, np.random.default_rng(0))[1].targets for n in (net, other))
    np.testing.assert_array_equal(mine.rpn_labels, theirs.rpn_labels)
    np.testing.assert_array_equal(mine.rpn_deltas, theirs.rpn_deltas)
    assert mine.rois.tolist() != theirs.rois.tolist()


def test_fact_085_the_detection_layer():
    """S2: score > .9. matterport's base configuration has >= .7, its samples .9, torchvision > .05."""
    assert (MATTERPORT.detection_score_threshold, MATTERPORT.detection_nms_iou) == (0.7, 0.3)
    assert (TORCHVISION.detection_score_threshold, TORCHVISION.detection_nms_iou) == (0.05, 0.5)
    assert [config.detection_score_inclusive for config in FRAMEWORKS] == [True, False, False]
    proposals = boxes_of(*([0, 40 * i, 30, 40 * i + 30] for i in range(4)))
    logits = np.log([[0.2, 0.8, 1e-9], [0.2, 1e-9, 0.8], [0.31, 0.69, 1e-9], [0.95, 0.04, 0.01]])
    boxes, class_ids, scores = refine(proposals, logits, np.zeros((4, 3, 4)), (10, 0, 100, 200), MATTERPORT)
    np.testing.assert_array_equal(boxes, [[10, 0, 30, 30], [10, 40, 30, 70]])  # clipped to the window
    assert class_ids.tolist() == [1, 2] and np.allclose(scores, 0.8)
    # Of two that overlap by .31 the second goes, if it is of the same class; by .3 it stays
    for width, second_class, kept in ((3.1, 1, 1), (3.1, 2, 2), (3.0, 1, 2)):
        logits = np.full((2, 3), -30.0)
        logits[0, 1], logits[1, second_class] = 1, 0.5
        assert len(refine(strips(10, width), logits, np.zeros((2, 3, 4)), (0, 0, 50, 50), MATTERPORT)[0]) == kept
    many = boxes_of(*([0, 5 * i, 4, 5 * i + 4] for i in range(300)))
    logits = np.log(np.tile([[0.1, 0.9]], (300, 1)))
    boxes, _, _ = refine(many, logits, np.zeros((300, 2, 4)), (0, 0, 10, 2000), MATTERPORT)
    assert len(boxes) == 100  # no zero padding here


def test_fact_086_masks_are_predicted_for_the_final_detections(monkeypatch):
    """S3: "for the 100 proposals with the highest scores". For the best detections, after their own NMS."""
    calls = spy(monkeypatch, "propose", "refine", "pyramid_roi_align", "mask_head")
    config = small_config(detection_score_threshold=0.0, detections_per_image=5)
    (found,) = MaskRCNN(config).detect([noise()])
    made = {name: (args, result) for name, args, result in calls}  # of the two RoIAligns the last, the mask head's
    proposals, detections = made["propose"][1][0], made["refine"][1][0]
    assert len(proposals) > len(detections) == len(found.scores) == 5
    np.testing.assert_array_equal(made["pyramid_roi_align"][0][1], detections)
    assert made["mask_head"][0][0].shape == (5, 14, 14, config.fpn_channels)


def test_fact_087_masks_are_cut_at_one_half():
    """S0, S3: resize to the box, threshold .5. S3 has "> .5"; here a mask of .5 belongs to the object."""
    box = boxes_of([2, 2, 30, 30])
    for config in (MATTERPORT, DETECTRON2):
        for value, painted in ((0.5, 784), (0.499, 0)):
            assert paste_masks(np.full((1, 28, 28), value), box, (40, 40), config).sum() == painted
    assert [config.mask_threshold for config in FRAMEWORKS] == [0.5] * 3


def test_fact_088_an_all_ones_mask_covers_29_pixels_in_torchvision():
    box, mask = xyxy(10, 20, 38, 48), np.ones((1, 28, 28), np.float32)
    for config, side in ((MATTERPORT, 28), (TORCHVISION, 29), (DETECTRON2, 28)):
        pasted = paste_masks(mask, box, (60, 60), config)[0]
        assert pasted[20 : 20 + side, 10 : 10 + side].all() and pasted.sum() == side * side


@pytest.mark.parametrize("classes, length", [(81, 93), (21, 33)])
def test_fact_089_length_of_the_image_meta(classes, length):
    assert len(compose_meta(0, plan((375, 500), MATTERPORT), np.ones(classes))) == 1 + 3 + 3 + 4 + 1 + classes == length


def test_fact_090_the_window():
    molding = plan((375, 500), MATTERPORT)
    assert (molding.resized_shape, molding.window) == ((768, 1024), (128, 0, 896, 1024))
    assert molding.scale == (2.048, 2.048) == (min(800 / 375, 1024 / 500),) * 2


def test_fact_091_sizes_of_the_square_mode():
    assert (MATTERPORT.image_min_size, MATTERPORT.image_max_size, MATTERPORT.resize_mode) == (800, 1024, "square")
    assert plan((900, 1200), MATTERPORT).molded_shape == (1024, 1024)


def test_fact_092_boxes_are_half_open():
    """S2: boxes from the masks' "bottom left and top right" corners. Top left and bottom right; x2 is the last + 1."""
    mask = np.zeros((20, 20), bool)
    mask[3:6, 7:15] = True
    np.testing.assert_array_equal(tight_box(mask), [3, 7, 6, 15])


def test_fact_093_constants():
    """MAX_GT_INSTANCES = 100 fixes the size of an array there; here every image has as many objects as it has."""
    assert (MATTERPORT.box_pool_size, MATTERPORT.mask_pool_size, 2 * MATTERPORT.mask_pool_size) == (7, 14, 28)
    assert MATTERPORT.detections_per_image == 100
    boxes = boxes_of(*([0, x, 9, x + 1] for x in range(101)))
    config = presets.tiny()
    (gt_boxes,) = make_batch([sample_of(boxes, shape=(128, 128))], config).gt_boxes
    assert len(gt_boxes) == 101


def test_fact_094_normalised_boxes():
    np.testing.assert_allclose(normalise_boxes(xyxy(10, 10, 20, 20), (101, 101)), [[0.10, 0.10, 0.19, 0.19]])


def test_fact_095_how_many_boxes_each_stage_has():
    c = MATTERPORT
    training = (c.rpn_anchors_per_image, c.proposals_pre_nms_train, c.proposals_post_nms_train, c.rois_per_image)
    assert (sum(len(a) for a in anchors(1024, 1024)), *training) == (261888, 256, 6000, 2000, 200)
    assert (c.proposals_post_nms_test, c.detections_per_image) == (1000, 100)


def test_fact_096_anchors_live_in_the_region_proposal_network_only(network, monkeypatch):
    """S4: the heads are "not directly related to anchors": other anchors change neither their weights nor, for the
    same proposals, their output.
    """
    net, _ = network
    shapes, others = spec(net.config), spec(net.config.replace(anchor_ratios=(0.25, 0.5, 1.0, 2.0, 4.0)))
    changed = {name for name in shapes if shapes[name] != others[name]}
    assert changed == {"rpn.objectness.w", "rpn.objectness.b", "rpn.deltas.w", "rpn.deltas.b"}
    proposals = boxes_of([0, 0, 40, 40], [5, 20, 60, 64], dtype=np.float32)
    monkeypatch.setattr(model, "propose", lambda *args, **options: (proposals, np.ones(2)))
    config = net.config.replace(anchor_sizes=(5.0, 9.0, 17.0, 33.0, 65.0), anchor_offset=0.0)
    (mine,), (theirs,) = (MaskRCNN(c, net.params).detect([noise()]) for c in (net.config, config))
    for field in ("boxes", "scores", "class_ids", "masks"):
        np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))


# --- 6. Losses --------------------------------------------------------------------------------------------------------


def test_fact_097_five_losses_of_weight_one(network):
    """S0, S3: L = Lcls + Lbox + Lmask, which is per RoI; S4 adds the RPN's, which are two."""
    net, batch = network
    values, _ = net.losses(batch, np.random.default_rng(0))
    assert tuple(values) == ("rpn_class", "rpn_box", "head_class", "head_box", "head_mask")
    for preset in presets.PRESETS.values():
        assert preset().loss_weights == (1, 1, 1, 1, 1)


def test_fact_098_smooth_l1():
    def values(x, beta):
        return smooth_l1(np.array(x, float), np.zeros(len(x)), beta=beta)[0]

    np.testing.assert_array_equal(values([0, 0.5, 1, 2, -3], 1.0), [0, 0.125, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(values([0.5, 1], 1 / 9), [0.4444, 0.9444], atol=5e-5)
    np.testing.assert_array_equal(values([0, 0.5, -3], 0.0), [0, 0.5, 3])
    assert [config.head_smooth_l1_beta for config in FRAMEWORKS] == [1, 1 / 9, 0]


def test_fact_099_denominators_of_the_box_losses():
    """S0, S2: positives only, mean. torchvision divides the same sum by all sampled: loss values never compare."""
    sampled = MATTERPORT.replace(box_loss_denominator="sampled")
    labels = np.array([[1, 1] + [-1] * 254])
    deltas, targets = np.zeros((1, 256, 4)), np.full((1, 256, 4), 2.0)  # smooth L1 of each number: 1.5
    assert rpn_box_loss(deltas, labels, targets, MATTERPORT)[0] == 1.5  # mean over 2 positives x 4
    assert rpn_box_loss(deltas, labels, targets, sampled)[0] == 1.5 * 8 / 256
    class_ids = np.array([1, 1] + [0] * 510)
    deltas, targets = np.zeros((512, 2, 4)), np.full((512, 4), 2.0)
    assert head_box_loss(deltas, class_ids, targets, MATTERPORT)[0] == 1.5
    assert head_box_loss(deltas, class_ids, targets, sampled)[0] == 1.5 * 8 / 512
    assert [config.box_loss_denominator for config in FRAMEWORKS] == ["positives", "sampled", "sampled"]


def test_fact_100_rois_predicted_as_inactive_classes_are_erased():
    logits = np.array([[0.0, 5, 0], [0, 0, 5]])
    active = np.array([[True, True, False]] * 2)
    loss, _ = head_class_loss(logits, np.array([1, 1]), active, MATTERPORT)
    assert loss == pytest.approx(-math.log(softmax(logits)[0][0, 1]))
    assert head_class_loss(logits, np.array([1, 1]), active, TORCHVISION)[0] > 2


def test_fact_101_the_mask_loss_of_no_positives_is_zero():
    loss, _ = head_mask_loss(np.zeros((0, 28, 28, 21)), np.zeros(0, int), np.zeros((0, 28, 28)))
    assert loss == 0


def test_fact_102_losses_of_an_untrained_network():
    labels = np.tile([1, -1], 128)[None]
    assert rpn_class_loss(np.zeros((1, 256)), labels)[0] == pytest.approx(0.6931, abs=5e-5)
    masks = np.random.default_rng(0).random((9, 28, 28)) < 0.5
    assert head_mask_loss(np.zeros((9, 28, 28, 3)), np.ones(9, int), masks)[0] == pytest.approx(0.6931, abs=5e-5)
    for classes, value in ((21, 3.0445), (81, 4.3944)):
        loss, _ = head_class_loss(np.zeros((5, classes)), np.arange(5), np.ones((5, classes), bool), TORCHVISION)
        assert loss == pytest.approx(math.log(classes)) == pytest.approx(value, abs=5e-5)


# --- 7. Backbone, pyramid, claims of the paper ------------------------------------------------------------------------


def stage_outputs(config, side, rng=None):
    """Maps of the shapes of C2..C5 for a square image whose C2 is ``side`` wide: zeros, or drawn."""
    shapes = [(1, side >> i, side >> i, c) for i, c in enumerate(ARCHITECTURES[config.backbone].out_channels)]
    return [np.zeros(shape) if rng is None else rng.normal(size=shape) for shape in shapes]


def test_fact_103_stages_of_resnet():
    for name, blocks in (("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))):
        arch = ARCHITECTURES[name]
        assert arch.blocks == blocks and arch.blocks[2] - 1 == {"resnet50": 5, "resnet101": 22}[name]
        assert (arch.stem, *arch.out_channels) == (64, 256, 512, 1024, 2048)


def test_fact_103_105_strides_of_the_maps():
    """S0: "6 scale features", and lists five: P2 to P6. 1024 pixels give 256, 128, 64, 32, 16; here it is 128."""
    config = presets.tiny()
    params = initialise(config, np.random.default_rng(0))
    features, _ = backbone(np.zeros((1, 128, 128, 3), np.float32), params, config)
    assert [f.shape[1:3] for f in features] == [(128 // s, 128 // s) for s in (4, 8, 16, 32)]
    pyramid, _ = fpn(features, params, config)
    assert [p.shape for p in pyramid] == [(1, 128 // s, 128 // s, config.fpn_channels) for s in (4, 8, 16, 32, 64)]
    assert [config.fpn_channels for config in FRAMEWORKS] == [256] * 3


def test_fact_104_the_two_kinds_of_block():
    """The conv block projects its shortcut and strides, but not in stage 2; the identity block keeps the shape.

    matterport strides the first 1x1, which never reads three pixels of four; torchvision strides the 3x3.
    """
    names = [name for name in spec(TORCHVISION) if name.endswith("shortcut.conv.w")]
    assert names == [f"backbone.c{stage}.0.shortcut.conv.w" for stage in (2, 3, 4, 5)]
    rng, arch = np.random.default_rng(0), ARCHITECTURES["resnet50"]

    def block(name, x, stride, config=TORCHVISION, **changes):
        params = drawn(config, f"backbone.{name}.") | changes
        return residual_block(x, params, f"backbone.{name}", arch, config, stride=stride)[0]

    assert block("c2.0", rng.normal(size=(1, 8, 8, 64)), 1).shape == (1, 8, 8, 256)
    x = rng.normal(size=(1, 8, 8, 512))
    assert block("c3.1", x, 1).shape == x.shape
    switched_off = block("c3.1", x, 1, **{"backbone.c3.1.bn3.gamma": np.zeros(512)})
    np.testing.assert_array_equal(switched_off, relu(x)[0])  # y = relu(F(x) + x)
    x = rng.normal(size=(1, 8, 8, 256))
    unread = x.copy()
    unread[:, 1::2], unread[:, :, 1::2] = 9, 9
    for config, ignores in zip(FRAMEWORKS, (True, False, True)):
        y = block("c3.0", x, 2, config)
        assert y.shape == (1, 4, 4, 512)
        assert np.array_equal(y, block("c3.0", unread, 2, config)) == ignores == config.stride_in_1x1


def test_fact_106_the_top_down_path():
    config = presets.tiny()
    names = {n: s.shape for n, s in spec(TORCHVISION).items() if n.startswith("fpn.") and n.endswith(".w")}
    assert names == {
        **{f"fpn.lateral{k}.w": (1, 1, c, 256) for k, c in zip((2, 3, 4, 5), (256, 512, 1024, 2048))},
        **{f"fpn.output{k}.w": (3, 3, 256, 256) for k in (2, 3, 4, 5)},
    }
    # A single bright cell of C5 reaches 2^k x 2^k cells of the level k finer, and the 3x3 widens it by one on each side
    params = {n: np.full(p.shape, float(n.endswith(".w"))) for n, p in drawn(config, "fpn.").items()}
    features = stage_outputs(config, 32)
    features[3][0, 1, 1] = 1
    pyramid, _ = fpn(features, params, config)
    for level, cells in zip(pyramid, (8, 4, 2, 1)):
        assert (level[0, ..., 0] > 0).sum() == (cells + 2) ** 2


def test_fact_107_p6_is_every_second_cell_of_p5():
    config = presets.tiny()
    params = drawn(config, "fpn.")
    pyramid, _ = fpn(stage_outputs(config, 40, np.random.default_rng(1)), params, config)
    np.testing.assert_array_equal(pyramid[4], pyramid[3][:, ::2, ::2])
    assert not any("6" in name for name in params)


def test_fact_108_which_stage_each_level_sees():
    """S1's figure: (a) a pyramid of images, (b) one map, (c) each stage's own map, (d) FPN.

    Here, rows P2..P6 and columns C2..C5. (c) would be a diagonal, (b) one row, and (a) one matrix for each image size.
    """
    config, rng = presets.tiny(), np.random.default_rng(0)
    params, features = drawn(config, "fpn."), stage_outputs(config, 16, rng)
    before, _ = fpn(features, params, config)
    sees = np.zeros((5, 4), int)
    for stage in range(4):
        after, _ = fpn([f + (i == stage) for i, f in enumerate(features)], params, config)
        sees[:, stage] = [not np.array_equal(a, b) for a, b in zip(before, after)]
    assert sees.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_fact_110_resnext_101_with_a_pyramid():
    """S1, S4: the strongest backbone (of the paper). 32 groups of 8 channels, twice the parameters of ResNet-101."""
    shapes = spec(presets.torchvision(91, backbone="resnext101_32x8d"))
    assert shapes["backbone.c2.1.conv2.w"].shape == (3, 3, 8, 256)
    assert shapes["fpn.lateral5.w"].shape == (1, 1, 2048, 256)
    assert count(shapes, "backbone.") == 86_742_336
    assert count(spec(presets.torchvision(91, backbone="resnet101")), "backbone.") == 42_500_160


def test_fact_112_faster_rcnn_and_a_fully_convolutional_network(network):
    """S1: "Mask R-CNN is Faster R-CNN with an FCN". The FCN takes any size, and leaves the boxes alone."""
    net, _ = network
    config, params = net.config.replace(detection_score_threshold=0.0), net.params
    assert all(p.ndim == 4 for n, p in params.items() if n.startswith("mask_head.") and n.endswith(".w"))
    logits, _ = mask_head(np.ones((1, 5, 9, config.fpn_channels), np.float32), params, config)
    assert logits.shape == (1, 10, 18, config.num_classes)
    inverted = params | {n: -params[n] for n in ("mask_head.logits.w", "mask_head.logits.b")}
    (mine,), (theirs,) = (MaskRCNN(config, p).detect([noise()]) for p in (params, inverted))
    for field in ("boxes", "scores", "class_ids"):
        np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))
    assert len(mine.scores) > 0 and (mine.masks != theirs.masks).any()


def test_fact_113_masks_are_of_instances():
    """S4: "segmentation mask (semantic mask)". A semantic mask would join two touching objects of one class."""
    objects = boxes_of([0, 0, 10, 10], [0, 10, 10, 20])
    both = boxes_of([0, 0, 10, 20], [0, 0, 10, 20])  # one RoI for each, over both
    left, right = mask_targets(both, np.array([0, 1]), objects, fill(objects, (40, 40)), DETECTRON2)
    assert left[:, :14].all() and not left[:, 14:].any()
    np.testing.assert_array_equal(right, 1 - left)


def test_fact_114_colour_means():
    image = np.full((1024, 1024, 3), (200, 100, 50), np.uint8)
    expected = {
        "matterport": [200 - 123.7, 100 - 116.8, 50 - 103.9],
        "torchvision": [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225],
        "detectron2": [50 - 103.53, 100 - 116.28, 200 - 123.675],  # blue first
    }
    for config in FRAMEWORKS:
        np.testing.assert_allclose(mold_image(image, config)[0][7, 7], expected[config.name], rtol=1e-6)


def test_fact_115_parameters_of_torchvisions_model():
    shapes = spec(presets.torchvision(91))
    parts = {
        "backbone.": 23_508_032,
        "fpn.": 3_344_384,
        "rpn.": 593_935,
        "box_head.fc": 13_895_680,
        "mask_head.conv": 2_360_320,
    }
    assert {part: count(shapes, part) for part in parts} == parts
    assert count(shapes, "box_head.class") + count(shapes, "box_head.deltas") == 466_375
    assert count(shapes, "mask_head.deconv") + count(shapes, "mask_head.logits") == 285_787
    assert count(shapes) == 44_454_513
    assert count(spec(presets.torchvision(21))) == 44_077_773


def test_fact_115_is_what_torchvision_counts():
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection")
    with torch.device("meta"):  # shapes only
        theirs = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=21)
    assert sum(p.numel() for p in theirs.parameters()) == 44_077_773


# --- 8. Data ----------------------------------------------------------------------------------------------------------


def test_fact_116_the_colour_map():
    """S0 lists 21 rows, [0 0 0] to [0 64 128], and leaves out void."""
    palette = colour_map()
    assert [tuple(row) for row in palette[:21].tolist()] == VOC_COLOURS
    assert palette[255].tolist() == [224, 224, 192]


def test_fact_117_classes_of_voc():
    assert len(VOC_CLASSES) == 21 and VOC_CLASSES[0] == "background" and VOC_CLASSES[20] == "tvmonitor"


@pytest.mark.skipif(not os.environ.get("VOC_ROOT"), reason="VOC_ROOT is not set")
def test_fact_117_instances_and_classes_are_in_two_files():
    """SegmentationObject counts the objects 1, 2, ...; SegmentationClass cannot tell two of one class apart."""
    dataset = VOCDataset(os.environ["VOC_ROOT"], "trainval", subset=34)
    of_one_class = 0
    for index, image_id in enumerate(dataset.ids):
        sample = dataset.load(index)
        instances, classes = (
            read_index_mask(dataset.folder / f"Segmentation{kind}" / f"{image_id}.png", image_id=image_id)
            for kind in ("Object", "Class")
        )
        for number, (mask, class_id) in enumerate(zip(sample.gt_masks, sample.gt_class_ids), start=1):
            np.testing.assert_array_equal(mask, instances == number)
            assert np.bincount(classes[mask]).argmax() == class_id
        of_one_class += len(set(sample.gt_class_ids.tolist())) < len(sample.gt_class_ids)
    assert of_one_class > 0


# --- 9. Evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, expected, rounded", [("voc10", 5 / 9, 0.5556), ("voc07", 6 / 11, 0.5455), ("coco", 56 / 101, 0.5545)]
)
def test_fact_119_right_wrong_right_of_three_objects(method, expected, rounded):
    ap = average_precision(np.array([1, 1, 2]) / 3, np.array([1, 1 / 2, 2 / 3]), method=method)
    assert ap == pytest.approx(expected, rel=1e-15) and round(ap, 4) == rounded
    objects = [(0, 0, 4, 4), (0, 10, 4, 14), (10, 0, 14, 4)]
    found = detections_of([objects[0], (15, 15, 20, 20), objects[2]], [0.9, 0.8, 0.7])
    names = ("background", "thing")
    assert evaluate_detections([found], [sample_of(objects)], class_names=names, method=method).mean_ap == ap


def test_fact_121_the_keras_map_is_a_mean_over_images():
    """Three images with a cat, found, and one with a dog, missed: 3/4 of the images, but 1/2 of the classes."""
    box = [(0, 0, 10, 10)]
    samples = [sample_of(box, [class_id]) for class_id in (1, 1, 1, 2)]
    found = [detections_of(box, [0.9], [1])] * 3 + [detections_of([], [])]
    assert matterport_map(found, samples) == 3 / 4
    names = ("background", "cat", "dog")
    for method in ("voc07", "voc10", "coco"):
        assert evaluate_detections(found, samples, class_names=names, method=method).mean_ap == 1 / 2
