import math

import naive_boxes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import boxes_of

from mrcnn_np.config import presets
from mrcnn_np.detections import paste_masks, refine

# Measured between edges and without padding, so that the examples are round numbers; see conventions/test_frame.py
MATTERPORT = presets.matterport(box_frame="edges", detection_min_size=0.0)
TORCHVISION, DETECTRON2 = presets.torchvision(), presets.detectron2()
DIALECTS = [MATTERPORT, TORCHVISION, DETECTRON2, presets.tiny()]
METHODS = {
    "resize": MATTERPORT.replace(mask_paste="resize"),
    "resize_zero": MATTERPORT,
    "plus_one": TORCHVISION,
    "grid_sample": DETECTRON2,
}
WINDOW = (0, 0, 100, 100)
seeds = st.integers(0, 2**32 - 1)


def logits_of(*rows):
    """Logits whose softmax is the given probabilities."""
    return np.log(np.array(rows, np.float64))


# --- refine, by hand ---


def test_argmax_keeps_one_class_per_proposal():
    proposals = boxes_of([0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 80, 80], [20, 20, 30, 30])
    logits = logits_of([0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.1, 0.3, 0.6], [0.1, 0.15, 0.75])
    boxes, class_ids, scores = refine(proposals, logits, np.zeros((4, 3, 4)), WINDOW, MATTERPORT)
    # Background, and what scores below 0.7, is out; best first
    np.testing.assert_array_equal(boxes, proposals[[0, 3]])
    assert class_ids.tolist() == [1, 2] and class_ids.dtype == np.int64
    np.testing.assert_allclose(scores, [0.8, 0.75])


def test_every_class_above_the_threshold_counts():
    proposals = boxes_of([0, 0, 10, 10])
    logits = logits_of([0.5, 0.3, 0.17, 0.03])
    deltas = np.zeros((1, 4, 4))
    deltas[0, 2, 1] = 10  # std .1: one width to the right, for class 2 only
    for config in (TORCHVISION, DETECTRON2):
        boxes, class_ids, scores = refine(proposals, logits, deltas, WINDOW, config)
        np.testing.assert_allclose(boxes, [[0, 0, 10, 10], [0, 10, 10, 20]])
        assert class_ids.tolist() == [1, 2]
        np.testing.assert_allclose(scores, [0.3, 0.17])


def test_a_score_equal_to_the_threshold():
    proposals, logits, deltas = boxes_of([0, 0, 10, 10]), np.zeros((1, 2)), np.zeros((1, 2, 4))
    for classes in ("argmax", "all"):
        # The softmax of two equal logits is exactly one half; argmax would choose the background
        config = MATTERPORT.replace(detection_score_threshold=0.5, detection_classes="all")
        assert len(refine(proposals, logits, deltas, WINDOW, config)[0]) == 1
        exclusive = config.replace(detection_score_inclusive=False)
        assert len(refine(proposals, logits, deltas, WINDOW, exclusive)[0]) == 0
        assert len(refine(proposals, logits, deltas, WINDOW, config.replace(detection_classes=classes))[0]) == (
            classes == "all"
        )


def test_class_specific_deltas_with_their_deviation():
    proposals, deltas = boxes_of([40, 40, 50, 60]), np.zeros((1, 3, 4))
    deltas[0, 2] = [1, -1, math.log(2) / 0.2, 0]
    boxes, class_ids, _ = refine(proposals, logits_of([0.05, 0.05, 0.9]), deltas, WINDOW, MATTERPORT)
    # centre (45, 50) + (.1 * 10, -.1 * 20), height doubled
    np.testing.assert_allclose(boxes, [[36, 38, 56, 58]])
    assert class_ids.tolist() == [2]


def test_boxes_are_clipped_to_the_window_and_empty_ones_dropped():
    proposals = boxes_of([0, 0, 60, 60], [0, 0, 10, 100], [90, 90, 99.995, 100])
    logits = logits_of([0.05, 0.95], [0.1, 0.9], [0.15, 0.85])
    boxes, _, _ = refine(proposals, logits, np.zeros((3, 2, 4)), (10, 0, 90, 100), MATTERPORT)
    np.testing.assert_array_equal(boxes, [[10, 0, 60, 60]])
    # torchvision drops sides below 1/100 pixel
    thin = boxes_of([0, 0, 0.005, 50])
    for config, kept in ((TORCHVISION, 0), (DETECTRON2, 1)):
        assert len(refine(thin, logits[:1], np.zeros((1, 2, 4)), WINDOW, config)[0]) == kept


def test_classes_do_not_suppress_each_other():
    proposals = boxes_of([0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9.5])
    logits = logits_of([0.02, 0.9, 0.08], [0.02, 0.08, 0.9], [0.15, 0.8, 0.05])
    boxes, class_ids, _ = refine(proposals, logits, np.zeros((3, 3, 4)), WINDOW, MATTERPORT)
    np.testing.assert_array_equal(boxes, proposals[:2])
    assert class_ids.tolist() == [1, 2]


def test_an_overlap_equal_to_the_threshold_survives():
    proposals = boxes_of([0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.1])
    logits = logits_of([0.1, 0.9], [0.2, 0.8], [0.3, 0.7])
    boxes, _, _ = refine(proposals, logits, np.zeros((3, 2, 4)), WINDOW, DETECTRON2)
    np.testing.assert_array_equal(boxes, proposals[:2])


def test_only_the_best_are_kept():
    proposals = boxes_of(*([0, 20 * i, 10, 20 * i + 10] for i in range(5)))
    logits = logits_of(*([1 - p, p] for p in (0.75, 0.95, 0.85, 0.8, 0.9)))
    config = MATTERPORT.replace(detections_per_image=3)
    boxes, _, scores = refine(proposals, logits, np.zeros((5, 2, 4)), WINDOW, config)
    np.testing.assert_array_equal(boxes, proposals[[1, 4, 2]])
    np.testing.assert_allclose(scores, [0.95, 0.9, 0.85])


def test_ties_go_by_index():
    proposals = boxes_of([0, 0, 10, 10], [0, 0, 10, 9.5], [50, 50, 60, 60])
    boxes, _, _ = refine(proposals, logits_of(*[[0.1, 0.9]] * 3), np.zeros((3, 2, 4)), WINDOW, MATTERPORT)
    np.testing.assert_array_equal(boxes, proposals[[0, 2]])


# --- refine against a loop ---


def naive_refine(proposals, logits, deltas, window, config):
    candidates = []  # (score, class, box)
    for r, proposal in enumerate(proposals.tolist()):
        exponentials = [math.exp(v) for v in logits[r]]
        scores = [e / sum(exponentials) for e in exponentials]
        best = max(range(len(scores)), key=lambda k: scores[k])
        for k in [best] if config.detection_classes == "argmax" else range(len(scores)):
            threshold = config.detection_score_threshold
            enough = scores[k] >= threshold if config.detection_score_inclusive else scores[k] > threshold
            if k == 0 or not enough:
                continue
            box = naive_boxes.decode(proposal, deltas[r, k], config.head_box_std, config.max_log_scale)
            box = naive_boxes.clip(box, window)
            smallest = min(box[2] - box[0], box[3] - box[1])
            if smallest > 0 and smallest >= config.detection_min_size:
                candidates.append((scores[k], k, box))
    kept = []
    for score, k, box in sorted(candidates, key=lambda c: -c[0]):
        apart = [k != other and config.detection_nms_per_class for _, other, _ in kept]
        if all(far or naive_boxes.iou(box, b) <= config.detection_nms_iou for far, (_, _, b) in zip(apart, kept)):
            kept.append((score, k, box))
    kept = kept[: config.detections_per_image]
    return np.array([b for _, _, b in kept]).reshape(-1, 4), [k for _, k, _ in kept], [s for s, _, _ in kept]


def test_one_object_under_two_names():
    """Per class both stay; else the better, whatever its class."""
    proposals = boxes_of([0, 0, 10, 10], [0, 0, 10, 9.5], [50, 50, 60, 60])
    logits = logits_of([0.1, 0.7, 0.2], [0.05, 0.05, 0.9], [0.1, 0.1, 0.8])
    config = DETECTRON2.replace(detection_score_threshold=0.5)
    _, class_ids, _ = refine(proposals, logits, np.zeros((3, 3, 4)), WINDOW, config)
    assert class_ids.tolist() == [2, 2, 1]
    config = config.replace(detection_nms_per_class=False)
    boxes, class_ids, scores = refine(proposals, logits, np.zeros((3, 3, 4)), WINDOW, config)
    assert class_ids.tolist() == [2, 2] and class_ids.dtype == np.int64
    np.testing.assert_array_equal(boxes, proposals[1:])
    np.testing.assert_allclose(scores, [0.9, 0.8])


@given(seeds, st.integers(0, 30), st.sampled_from(DIALECTS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_refine_equals_a_loop(seed, count, config, per_class):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-10, 90, (count, 2))
    proposals = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], axis=1)
    logits, deltas = 3 * rng.normal(size=(count, 4)), rng.normal(size=(count, 4, 4))
    config = config.replace(detections_per_image=10, detection_score_threshold=0.3, detection_nms_per_class=per_class)
    boxes, class_ids, scores = refine(proposals, logits, deltas, (5, 0, 80, 100), config)
    expected_boxes, expected_ids, expected_scores = naive_refine(proposals, logits, deltas, (5, 0, 80, 100), config)
    assert class_ids.tolist() == expected_ids
    np.testing.assert_allclose(boxes, expected_boxes, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-12)


@pytest.mark.parametrize("config", DIALECTS, ids=lambda c: c.name)
def test_refine_without_proposals(config):
    boxes, class_ids, scores = refine(np.zeros((0, 4)), np.zeros((0, 5)), np.zeros((0, 5, 4)), WINDOW, config)
    assert boxes.shape == (0, 4) and class_ids.shape == scores.shape == (0,) and class_ids.dtype == np.int64


@pytest.mark.parametrize("config", DIALECTS, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_refine_keeps_the_dtype_and_its_inputs(config, dtype):
    rng = np.random.default_rng(0)
    proposals = boxes_of([0, 0, 30, 30], [50, 50, 80, 90], dtype=dtype)
    logits, deltas = np.array([[0, 4, 0], [0, 0, 4]], dtype), rng.normal(size=(2, 3, 4)).astype(dtype)
    before = [a.copy() for a in (proposals, logits, deltas)]
    boxes, _, scores = refine(proposals, logits, deltas, WINDOW, config)
    assert len(boxes) >= 2 and boxes.dtype == scores.dtype == dtype
    for a, b in zip((proposals, logits, deltas), before):
        np.testing.assert_array_equal(a, b)


def test_refine_equals_torchvision():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    module = roi_heads.RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 20)
    order = [1, 0, 3, 2]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        corner = rng.uniform(0, 80, (40, 2))
        proposals = np.concatenate([corner, corner + rng.uniform(5, 40, (40, 2))], axis=1)
        logits, deltas = 2 * rng.normal(size=(40, 6)), rng.normal(size=(40, 6, 4))
        theirs = module.postprocess_detections(
            torch.from_numpy(logits), torch.from_numpy(deltas[..., order].reshape(40, 24)),
            [torch.from_numpy(proposals[:, order])], [(100, 100)],
        )  # fmt: skip
        config = TORCHVISION.replace(detections_per_image=20)
        boxes, class_ids, scores = refine(proposals, logits, deltas, WINDOW, config)
        np.testing.assert_allclose(boxes[:, order], theirs[0][0].numpy(), atol=1e-11)
        np.testing.assert_allclose(scores, theirs[1][0].numpy(), rtol=1e-12)
        assert class_ids.tolist() == theirs[2][0].tolist()


# --- pasting masks, by hand ---


def paste_one(mask, box, shape, config, dtype=np.float64):
    return paste_masks(np.asarray(mask, dtype)[None], boxes_of(box, dtype=dtype), shape, config)[0]


def extent(mask):
    """First and last row, first and last column, number of pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1], columns[0], columns[-1], mask.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_all_ones_mask(dtype):
    # xyxy [10, 20, 38, 48]: 28 x 28 pixels; torchvision paints 29 x 29 (pytorch/vision#5845)
    full, box = np.ones((28, 28)), [20, 10, 48, 38]
    for config in (MATTERPORT, DETECTRON2):
        assert extent(paste_one(full, box, (60, 60), config, dtype)) == (20, 47, 10, 37, 28 * 28)
    assert extent(paste_one(full, box, (60, 60), TORCHVISION, dtype)) == (20, 48, 10, 38, 29 * 29)


def test_a_mask_of_the_boxs_size_is_copied():
    mask = np.random.default_rng(0).random((9, 9))
    for config in (MATTERPORT, DETECTRON2):
        pasted = paste_one(mask, [3, 5, 12, 14], (20, 20), config)
        np.testing.assert_array_equal(pasted[3:12, 5:14], mask >= 0.5)
        assert pasted.sum() == (mask >= 0.5).sum()


def test_fractional_boxes():
    full = np.ones((7, 7))
    # Pixels whose centre lies in [2.4, 6.6) x [3.6, 8.4)
    assert extent(paste_one(full, [2.4, 3.6, 6.6, 8.4], (20, 20), DETECTRON2)) == (2, 6, 4, 7, 5 * 4)
    # Corners rounded: [2, 7) x [4, 8)
    assert extent(paste_one(full, [2.4, 3.6, 6.6, 8.4], (20, 20), MATTERPORT)) == (2, 6, 4, 7, 5 * 4)
    # Halves go to even: 2.5 -> 2, 3.5 -> 4
    assert extent(paste_one(full, [2.5, 3.5, 6.5, 9.5], (20, 20), MATTERPORT)) == (2, 5, 4, 9, 4 * 6)


def test_masks_are_cut_at_the_border_of_the_image():
    full = np.ones((14, 14))
    for config in METHODS.values():
        pasted = paste_one(full, [-5, -5, 100, 100], (30, 20), config)
        assert pasted.shape == (30, 20) and pasted.all()
        pasted = paste_one(full, [25, 10, 60, 15], (30, 20), config)
        assert extent(pasted)[:2] == (25, 29)
        for outside in ([40, 0, 60, 10], [-40, 0, -20, 10], [0, 30, 10, 50], [0, -30, 10, -20]):
            assert not paste_one(full, outside, (30, 20), config).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (5000, 50), (50, 5000), (3, 1)])
def test_images_of_any_shape(method, shape):
    pasted = paste_one(np.ones((28, 28)), [0, 0, *shape], shape, METHODS[method])
    assert pasted.shape == shape and pasted.dtype == bool
    # torchvision's ring of zeros and detectron2's zeros outside round off corners and the rim of a strip
    assert pasted.all() if method == "resize" or shape == (1, 1) else pasted.mean() > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_boxes_without_area_paint_nothing(method):
    for box in ([5, 5, 5, 9], [5, 5, 9, 5], [5, 5, 5, 5]):
        pasted = paste_one(np.ones((28, 28)), box, (20, 20), METHODS[method])
        # torchvision's extra pixel makes a line of it
        assert pasted.any() == (method == "plus_one")


@pytest.mark.parametrize("method", METHODS)
def test_no_masks(method):
    assert paste_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), (7, 9), METHODS[method]).shape == (0, 7, 9)


@pytest.mark.parametrize("method", METHODS)
def test_pasting_keeps_its_inputs_and_the_threshold(method):
    config = METHODS[method]
    masks, boxes = np.full((2, 28, 28), 0.4), boxes_of([0, 0, 30, 30], [5, 5, 20, 20])
    before = masks.copy(), boxes.copy()
    assert not paste_masks(masks, boxes, (40, 40), config).any()
    assert paste_masks(masks, boxes, (40, 40), config.replace(mask_threshold=0.3)).any()
    np.testing.assert_array_equal(masks, before[0])
    np.testing.assert_array_equal(boxes, before[1])


# --- pasting masks, pixel by pixel ---


def cell(mask, i, j, outside):
    """One cell; beyond the mask either 0 or the nearest cell."""
    m = len(mask)
    if outside == "zero":
        return mask[i][j] if 0 <= i < m and 0 <= j < m else 0.0
    return mask[min(max(i, 0), m - 1)][min(max(j, 0), m - 1)]


def between_cells(mask, t, u, outside):
    """Bilinear value at mask coordinate (t, u); the centre of cell i is i."""
    value = 0.0
    for i in (math.floor(t), math.floor(t) + 1):
        for j in (math.floor(u), math.floor(u) + 1):
            value += (1 - abs(t - i)) * (1 - abs(u - j)) * cell(mask, i, j, outside)
    return value


def naive_paste(mask, box, shape, method):
    """Soft values of every pixel; NaN where nothing is painted."""
    mask, (y1, x1, y2, x2) = mask.tolist(), box.tolist()
    m = len(mask)
    values = np.full(shape, np.nan)
    if method == "plus_one":  # one ring of zeros around the mask; the box grows by the same share
        mask = [[0.0] * (m + 2), *([0.0, *row, 0.0] for row in mask), [0.0] * (m + 2)]
        grown = []
        for a, b in ((y1, y2), (x1, x2)):
            half = (b - a) / 2 * (m + 2) / m
            first, last = int((a + b) / 2 - half), int((a + b) / 2 + half)  # towards zero
            grown.append((first, max(last - first + 1, 1)))
        (top, height), (left, width) = grown
    elif method.startswith("resize"):
        top, left = round(y1), round(x1)
        height, width = round(y2) - top, round(x2) - left
    else:
        top, left, height, width = y1, x1, y2 - y1, x2 - x1
    if height <= 0 or width <= 0:
        return values
    for i in range(shape[0]):
        for j in range(shape[1]):
            inside = top <= i < top + height and left <= j < left + width
            if method == "grid_sample" or inside:
                t, u = ((i + 0.5 - top) / height * len(mask) - 0.5), ((j + 0.5 - left) / width * len(mask) - 0.5)
                values[i, j] = between_cells(mask, t, u, "zero" if method in ("grid_sample", "resize_zero") else "edge")
    return np.maximum(values, np.min(mask)) if method == "resize_zero" else values


def random_case(seed, size=40):
    """A mask, a box that may leave the image, and an image."""
    rng = np.random.default_rng(seed)
    m, shape = int(rng.choice([3, 7, 28])), tuple(rng.integers(1, size, 2).tolist())
    corner = rng.uniform(-8, size, 2)
    box = np.concatenate([corner, corner + rng.uniform(0, size, 2)])
    return rng.random((m, m)), np.round(box) if seed % 3 == 0 else box, shape


def assert_same_mask(pasted, values, threshold, slack):
    """Equal except where the soft value is so close to the threshold that round-off decides."""
    undecided = abs(values - threshold) <= slack
    assert undecided.sum() <= 0.02 * values.size + 1
    np.testing.assert_array_equal(pasted[~undecided], (np.nan_to_num(values, nan=-1) >= threshold)[~undecided])


@pytest.mark.parametrize("method", METHODS)
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_pasting_equals_a_loop(method, seed):
    mask, box, shape = random_case(seed)
    values = naive_paste(mask, box, shape, method)
    assert_same_mask(paste_one(mask, box, shape, METHODS[method]), values, 0.5, 1e-12)


def test_grid_sample_reaches_half_a_cell_beyond_the_box():
    """With a threshold below one half, pixels just outside the box belong to the object, as in detectron2 on a CPU."""
    config = DETECTRON2.replace(mask_threshold=0.3)
    full, box = np.ones((4, 4)), [10, 10, 30, 30]  # a cell is 5 pixels
    # Pixel 9: t = (9.5 - 10) / 20 * 4 - .5 = -.6, weight .4. Pixel 8 would have .2
    assert extent(paste_one(full, box, (40, 40), config)) == (9, 30, 9, 30, 22 * 22 - 4 * 3)  # corners .4 (.4, .6)
    assert extent(paste_one(full, box, (40, 40), DETECTRON2)) == (10, 29, 10, 29, 20 * 20 - 4 * 3)  # .6 (.6, .8)


# --- frameworks ---


def test_plus_one_equals_torchvision():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    for seed in range(150):
        mask, box, shape = random_case(seed)
        mask, box = mask.astype(np.float32), np.clip(box, 0, np.array([*shape, *shape])).astype(np.float32)
        values = roi_heads.paste_masks_in_image(
            torch.from_numpy(mask[None, None]), torch.from_numpy(box[None, [1, 0, 3, 2]]), shape
        )[0, 0].numpy()
        # Coordinates of mask cells up to 30 in float32: 2e-6, times differences of cells up to 1
        assert_same_mask(paste_one(mask, box, shape, TORCHVISION, np.float32), values, 0.5, 4e-6)


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_grid_sample_equals_detectron2s(threshold):
    torch = pytest.importorskip("torch")
    config = DETECTRON2.replace(mask_threshold=threshold)
    for seed in range(150):
        mask, box, shape = random_case(seed)
        mask, box = mask.astype(np.float32), np.clip(box, 0, np.array([*shape, *shape])).astype(np.float32)
        y1, x1, y2, x2 = box
        if y2 <= y1 or x2 <= x1:
            continue
        y, x = (torch.arange(n, dtype=torch.float32) + 0.5 for n in shape)
        y, x = (y - y1) / (y2 - y1) * 2 - 1, (x - x1) / (x2 - x1) * 2 - 1
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
        values = torch.nn.functional.grid_sample(torch.from_numpy(mask[None, None]), grid[None], align_corners=False)
        values = values[0, 0].numpy()
        # On a CPU detectron2 samples from one pixel before the box to one after it, and leaves the rest empty
        rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
        near = (rows >= np.floor(y1) - 1) & (rows < np.ceil(y2) + 1)
        near = near & (columns >= np.floor(x1) - 1) & (columns < np.ceil(x2) + 1)
        values = np.where(near, values, 0)
        # Coordinates of mask cells up to 28 in float32: 2e-6, times differences of cells up to 1
        assert_same_mask(paste_one(mask, box, shape, config, np.float32), values, threshold, 1e-5)
