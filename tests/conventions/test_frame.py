"""What matterport's normalised coordinates, its resizing and its padding change, on examples worked out by hand."""

import numpy as np
import pytest
from PIL import Image
from scenes import boxes_of, fill, sample_of
from scipy import ndimage

from mrcnn_np.boxes import encode_boxes, enter_frame, has_sides, leave_frame
from mrcnn_np.config import presets
from mrcnn_np.detections import paste_masks, refine
from mrcnn_np.molding import make_batch, minimise_masks, mold_image, plan
from mrcnn_np.proposals import propose
from mrcnn_np.resizing import enclosing_boxes, resize_masks, resize_with_border
from mrcnn_np.targets import mask_targets, roi_targets
from mrcnn_np.training.optim import sgd_step, update, zero_velocity

MATTERPORT = presets.matterport()
NO_CROWD = np.zeros(1, bool)


def normalised(boxes, shape):
    """matterport's norm_boxes, written out."""
    h, w = shape
    return (boxes - np.array([0, 0, 1, 1])) / np.array([h - 1, w - 1, h - 1, w - 1])


def test_frames():
    boxes = boxes_of([3, 5, 4, 6], [0, 0, 10, 20])
    assert enter_frame(boxes, "edges") is boxes
    np.testing.assert_array_equal(enter_frame(boxes, "centres"), [[3, 5, 3, 5], [0, 0, 9, 19]])
    for frame in ("edges", "centres"):
        np.testing.assert_array_equal(leave_frame(enter_frame(boxes, frame), frame), boxes)
        assert enter_frame(boxes.astype(np.float32), frame).dtype == np.float32
    assert has_sides(enter_frame(boxes, "centres")).tolist() == [False, True]
    assert has_sides(enter_frame(boxes, "centres"), None).tolist() == [True, True]


def test_proposals_are_moved_in_normalised_coordinates():
    """A box of 11 pixels moves by .5 * 10 pixels, not by .5 * 11."""
    anchors = [boxes_of([10, 20, 21, 51])]
    deltas = np.array([[5.0, -5.0, 0, 0]])  # times .1
    boxes, _ = propose(np.zeros((1, 2)), deltas, anchors, (0, 0, 64, 128), MATTERPORT, training=False)
    np.testing.assert_allclose(boxes, [[15, 5, 26, 36]])
    there = normalised(boxes, (64, 128))
    expected = normalised(anchors[0], (64, 128)) + np.array([0.5 * 10 / 63, -0.5 * 30 / 127] * 2)
    np.testing.assert_allclose(there, expected[:1])


def test_proposals_are_clipped_to_the_canvas_and_none_is_dropped():
    molding = plan((100, 200), MATTERPORT.replace(image_min_size=64, image_max_size=128))
    assert molding.window == (32, 0, 96, 128)
    assert molding.proposal_window(MATTERPORT) == (0, 0, 128, 128)
    assert molding.proposal_window(presets.torchvision()) == molding.window
    anchors = [boxes_of([-40, 10, -10, 40], [-20, 10, 20, 40])]  # the first lies outside: one row of pixels is left
    boxes, _ = propose(
        np.array([[0, 1.0], [0, 0]]), np.zeros((2, 4)), anchors, (0, 0, 128, 128), MATTERPORT, training=False
    )
    np.testing.assert_array_equal(boxes, [[0, 10, 1, 40], [0, 10, 20, 40]])
    boxes, _ = propose(
        np.array([[0, 1.0], [0, 0]]), np.zeros((2, 4)), anchors, (0, 0, 128, 128),
        MATTERPORT.replace(proposals_min_size=0.0), training=False,
    )  # fmt: skip
    np.testing.assert_array_equal(boxes, [[0, 10, 20, 40]])


def test_suppression_compares_normalised_boxes():
    """8 of 11 rows overlap: 8/11 > .7 between edges, 7/10 between centres, which does not suppress."""
    anchors = [boxes_of([0, 0, 11, 21], [0, 0, 8, 21])]
    logits, deltas = np.array([[0, 1.0], [0, 0]]), np.zeros((2, 4))
    for frame, kept in (("centres", 2), ("edges", 1)):
        config = MATTERPORT.replace(box_frame=frame)
        assert len(propose(logits, deltas, anchors, (0, 0, 64, 64), config, training=False)[0]) == kept


def test_detections_are_moved_and_clipped_in_normalised_coordinates():
    logits, deltas = np.log([[0.1, 0.9]]), np.zeros((1, 2, 4))
    deltas[0, 1] = [5, 0, 0, 5 * np.log(2)]  # by half a height; twice the width
    boxes, class_ids, _ = refine(boxes_of([10, 20, 21, 51]), logits, deltas, (0, 0, 24, 128), MATTERPORT)
    np.testing.assert_allclose(boxes, [[15, 5, 24, 66]])  # 60 between the centres of its first and last column
    assert class_ids.tolist() == [1]


def test_head_targets_are_encoded_in_normalised_coordinates():
    config = MATTERPORT.replace(rois_per_image=6)
    objects, proposals = boxes_of([10, 10, 31, 41]), boxes_of([12, 10, 33, 41], [50, 50, 60, 60], [10, 10, 31, 41])
    masks = np.ones((1, 56, 56), bool)
    t = roi_targets(proposals, objects, np.array([3]), masks, NO_CROWD, config, np.random.default_rng(0))
    # int(6 * .33) = 1 positive, int(1 / .33) - 1 = 2 negatives of which one exists, 4 RoIs of the first pixel
    assert t.class_ids.tolist() == [3, 0, 0, 0, 0, 0] and t.masks.shape == (1, 28, 28)
    np.testing.assert_array_equal(t.rois[2:], [[0, 0, 1, 1]] * 4)
    assert not normalised(t.rois[2:], (128, 128)).any()
    shape = (128, 256)
    expected = encode_boxes(normalised(objects, shape), normalised(t.rois[:1], shape), std=config.head_box_std)
    np.testing.assert_allclose(t.deltas[0], expected[0], atol=1e-12)
    np.testing.assert_array_equal(t.deltas[1:], 0)


def test_without_objects_all_rois_are_padding():
    args = (np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 56, 56), bool), np.zeros(0, bool))
    t = roi_targets(boxes_of([0, 0, 9, 9]), *args, MATTERPORT, np.random.default_rng(0))
    np.testing.assert_array_equal(t.rois, [[0, 0, 1, 1]] * 200)
    assert not t.class_ids.any() and t.masks.shape == (0, 28, 28)


def test_an_object_of_one_pixel_is_matched_by_no_roi():
    """Between centres it has no area, so that no logarithm of 0 can arise."""
    t = roi_targets(
        boxes_of([4, 4, 5, 5], [4, 4, 6, 6]), boxes_of([4, 4, 5, 5]), np.array([1]), np.ones((1, 56, 56), bool),
        NO_CROWD, MATTERPORT, np.random.default_rng(0),
    )  # fmt: skip
    assert not t.class_ids.any() and np.isfinite(t.deltas).all()


def test_mini_mask_frame():
    """The object's first and last pixel are the mini mask's first and last: (roi - gt) / (side - 1)."""
    config = MATTERPORT.replace(mini_mask_shape=(5, 9), mask_pool_size=1, mask_target_rounded=False)
    mini = np.zeros((1, 5, 9), bool)
    mini[0, :2] = True
    gt, roi = boxes_of([10, 10, 21, 31]), boxes_of([10, 10, 19, 31])
    cut = mask_targets(roi, np.array([0]), gt, mini, config)
    # rows read at 0 and 8 / 10 of the way from the first to the last: cells 0 and 3.2
    np.testing.assert_allclose(cut[0], [[1, 1], [0, 0]])
    roi[0, 2] = 10 + 10 * 1.5 / 4 + 1
    cut = mask_targets(roi, np.array([0]), gt, mini, config)
    np.testing.assert_allclose(cut[0], [[1, 1], [0.5, 0.5]])


# --- resizing ---


def old_skimage(x, size):
    """scikit-image's resize(order=1, mode="constant"): between neighbours, those outside being 0, then clipped."""
    u, v = ((np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(x.shape, size))
    grid = np.stack(np.meshgrid(u, v, indexing="ij"))
    layers = [ndimage.map_coordinates(layer, grid, order=1, mode="grid-constant") for layer in np.moveaxis(x, -1, 0)]
    return np.clip(np.stack(layers, -1), x.min(), x.max())


@pytest.mark.parametrize("size", [(7, 5), (20, 31), (3, 4), (14, 10)])
def test_zero_border(size):
    rng = np.random.default_rng(0)
    for low in (0.0, 0.7):
        x = rng.uniform(low, 1, (7, 5, 2))
        np.testing.assert_allclose(resize_with_border(x, size, "zero"), old_skimage(x, size), atol=1e-14)


def test_molded_pixels_are_whole_grey_levels():
    config = MATTERPORT.replace(image_min_size=64, image_max_size=64)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    molded, molding = mold_image(image, config)
    top, left, bottom, right = molding.window
    levels = molded + np.array(config.pixel_mean, np.float32)
    np.testing.assert_allclose(levels, np.round(levels), atol=2e-5)
    # an exact 129 comes out as 128.99999999999997 there: which whole levels it truncates is up to its round-off
    expected = np.floor(old_skimage(image.astype(float), (bottom - top, right - left)) + 1e-9)
    np.testing.assert_allclose(levels[top:bottom, left:right], expected, atol=2e-5)
    flat, _ = mold_image(np.full((41, 63, 3), 100, np.uint8), config)  # interpolated, it stays 100 and not 99
    np.testing.assert_allclose(flat[32, 5] + config.pixel_mean, 100, atol=1e-5)


@pytest.mark.parametrize("shape, scale", [((10, 20), 2.048), ((33, 21), 0.4), ((1, 5), 3), ((30, 30), 1.0)])
def test_masks_are_zoomed(shape, scale):
    masks = np.random.default_rng(0).random((2, *shape)) < 0.5
    expected = np.stack([ndimage.zoom(m.astype(np.uint8), scale, order=0, mode="nearest") for m in masks])
    found = resize_masks(masks, expected.shape[1:], "centres")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(10, 20), (33, 21), (1, 5), (127, 31)])
@pytest.mark.parametrize("size", [(20, 41), (13, 8), (1, 1), (26, 6)])
def test_exact_masks_are_pillows(shape, size):
    masks = np.random.default_rng(0).random((2, *shape)) < 0.5
    nearest = Image.Resampling.NEAREST
    expected = np.stack([np.asarray(Image.fromarray(m).resize(size[::-1], nearest)) for m in masks])
    np.testing.assert_array_equal(resize_masks(masks, size, "exact"), expected)


@pytest.mark.parametrize("align, moved", [("exact", (0, 0, 0)), ("edges", (2, 2, 2)), ("centres", (2, 0, -2))])
def test_how_far_a_shrunk_mask_moves(align, moved):
    """640 pixels become 128: by "edges" all goes on by 2 of the old ones, by "centres" what lies outside comes in."""
    for start, expected in zip((0, 300, 600), moved):
        displaced = []
        for first in range(start, start + 5):  # each of the places that a mask may have beside the new cells
            mask = np.zeros((1, 640, 640), bool)
            mask[0, first : first + 35, first : first + 35] = True
            (found,) = resize_masks(mask, (128, 128), align)
            displaced.append((np.argwhere(found).mean(axis=0) + 0.5) * 5 - (first + 17.5))
        np.testing.assert_allclose(np.mean(displaced, axis=0), expected, atol=0.6)


def test_the_presets_of_our_own_move_no_masks():
    """Ours are trained on whatever size pictures have."""
    assert {presets.by_name(name).mask_resize for name in ("tiny", "small", "tiny_c4")} == {"exact"}


def test_boxes_enclose_the_resized_masks_and_lost_objects_go():
    masks = np.zeros((3, 200, 200), bool)
    masks[0, 20:60, 30:90] = masks[1, 77, 133] = masks[2, 100:140, 100:190] = True
    crowd = np.array([False, False, True])
    sample = sample_of(
        [[18, 30, 60, 90], [77, 133, 78, 134], [100, 100, 140, 190]],
        [1, 2, 1],
        shape=(200, 200),
        masks=masks,
        crowd=crowd,
    )
    config = MATTERPORT.replace(image_min_size=64, image_max_size=64, mini_mask_shape=None)
    batch = make_batch([sample], config)
    (boxes,), (class_ids,), (kept,), (crowds,) = batch.gt_boxes, batch.gt_class_ids, batch.gt_masks, batch.gt_crowd
    assert class_ids.tolist() == [1, 1] and crowds.tolist() == [False, True]
    assert boxes.dtype == np.float32 and (boxes == np.round(boxes)).all()
    np.testing.assert_array_equal(fill(boxes, (64, 64)), kept)  # they fill their boxes
    np.testing.assert_array_equal(enclosing_boxes(np.zeros((1, 4, 4), bool), np.float64), [[0, 0, 0, 0]])
    assert len(make_batch([sample], config.replace(gt_boxes_from_masks=False)).gt_class_ids[0]) == 3


def test_mini_masks_recede_where_they_are_enlarged():
    mask = np.ones((1, 20, 20), bool)
    mask[0, 15:, 15:] = False
    box = boxes_of([0, 0, 20, 20])
    edge, zero = (minimise_masks(box, mask, (56, 56), border=border)[0] for border in ("edge", "zero"))
    assert edge[0, 0] and not zero[0, 0]  # .68 * .68
    assert (zero <= edge).all() and (edge != zero).sum() < 10
    assert minimise_masks(
        box, np.ones((1, 20, 20), bool), (56, 56), border="zero"
    ).all()  # nothing is below its minimum


def test_pasted_masks_recede():
    mask = np.full((1, 28, 28), 0.7)
    mask[0, 14, 14] = 0
    box = boxes_of([10, 10, 290, 290])
    shrunk = paste_masks(mask, box, (300, 300), MATTERPORT)[0]
    whole = paste_masks(mask, box, (300, 300), MATTERPORT.replace(mask_paste="resize"))[0]
    # the centre of a row i of ten per cell is .05 + .1 i cells from the border; .7 (.55 + .1 i) >= .5 from i = 2 on
    assert whole[10, 100] and not shrunk[11, 100] and shrunk[12, 100] and not whole[150, 150]
    assert paste_masks(np.full((1, 28, 28), 0.7), box, (300, 300), MATTERPORT).sum() == 280**2


def test_final_boxes():
    """First and last pixels correspond: 0..127 of the canvas's window is 0..499 of the image."""
    config = MATTERPORT.replace(image_min_size=64, image_max_size=128)
    molding = plan((250, 500), config)
    assert molding.window == (32, 0, 96, 128)
    boxes = molding.unmold_boxes(boxes_of([32, 0, 96, 128], [32, 0, 33, 1], [42, 10, 75, 20]), "centres")
    np.testing.assert_allclose(boxes[:2], [[0, 0, 250, 500], [0, 0, 1, 1]], atol=1e-12)
    y, x = 249 / 63, 499 / 127
    np.testing.assert_allclose(boxes[2], [10 * y, 10 * x, 42 * y + 1, 19 * x + 1])
    thin = plan((1, 500), config).unmold_boxes(boxes_of([63, 10, 64, 20]), "centres")
    assert np.isfinite(thin).all()


# --- the optimiser ---


def test_weight_decay_of_the_mean_square():
    config = presets.tiny(weight_decay=0.1, weight_decay_on="mean", no_decay=("*.gamma",), momentum=0.0)
    params = {"a.w": np.full((2, 5), 3.0), "a.b": np.full(2, 3.0), "a.gamma": np.full(2, 3.0)}
    grads = {name: np.zeros_like(p) for name, p in params.items()}
    velocity = zero_velocity(params, config)
    update(params, grads, velocity, learning_rate=1.0, config=config)
    for name, gradient in (("a.w", 2 * 0.1 * 3 / 10), ("a.b", 2 * 0.1 * 3 / 2), ("a.gamma", 0)):
        np.testing.assert_allclose(params[name], 3 - gradient)
    ours, theirs = ({"a.w": np.full(3, 2.0)} for _ in range(2))
    config = config.replace(weight_decay_on="sum")
    for step, p in ((update, ours), (sgd_step, theirs)):
        step(p, {"a.w": np.ones(3)}, {"a.w": np.ones(3)}, learning_rate=0.1, config=config)
    np.testing.assert_array_equal(ours["a.w"], theirs["a.w"])
