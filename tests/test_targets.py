import math

import naive_boxes
import naive_roi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import boxes_of, fill, strips

import kernels
from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.boxes import iou
from mrcnn_np.config import presets
from mrcnn_np.molding import minimise_masks
from mrcnn_np.targets import mask_targets, match_anchors, negative_count, roi_targets, rpn_targets, subsample

# Measured between edges and without padding, so that the examples are round numbers; see conventions/test_frame.py
MATTERPORT = presets.matterport(box_frame="edges", rois_padded=False, mini_mask_shape=None)
TORCHVISION, DETECTRON2 = presets.torchvision(), presets.detectron2()
DIALECTS = [MATTERPORT, TORCHVISION, DETECTRON2, presets.tiny()]
seeds = st.integers(0, 2**32 - 1)


def flags(*values):
    return np.array(values, bool)


def random_boxes(rng, count, extent=100, largest=40, dtype=np.float64):
    corner = rng.uniform(0, extent, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, largest, (count, 2))], axis=1).astype(dtype)


# --- matching anchors, by hand ---

OBJECT = [0, 0, 10, 10]


def test_thresholds_by_hand():
    anchors = strips(10, 7, 6.9, 3, 2.9)
    labels, matched = match_anchors(anchors, boxes_of(OBJECT), flags(False), TORCHVISION)
    # >= .7 positive, < .3 negative; equality counts upwards
    assert labels.tolist() == [1, 1, 0, 0, -1] and labels.dtype == np.int8
    assert matched.tolist() == [0] * 5 and matched.dtype == np.int64


def test_the_best_anchor_of_an_object_is_positive_however_bad():
    anchors = boxes_of([0, 0, 10, 2], [0, 0, 10, 1], [50, 50, 60, 60])
    labels, _ = match_anchors(anchors, boxes_of(OBJECT), flags(False), TORCHVISION)
    assert labels.tolist() == [1, -1, -1]
    thresholds_only = TORCHVISION.replace(rpn_match_best=False)
    labels, _ = match_anchors(anchors, boxes_of(OBJECT), flags(False), thresholds_only)
    assert labels.tolist() == [-1, -1, -1]


def test_the_best_anchor_learns_the_object_it_overlaps_most():
    # Anchor 0 is the best of both objects and matches the first, with which its IoU is 0.6, not 0.2
    anchors = boxes_of([0, 0, 10, 10], [90, 90, 99, 99])
    objects = boxes_of([0, 0, 10, 6], [0, 0, 2, 10])
    labels, matched = match_anchors(anchors, objects, flags(False, False), TORCHVISION)
    assert labels.tolist() == [1, -1] and matched[0] == 0


def test_matched_indices_count_crowds():
    anchors = boxes_of([0, 0, 10, 10], [20, 20, 30, 30])
    objects = boxes_of([80, 80, 90, 90], [20, 20, 30, 30], [0, 0, 10, 10])
    labels, matched = match_anchors(anchors, objects, flags(True, False, False), TORCHVISION)
    assert labels.tolist() == [1, 1] and matched.tolist() == [2, 1]


def test_an_object_that_no_anchor_touches_makes_nothing_positive():
    # "overlap == best overlap" alone would make all anchors positive, because all are 0
    anchors = boxes_of([0, 0, 10, 10], [20, 20, 30, 30])
    labels, _ = match_anchors(anchors, boxes_of([70, 70, 80, 80]), flags(False), TORCHVISION)
    assert labels.tolist() == [-1, -1]
    objects = boxes_of([70, 70, 80, 80], [0, 0, 10, 10])
    labels, _ = match_anchors(anchors, objects, flags(False, False), TORCHVISION)
    assert labels.tolist() == [1, -1]


@pytest.mark.parametrize("side", [1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tiny_object_has_few_best_anchors(side, dtype):
    # 0.001 pixels in an anchor of 512: IoU 4e-12. A tolerance that is not relative would take every anchor.
    anchors = boxes_of([0, 0, 512, 512], [0, 0, 256, 256], [600, 600, 900, 900], dtype=dtype)
    labels, _ = match_anchors(anchors, boxes_of([3, 3, 3 + side, 3 + side], dtype=dtype), flags(False), TORCHVISION)
    assert labels.tolist() == [-1, 1, -1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_share_the_object(dtype):
    """Anchors that contain a small object overlap it equally on paper; with "tolerance" the dtype decides nothing."""
    (anchors,) = pyramid_anchors((256, 256), sizes=(64,), strides=(16,), aspect_ratios=(0.5,), dtype=dtype)
    box = np.array([[100, 100, 110, 110]], dtype)
    inside = ((anchors[:, :2] <= box[:, :2]) & (anchors[:, 2:] >= box[:, 2:])).all(axis=1)
    overlaps = iou(anchors, box)[:, 0]
    assert inside.sum() == 10 and len(np.unique(overlaps[inside])) == 2  # half of them miss by one bit
    labels, _ = match_anchors(anchors, box, flags(False), TORCHVISION.replace(rpn_best_ties="tolerance"))
    np.testing.assert_array_equal(labels == 1, inside)
    labels, _ = match_anchors(anchors, box, flags(False), TORCHVISION)
    np.testing.assert_array_equal(labels == 1, overlaps == overlaps.max())
    assert 0 < (labels == 1).sum() < 10


def anchors_and_objects(config, seed=0, count=50):
    """The anchors of an 800 x 1088 image, and objects of 8 to 400 pixels in it."""
    shape, rng = np.array([800, 1088]), np.random.default_rng(seed)
    anchors = pyramid_anchors(
        tuple(shape), sizes=config.anchor_sizes, strides=config.anchor_strides, aspect_ratios=config.anchor_ratios,
        ratio_meaning=config.anchor_ratio_meaning, rounding=config.anchor_rounding, offset=config.anchor_offset,
        stride_from_grid=config.anchor_stride_from_grid,
    )  # fmt: skip
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (shape - sides)
    return np.concatenate(anchors), np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("preset", ["matterport", "torchvision", "torchvision_v2", "detectron2"])
@pytest.mark.parametrize("seed", range(3))
def test_each_preset_shares_the_best_anchor_as_its_framework_does(preset, backend, seed):
    """All three take the anchors whose IoU has the bits of the largest; torchvision's Matcher is detectron2's, too."""
    torch = pytest.importorskip("torch")
    matcher = pytest.importorskip("torchvision").models.detection._utils.Matcher
    box_iou = pytest.importorskip("torchvision").ops.box_iou
    config = presets.by_name(preset)
    assert config.rpn_best_ties == "bit_equal"
    anchors, objects = anchors_and_objects(config, seed)
    with kernels.use(backend):
        labels, matched = match_anchors(anchors, objects, np.zeros(len(objects), bool), config)
        shared, _ = match_anchors(
            anchors, objects, np.zeros(len(objects), bool), config.replace(rpn_best_ties="tolerance")
        )
    match = matcher(0.7, 0.3, allow_low_quality_matches=True)
    theirs = match(box_iou(*(torch.from_numpy(b[:, [1, 0, 3, 2]]) for b in (objects, anchors)))).numpy()
    np.testing.assert_array_equal(labels, np.select([theirs >= 0, theirs == -1], [1, -1], 0))
    np.testing.assert_array_equal(matched[labels == 1], theirs[theirs >= 0])
    # Whole half-sides leave nothing to rounding; detectron2 and matterport leave some of the equals out
    assert ((shared == 1) >= (labels == 1)).all()
    gained = (shared == 1).sum() / (labels == 1).sum()
    assert gained == 1 if config.anchor_rounding else gained > 1.1, gained


def test_the_small_presets_decide_ties_on_paper():
    for preset in ("tiny", "small"):
        assert presets.by_name(preset).rpn_best_ties == "tolerance"


def test_crowd_rule():
    anchors = boxes_of(OBJECT, [20, 20, 30, 30], [50, 50, 60, 60])
    objects = boxes_of(OBJECT, [22, 22, 40, 40])
    crowd = flags(False, True)
    # matterport: an anchor that touches the crowd is neutral; without the rule the crowd is as if it were not there
    assert match_anchors(anchors, objects, crowd, MATTERPORT)[0].tolist() == [1, 0, -1]
    assert match_anchors(anchors, objects, crowd, TORCHVISION)[0].tolist() == [1, -1, -1]
    # A crowd region is no object, even where it fits perfectly, and takes no positive away
    objects = boxes_of(OBJECT, OBJECT)
    assert match_anchors(anchors, objects, crowd, MATTERPORT)[0].tolist() == [1, -1, -1]
    assert match_anchors(anchors, objects[:1], flags(True), MATTERPORT)[0].tolist() == [0, -1, -1]
    assert match_anchors(anchors, objects[:1], flags(True), TORCHVISION)[0].tolist() == [-1, -1, -1]


def test_crowd_threshold():
    # 100 x 100 anchor: a crowd of 3 x 3 has IoU .0009, one of 3.5 x 3 has .00105
    anchors = boxes_of([0, 0, 100, 100])
    for side, label in ((3, -1), (3.5, 0)):
        assert match_anchors(anchors, boxes_of([0, 0, side, 3]), flags(True), MATTERPORT)[0].tolist() == [label]


def test_matching_without_objects_or_anchors():
    anchors, none = boxes_of(OBJECT, OBJECT), boxes_of()
    for config in DIALECTS:
        labels, matched = match_anchors(anchors, none, flags(), config)
        assert labels.tolist() == [-1, -1] and matched.tolist() == [0, 0]
    labels, matched = match_anchors(none, none, flags(), TORCHVISION)
    assert labels.shape == matched.shape == (0,)


# --- matching against a loop and torchvision ---


@given(seeds, st.integers(1, 5), st.sampled_from(DIALECTS))
@settings(max_examples=40, deadline=None)
def test_matching_equals_a_loop(seed, count, config):
    rng = np.random.default_rng(seed)
    anchors, objects = random_boxes(rng, 30), random_boxes(rng, count)
    crowd = rng.random(count) < 0.3
    labels, matched = match_anchors(anchors, objects, crowd, config)
    ious = (config.rpn_negative_iou, config.rpn_positive_iou, config.crowd_iou)
    assert labels.tolist() == naive_boxes.match(anchors.tolist(), objects.tolist(), crowd, *ious)
    for a in np.flatnonzero(labels == 1):
        best = max(naive_boxes.iou(anchors[a], o) for o, c in zip(objects, crowd) if not c)
        assert not crowd[matched[a]] and naive_boxes.iou(anchors[a], objects[matched[a]]) == pytest.approx(best)


def test_matching_equals_torchvision():
    torch = pytest.importorskip("torch")
    rpn = pytest.importorskip("torchvision.models.detection.rpn")
    module = rpn.RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, {}, {}, 0.7)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        anchors, objects = random_boxes(rng, 200), random_boxes(rng, 4)
        objects[0] = anchors[3] + 1.0  # one close to an anchor, so that IoU >= .7 occurs
        labels, matched = match_anchors(anchors, objects, np.zeros(4, bool), TORCHVISION)
        theirs, boxes = module.assign_targets_to_anchors(
            [torch.from_numpy(anchors)], [{"boxes": torch.from_numpy(objects)}]
        )
        expected = np.array([-1, 1, 0])[theirs[0].numpy().astype(int)]  # theirs: 0 negative, 1 positive, -1 ignored
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(objects[matched[labels == 1]], boxes[0].numpy()[labels == 1])


# --- subsampling ---


def test_subsample_by_hand():
    labels = np.array([1] * 300 + [-1] * 1000 + [0] * 50, np.int8)
    sampled = subsample(labels, 256, 0.5, np.random.default_rng(0))
    assert ((sampled == 1).sum(), (sampled == -1).sum()) == (128, 128)
    assert sampled.dtype == np.int8
    # Few positives: negatives fill
    sampled = subsample(labels[290:], 256, 0.5, np.random.default_rng(0))
    assert ((sampled == 1).sum(), (sampled == -1).sum()) == (10, 246)
    # Few negatives: positives do not fill
    sampled = subsample(labels[:310], 256, 0.5, np.random.default_rng(0))
    assert ((sampled == 1).sum(), (sampled == -1).sum()) == (128, 10)
    assert subsample(np.zeros(0, np.int8), 256, 0.5, np.random.default_rng(0)).shape == (0,)


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=60), st.integers(1, 40), st.floats(0, 1), seeds)
@settings(max_examples=60, deadline=None)
def test_subsample_keeps_signs_and_counts(labels, count, fraction, seed):
    labels = np.array(labels, np.int8)
    before = labels.copy()
    sampled = subsample(labels, count, fraction, np.random.default_rng(seed))
    np.testing.assert_array_equal(labels, before)
    assert ((sampled == labels) | (sampled == 0)).all()
    positives = min((labels == 1).sum(), int(count * fraction))
    assert (sampled == 1).sum() == positives
    assert (sampled == -1).sum() == min((labels == -1).sum(), count - positives)
    again = subsample(labels, count, fraction, np.random.default_rng(seed))
    np.testing.assert_array_equal(sampled, again)


def test_subsample_takes_every_anchor_equally_often():
    labels, hits = np.ones(8, np.int8), np.zeros(8)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        hits += subsample(labels, 4, 0.5, rng) == 1
    # 2 of 8, 2000 times: 500 each, with a deviation of 19
    assert (abs(hits - 500) < 80).all()


# --- RPN targets ---


def test_rpn_deltas_by_hand():
    anchors = boxes_of([0, 0, 10, 20], [50, 50, 60, 60])
    objects = boxes_of([1, 2, 11, 22])  # IoU .66: positive as the best
    for config, scale in ((TORCHVISION, 1), (MATTERPORT, 10)):
        labels, deltas = rpn_targets(anchors, objects, flags(False), config, np.random.default_rng(0))
        assert labels.tolist() == [1, -1]
        np.testing.assert_allclose(deltas, [[0.1 * scale, 0.1 * scale, 0, 0], [0, 0, 0, 0]], atol=1e-15)


@given(seeds, st.sampled_from(DIALECTS))
@settings(max_examples=25, deadline=None)
def test_rpn_deltas_lead_to_the_object(seed, config):
    rng = np.random.default_rng(seed)
    anchors, objects = random_boxes(rng, 60), random_boxes(rng, 3)
    labels, deltas = rpn_targets(anchors, objects, np.zeros(3, bool), config, rng)
    assert (deltas[labels != 1] == 0).all()
    for a in np.flatnonzero(labels == 1):
        box = naive_boxes.decode(anchors[a], deltas[a], config.rpn_box_std)
        assert min(abs(np.array(box) - o).max() for o in objects) < 1e-9


def test_rpn_targets_dtype_empty_and_seed():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        anchors, objects = random_boxes(rng, 500, dtype=dtype), random_boxes(rng, 3, dtype=dtype)
        labels, deltas = rpn_targets(anchors, objects, np.zeros(3, bool), TORCHVISION, np.random.default_rng(5))
        assert deltas.dtype == dtype and (labels != 0).sum() == 256
        again = rpn_targets(anchors, objects, np.zeros(3, bool), TORCHVISION, np.random.default_rng(5))
        np.testing.assert_array_equal(labels, again[0])
        other = rpn_targets(anchors, objects, np.zeros(3, bool), TORCHVISION, np.random.default_rng(6))
        assert (labels != other[0]).any()
    labels, deltas = rpn_targets(anchors, boxes_of(), flags(), TORCHVISION, rng)
    assert (labels == -1).sum() == 256 and not (labels == 1).any() and not deltas.any()


# --- RoI targets ---


def targets_of(proposals, objects, config, crowd=None, seed=0, masks=None):
    crowd = np.zeros(len(objects), bool) if crowd is None else crowd
    class_ids = np.arange(1, len(objects) + 1)
    masks = fill(objects, (100, 100)) if masks is None else masks
    return roi_targets(proposals, objects, class_ids, masks, crowd, config, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "positives, negatives", [(66, 134), (50, 101), (33, 67), (10, 20), (1, 2), (0, 0)]
)  # fmt: skip
def test_negative_count_by_ratio(positives, negatives):
    assert negative_count(positives, MATTERPORT) == negatives


def test_negative_count_is_tensorflows_in_float32():
    # r = 1 / .33; negatives = int(r * positives) - positives, in float32
    r = np.float32(1 / 0.33)
    for positives in range(67):
        assert negative_count(positives, MATTERPORT) == int(r * np.float32(positives)) - positives


def test_negative_count_fills():
    assert [negative_count(p, TORCHVISION) for p in (0, 10, 128)] == [512, 502, 384]


def test_roi_labels_by_hand():
    # IoU 1, .5 (positive: >=), .49, 0
    proposals = boxes_of([0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [50, 50, 60, 60])
    t = targets_of(proposals, boxes_of(OBJECT), MATTERPORT.replace(roi_negatives="fill"))
    np.testing.assert_array_equal(t.rois, proposals)
    assert t.class_ids.tolist() == [1, 1, 0, 0] and t.class_ids.dtype == np.int64
    # dx = (5 - 2.5) / 5 / .1, dlog_w = ln 2 / .2
    expected = [[0] * 4, [0, 5, 0, math.log(2) / 0.2], [0] * 4, [0] * 4]
    np.testing.assert_allclose(t.deltas, expected, atol=1e-12)
    assert t.masks.shape == (2, 28, 28) and (t.masks == 1).all()


def test_ground_truth_joins():
    proposals, objects = boxes_of([50, 50, 60, 60]), boxes_of(OBJECT)
    joined = targets_of(proposals, objects, TORCHVISION)
    assert joined.rois.tolist() == [OBJECT, [50, 50, 60, 60]] and joined.class_ids.tolist() == [1, 0]
    assert not joined.deltas.any()
    # Without it, and with the ratio kept, an image without a good proposal teaches the heads nothing
    alone = targets_of(proposals, objects, MATTERPORT)
    assert alone.rois.shape == (0, 4) and alone.masks.shape == (0, 28, 28)


def test_crowds_do_not_join_and_keep_negatives_away():
    proposals = boxes_of([0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 70, 70])
    objects = boxes_of([0, 0, 10, 10], [22, 22, 40, 40])
    t = targets_of(proposals, objects, TORCHVISION, crowd=flags(False, True))
    assert t.rois.tolist() == [[0, 0, 10, 10], *proposals.tolist()]
    assert t.class_ids.tolist() == [1, 1, 0, 0]
    t = targets_of(proposals, objects, MATTERPORT, crowd=flags(False, True))
    assert t.rois.tolist() == proposals[[0, 2]].tolist()  # the second touches the crowd
    assert t.class_ids.tolist() == [1, 0]
    t = targets_of(proposals, objects, TORCHVISION, crowd=flags(True, True))
    assert t.class_ids.tolist() == [0, 0, 0] and t.masks.shape == (0, 28, 28)


def test_shares_of_positives():
    rng = np.random.default_rng(0)
    good = boxes_of(OBJECT) + rng.uniform(0, 0.5, (600, 4))
    bad = random_boxes(rng, 900) + 20
    proposals = np.concatenate([good, bad])
    objects = boxes_of(OBJECT)
    t = targets_of(proposals, objects, MATTERPORT)
    assert ((t.class_ids > 0).sum(), (t.class_ids == 0).sum()) == (66, 134)
    t = targets_of(proposals, objects, TORCHVISION)
    assert ((t.class_ids > 0).sum(), (t.class_ids == 0).sum()) == (128, 384)
    assert (np.diff(t.class_ids) <= 0).all()  # positives first


@given(seeds, st.integers(0, 4), st.integers(0, 40), st.sampled_from(DIALECTS))
@settings(max_examples=40, deadline=None)
def test_roi_targets_against_a_loop(seed, count, proposal_count, config):
    rng = np.random.default_rng(seed)
    objects = np.floor(random_boxes(rng, count, 60, 38)) + np.array([0, 0, 1, 1])
    proposals = random_boxes(rng, proposal_count, 60, 38)
    crowd = rng.random(count) < 0.25
    if config.name == "matterport":
        config = config.replace(rois_per_image=12)
    t = targets_of(proposals, objects, config, crowd, seed)
    pool = [*(o.tolist() for o, c in zip(objects, crowd) if not c and config.gt_joins_proposals), *proposals.tolist()]
    positive = negative = 0
    for roi in pool:
        best = max([naive_boxes.iou(roi, o) for o, c in zip(objects, crowd) if not c], default=0.0)
        near = config.crowd_iou is not None and any(
            c and naive_boxes.iou(roi, o) >= config.crowd_iou for o, c in zip(objects, crowd)
        )
        positive += best >= 0.5
        negative += best < 0.5 and not near
    positive = min(positive, int(config.rois_per_image * config.roi_positive_fraction))
    wanted = config.rois_per_image - positive
    if config.roi_negatives == "ratio":
        wanted = int(positive / config.roi_positive_fraction) - positive
    assert ((t.class_ids > 0).sum(), (t.class_ids == 0).sum()) == (positive, min(negative, wanted))
    for roi, class_id, delta in zip(t.rois, t.class_ids, t.deltas):
        assert roi.tolist() in pool
        if class_id:
            o = objects[class_id - 1]
            assert not crowd[class_id - 1] and naive_boxes.iou(roi, o) >= 0.5
            h, w = roi[2] - roi[0], roi[3] - roi[1]
            dy, dx = (o[0] + o[2] - roi[0] - roi[2]) / 2 / h, (o[1] + o[3] - roi[1] - roi[3]) / 2 / w
            expected = [dy, dx, math.log((o[2] - o[0]) / h), math.log((o[3] - o[1]) / w)]
            np.testing.assert_allclose(delta * config.head_box_std, expected, atol=1e-12)
        else:
            assert not delta.any()
    assert t.masks.shape == (positive, 2 * config.mask_pool_size, 2 * config.mask_pool_size)
    assert ((t.masks >= 0) & (t.masks <= 1)).all()


@pytest.mark.parametrize("config", DIALECTS, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roi_targets_dtype_and_seed(config, dtype):
    rng = np.random.default_rng(0)
    objects = boxes_of([0, 0, 30, 30], [40, 40, 80, 80], dtype=dtype)
    proposals = np.concatenate([objects.repeat(300, 0) + rng.uniform(-2, 2, (600, 4)), random_boxes(rng, 900)])
    proposals = proposals.astype(dtype)
    a, b, c = (targets_of(proposals, objects, config, seed=s) for s in (1, 1, 2))
    assert a.rois.dtype == a.deltas.dtype == a.masks.dtype == dtype
    for name in ("rois", "class_ids", "deltas", "masks"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.rois != c.rois).any()


def test_roi_targets_without_anything():
    for config in DIALECTS:
        t = targets_of(boxes_of(), boxes_of(), config)
        assert t.rois.shape == (0, 4) and t.class_ids.shape == (0,) and t.masks.shape[0] == 0
        only_objects = targets_of(boxes_of(), boxes_of(OBJECT), config)
        assert len(only_objects.rois) == config.gt_joins_proposals
        only_proposals = targets_of(boxes_of(OBJECT, OBJECT), boxes_of(), config)
        assert only_proposals.class_ids.tolist() == ([] if config.roi_negatives == "ratio" else [0, 0])


# --- mask targets ---


def test_mask_target_of_the_object_itself_is_its_mask():
    mask = np.zeros((1, 60, 60), bool)
    mask[0, 5:33, 7:35] = np.random.default_rng(0).random((28, 28)) < 0.5
    box = boxes_of([5, 7, 33, 35])
    # 28 x 28 pixels in 28 x 28 cells: one sample per cell, on the pixel's centre
    soft = DETECTRON2.replace(mask_target_rounded=False)
    for config in (soft, DETECTRON2, MATTERPORT):
        np.testing.assert_array_equal(mask_targets(box, np.array([0]), box, mask, config)[0], mask[0, 5:33, 7:35])
    # Without the half-pixel correction every cell mixes four pixels
    shifted = mask_targets(box, np.array([0]), box, mask, TORCHVISION)[0]
    assert set(np.unique(shifted)) == {0, 0.25, 0.5, 0.75, 1}
    expected = (mask[0, 5:33, 7:35] + 0.0 + mask[0, 6:34, 7:35] + mask[0, 5:33, 8:36] + mask[0, 6:34, 8:36]) / 4
    np.testing.assert_array_equal(shifted, expected)


def test_one_half_is_rounded_up_by_detectron2():
    # Cells of 2 x 2 pixels of which exactly two are set
    mask = np.zeros((1, 56, 56), bool)
    mask[0, ::2] = True
    box = boxes_of([0, 0, 56, 56])
    soft = mask_targets(box, np.array([0]), box, mask, DETECTRON2.replace(mask_target_rounded=False))
    np.testing.assert_array_equal(soft, 0.5)
    np.testing.assert_array_equal(mask_targets(box, np.array([0]), box, mask, DETECTRON2), 1)


def test_one_half_is_rounded_down_by_tensorflow():
    # 55 pixels between the centres of the first and the last, 27 steps: half of the samples fall between two columns
    mask = np.zeros((1, 55, 55), bool)
    mask[0, :, ::2] = True
    roi = boxes_of([0, 0.5, 55, 54.5])  # columns .5, 2.46, ..: the first halfway between a set and an empty column
    soft = mask_targets(roi, np.array([0]), roi, mask, MATTERPORT.replace(mask_target_rounded=False))
    rounded = mask_targets(roi, np.array([0]), roi, mask, MATTERPORT)
    np.testing.assert_array_equal(soft[0, :, 0], 0.5)
    np.testing.assert_array_equal(rounded[0, :, 0], 0)
    np.testing.assert_array_equal(rounded, soft > 0.5)


def test_each_roi_reads_its_own_object():
    masks = np.zeros((3, 40, 40), bool)
    masks[1] = True
    rois = boxes_of([0, 0, 20, 20], [0, 0, 20, 20], [10, 10, 30, 30], [5, 5, 9, 9])
    for config in DIALECTS:
        t = mask_targets(rois, np.array([2, 1, 1, 0]), boxes_of(*[[0, 0, 40, 40]] * 3), masks, config)
        np.testing.assert_allclose(t, np.broadcast_to([[[0]], [[1]], [[1]], [[0]]], t.shape), atol=1e-12)
        assert t.max() <= 1  # weights that add up to 1 + 1e-16 must not reach the cross entropy


@pytest.mark.parametrize("config", [TORCHVISION, DETECTRON2.replace(mask_target_rounded=False)], ids=lambda c: c.name)
def test_roi_align_targets_equal_a_loop(config):
    rng = np.random.default_rng(1)
    config = config.replace(mask_pool_size=3)
    masks, rois = rng.random((2, 25, 30)) < 0.5, random_boxes(rng, 4, 20, 15)
    owner = np.array([1, 0, 1, 1])
    expected = naive_roi.roi_align(
        masks[..., None].astype(float), rois, owner, (6, 6), 1.0, 0, config.roi_aligned, "mean"
    )
    actual = mask_targets(rois, owner, rois, masks, config)
    np.testing.assert_allclose(actual, np.asarray(expected)[..., 0], atol=1e-12)


def test_crop_and_resize_targets_equal_a_loop():
    rng = np.random.default_rng(1)
    config = MATTERPORT.replace(mask_pool_size=3, mask_target_rounded=False)
    masks, rois = rng.random((2, 25, 30)) < 0.5, random_boxes(rng, 4, 20, 15)
    owner = np.array([1, 0, 1, 1])
    actual = mask_targets(rois, owner, rois, masks, config)
    for roi, g, target in zip(rois, owner, actual):
        for i in range(6):
            for j in range(6):
                # From the first to the last pixel of the half-open box in six equal steps; outside the mask is 0
                y = roi[0] + i * (roi[2] - 1 - roi[0]) / 5
                x = roi[1] + j * (roi[3] - 1 - roi[1]) / 5
                value = 0.0
                if 0 <= y <= 24 and 0 <= x <= 29:
                    for row in (math.floor(y), math.floor(y) + 1):
                        for column in (math.floor(x), math.floor(x) + 1):
                            weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                            value += weight * float(masks[g, row, column]) if weight else 0
                assert target[i, j] == pytest.approx(value, abs=1e-9)


def test_roi_align_targets_equal_torchvision():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    rng = np.random.default_rng(2)
    masks, rois = rng.random((3, 80, 90)) < 0.5, random_boxes(rng, 10, 50, 30, np.float32)
    owner = rng.integers(0, 3, 10)
    theirs = roi_heads.project_masks_on_boxes(
        torch.from_numpy(masks), torch.from_numpy(rois[:, [1, 0, 3, 2]]), torch.from_numpy(owner), 28
    )
    # float32 coordinates up to 80 and means of up to 9 samples: 1.2e-7 measured
    np.testing.assert_allclose(mask_targets(rois, owner, rois, masks, TORCHVISION), theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("config", DIALECTS, ids=lambda c: c.name)
def test_mask_targets_empty(config):
    t = mask_targets(boxes_of(), np.zeros(0, int), boxes_of(), np.zeros((0, 9, 9), bool), config)
    assert t.shape == (0, 2 * config.mask_pool_size, 2 * config.mask_pool_size)


# --- mini masks as targets ---


@pytest.mark.parametrize("config", [MATTERPORT, TORCHVISION, DETECTRON2], ids=lambda c: c.name)
def test_mini_masks_of_the_objects_size_give_the_same_targets(config):
    """A mini mask with one cell per pixel loses nothing inside the box, so RoIs inside it see the same.

    Not at the very rim: there RoIAlign reads half a pixel beyond the box, and the mini mask ends.
    """
    rng = np.random.default_rng(0)
    masks = np.zeros((1, 64, 64), bool)
    box = boxes_of([8, 4, 40, 52])
    masks[0, 8:40, 4:52] = rng.random((32, 48)) < 0.5
    inner = boxes_of([8.5, 4.5, 39.5, 51.5], [10.3, 7.2, 30.9, 45.5], [12, 20, 20, 30])
    owner = np.zeros(3, int)
    mini = minimise_masks(box, masks, (32, 48))
    config = config.replace(mask_target_rounded=False, roi_aligned=True)
    whole = mask_targets(inner, owner, box, masks, config)
    cut = mask_targets(inner, owner, box, mini, config.replace(mini_mask_shape=(32, 48)))
    np.testing.assert_allclose(cut, whole, atol=1e-9)


def test_mini_masks_of_fractional_boxes_stay_in_place():
    """The mini mask covers the box widened to whole pixels; the RoI must be measured in that frame."""
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 10:14, 20:25] = np.random.default_rng(0).random((4, 5)) < 0.5
    box = boxes_of([10.6, 20.5, 13.3, 24.2])
    mini = minimise_masks(box, masks, (4, 5))
    np.testing.assert_array_equal(mini, masks[:, 10:14, 20:25])
    config = DETECTRON2.replace(mask_target_rounded=False)
    whole = mask_targets(boxes_of([10, 20, 14, 25]), np.array([0]), box, masks, config)
    cut = mask_targets(boxes_of([10, 20, 14, 25]), np.array([0]), box, mini, config.replace(mini_mask_shape=(4, 5)))
    # Inside; at the rim the mini mask has no neighbours to read
    np.testing.assert_allclose(cut[0, 4:-4, 4:-4], whole[0, 4:-4, 4:-4], atol=1e-9)


def test_mini_mask_flaw_the_object_ends_at_its_box():
    """Known flaw: a RoI larger than the object's annotated box finds nothing outside it, whatever the mask said."""
    masks = np.ones((1, 64, 64), bool)
    box, roi = boxes_of([20, 20, 40, 40]), boxes_of([10, 10, 50, 50])
    whole = mask_targets(roi, np.array([0]), box, masks, MATTERPORT)
    mini = minimise_masks(box, masks, (56, 56))
    cut = mask_targets(roi, np.array([0]), box, mini, MATTERPORT.replace(mini_mask_shape=(56, 56)))
    assert (whole == 1).all()
    assert cut[0, 14, 14] == 1 and cut[0, 0, 0] == 0 and 0.2 < cut.mean() < 0.3  # (20 / 40)^2


def test_mini_masks_without_positives():
    config = MATTERPORT.replace(mini_mask_shape=(56, 56))
    t = targets_of(boxes_of([50, 50, 60, 60]), boxes_of(OBJECT), config, masks=np.ones((1, 56, 56), bool))
    assert t.masks.shape == (0, 28, 28)
