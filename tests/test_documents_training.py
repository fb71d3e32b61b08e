"""The rows of test_documents.py that concern targets, heads, losses, backbone and data (from row 56 on).

A test is named by the numbers of its rows. Where a document is wrong or leaves something open, the test asserts what is
true and a comment quotes the document (S0 slides, S1 notes, S2 code walk, S3 article, S4 questions on anchors).

Rows without a test: 66 and 70 are prose; 86, 87 and 96 are covered by the tests of rows 83, 85 and 88; 108 to 113 are
claims of papers; 118 is about another repository.
"""

import math
import os

import numpy as np
import pytest

from mrcnn_np import MaskRCNN, model, presets
from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.backbone import ARCHITECTURES, backbone
from mrcnn_np.boxes import iou
from mrcnn_np.data import VOC_CLASSES, VOCDataset, colour_map
from mrcnn_np.data.augment import tight_box
from mrcnn_np.detections import paste_masks, refine
from mrcnn_np.fpn import fpn
from mrcnn_np.heads import box_head, box_head_spec, mask_head, mask_head_spec
from mrcnn_np.molding import compose_meta, minimise_masks, mold_image, plan
from mrcnn_np.nms import nms
from mrcnn_np.objective import head_box_loss, head_class_loss, head_mask_loss, rpn_box_loss, rpn_class_loss
from mrcnn_np.ops.activation import softmax
from mrcnn_np.ops.losses import smooth_l1
from mrcnn_np.params import count, initialise, spec
from mrcnn_np.proposals import objectness_scores, propose
from mrcnn_np.rpn import rpn_head, rpn_spec
from mrcnn_np.targets import mask_targets, match_anchors, negative_count, roi_targets, rpn_targets

MATTERPORT, TORCHVISION, DETECTRON2 = presets.matterport(), presets.torchvision(), presets.detectron2()
NO_CROWD = np.zeros(1, bool)
OBJECT = np.array([[0.0, 0, 10, 10]])


def strips(*widths):
    """Boxes inside OBJECT whose IoU with it is width / 10."""
    return np.array([[0.0, 0, 10, w] for w in widths])


# --- 4. RPN network, targets, proposals -------------------------------------------------------------------------------


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


def test_fact_061_labels_by_overlap():
    # Papers: > .7 and < .3. Code: >= .7 and < .3. S4: "<= .3"; S0 leaves out the best anchor of each object.
    labels, _ = match_anchors(strips(10, 7, 6.99, 3, 2.99), OBJECT, NO_CROWD, TORCHVISION)
    assert labels.tolist() == [1, 1, 0, 0, -1]
    labels, _ = match_anchors(strips(2, 1), OBJECT, NO_CROWD, TORCHVISION)
    assert labels.tolist() == [1, -1]
    for config in (MATTERPORT, TORCHVISION, DETECTRON2):
        assert (config.rpn_positive_iou, config.rpn_negative_iou) == (0.7, 0.3)


def test_fact_062_labels_are_plus_one_minus_one_and_neutral_zero():
    # S0: "0/1"
    labels, _ = match_anchors(strips(10, 5, 1), OBJECT, NO_CROWD, MATTERPORT)
    assert labels.tolist() == [1, 0, -1]
    # The loss drops 0 and takes -1 for class 0
    logits = np.array([[0.0, 50, math.log(3)]])
    assert rpn_class_loss(logits, labels[None])[0] == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_fact_063_064_256_anchors_one_to_one():
    anchors = np.concatenate(
        pyramid_anchors((1024, 1024), sizes=MATTERPORT.anchor_sizes, strides=MATTERPORT.anchor_strides)
    )
    corner = np.random.default_rng(0).uniform(0, 700, (60, 2)).astype(np.float32)
    objects = np.concatenate([corner, corner + 300], axis=1)
    labels, deltas = rpn_targets(anchors, objects, np.zeros(60, bool), MATTERPORT, np.random.default_rng(0))
    assert ((labels == 1).sum(), (labels == -1).sum()) == (128, 128)
    # matterport packs the deltas into (256, 4), zero-padded; here they lie beside their anchors
    assert labels.shape == (261888,) and deltas.shape == (261888, 4)
    assert (deltas != 0).any(axis=1).sum() <= 128
    labels, _ = rpn_targets(anchors, objects[:1], NO_CROWD, MATTERPORT, np.random.default_rng(0))
    assert 0 < (labels == 1).sum() < 128 and (labels != 0).sum() == 256  # negatives fill


def test_fact_065_negatives_keep_off_crowds():
    anchors = np.array([[0.0, 0, 100, 100]])
    for side, label in ((3.0, -1), (4.0, 0)):  # IoU .0009 and .0016 with the crowd
        crowd = np.array([[0.0, 0, side, 3 if side == 3 else 4]])
        assert match_anchors(anchors, crowd, np.ones(1, bool), MATTERPORT)[0].tolist() == [label]
    assert MATTERPORT.crowd_iou == 0.001


def test_fact_067_the_proposal_layer():
    c = MATTERPORT
    assert (c.proposals_pre_nms_train, c.proposals_pre_nms_test, c.proposals_nms_iou) == (6000, 6000, 0.7)
    assert (c.proposals_post_nms_train, c.proposals_post_nms_test) == (2000, 1000)
    # 9000 anchors apart from each other: 6000 survive the first cut, 2000 or 1000 the second. No zero padding here
    y, x = np.meshgrid(np.arange(90.0) * 10, np.arange(100.0) * 10, indexing="ij")
    anchors = np.stack([y, x, y + 8, x + 8], axis=-1).reshape(-1, 4)
    score = np.random.default_rng(0).permutation(9000).astype(float)
    logits = np.stack([np.zeros(9000), score], axis=1)
    for training, kept in ((True, 2000), (False, 1000)):
        boxes, _ = propose(logits, np.zeros((9000, 4)), [anchors], (0, 0, 1000, 1000), c, training=training)
        np.testing.assert_array_equal(boxes, anchors[np.argsort(-score)[:kept]])
    # S0 leaves out clipping and suppression
    both = np.array([[-5.0, -5, 10, 10], [-5, -5, 10, 9]])
    boxes, _ = propose(np.array([[0.0, 2], [0, 1]]), np.zeros((2, 4)), [both], (0, 0, 50, 50), c, training=True)
    np.testing.assert_array_equal(boxes, OBJECT)


def test_fact_069_suppression_does_not_combine():
    # S3: overlapping proposals are "combined". The best is kept as it is.
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 11, 11]])
    assert nms(boxes, np.array([0.9, 0.8]), 0.5).tolist() == [0]


# --- 5. Head targets, heads, inference --------------------------------------------------------------------------------


def targets_of(proposals, config, objects=OBJECT):
    masks = np.ones((len(objects), 100, 100), bool)
    class_ids, crowd = np.ones(len(objects), int), np.zeros(len(objects), bool)
    return roi_targets(proposals, objects, class_ids, masks, crowd, config, np.random.default_rng(0))


def test_fact_072_a_roi_is_positive_from_one_half():
    # S0, S2, S3: IoU > .5; paper and code >= .5. S0 says "anchor" where it means RoI.
    for config in (MATTERPORT.replace(roi_negatives="fill"), TORCHVISION, DETECTRON2):
        t = targets_of(strips(5, 4.99), config.replace(gt_joins_proposals=False))
        assert t.class_ids.tolist() == [1, 0]


def test_fact_073_074_shares_of_positives():
    assert int(200 * 0.33) == 66 and MATTERPORT.rois_per_image == 200
    assert [negative_count(p, MATTERPORT) for p in (66, 33, 50, 10)] == [134, 67, 101, 20]  # 1 : 2
    rng = np.random.default_rng(0)
    proposals = np.concatenate([np.tile(OBJECT, (700, 1)), rng.uniform(0, 5, (700, 4)) + np.array([20, 20, 40, 40])])
    for config, positives, negatives in ((MATTERPORT, 66, 134), (TORCHVISION, 128, 384), (DETECTRON2, 128, 384)):
        t = targets_of(proposals, config)
        assert ((t.class_ids > 0).sum(), (t.class_ids == 0).sum()) == (positives, negatives)
    # torchvision adds the ground truth to the proposals, matterport does not
    none = np.zeros((0, 4))
    assert [len(targets_of(none, c).rois) for c in (MATTERPORT, TORCHVISION, DETECTRON2)] == [0, 1, 1]


def test_fact_075_mask_targets_rounded_or_soft():
    mask = np.zeros((1, 100, 100), bool)
    mask[0, ::2] = True
    rois, owner = np.array([[3.3, 3.3, 61.7, 61.7]]), np.array([0])
    targets = {c.name: mask_targets(rois, owner, rois, mask, c) for c in (MATTERPORT, TORCHVISION, DETECTRON2)}
    assert all(t.shape == (1, 28, 28) for t in targets.values())
    assert set(np.unique(targets["matterport"])) == set(np.unique(targets["detectron2"])) == {0, 1}
    assert len(np.unique(targets["torchvision"])) > 2


def test_fact_076_mini_masks_are_the_resized_inside_of_the_box():
    # S2 leaves out the resize; matterport's docstring says "typically 224x224", its configuration (56, 56)
    mask = np.zeros((1, 200, 200), bool)
    mask[0, 20:132, 30:142] = True
    mask[0, 20:76, 30:86] = False  # the top left quarter is empty
    mini = minimise_masks(np.array([[20.0, 30, 132, 142]]), mask, (56, 56))
    assert mini.shape == (1, 56, 56)
    assert not mini[0, :28, :28].any() and mini[0, 28:].all() and mini[0, :, 28:].all()


def test_fact_077_shapes_of_the_class_and_box_head():
    config = presets.tiny(num_classes=21)
    params = initialise(config, np.random.default_rng(0))
    logits, deltas, _ = box_head(np.zeros((5, 7, 7, config.fpn_channels), np.float32), params, config)
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
    # S4: "K m^2 with m = pooling resolution 7 x 7"
    config = presets.tiny(num_classes=21)
    params = initialise(config, np.random.default_rng(0))
    assert config.mask_pool_size == 14
    logits, _ = mask_head(np.zeros((3, 14, 14, config.fpn_channels), np.float32), params, config)
    assert logits.shape == (3, 28, 28, 21) and logits[0].size == 16_464
    assert (81 * 28**2, 80 * 28**2) == (63_504, 62_720)


def test_fact_081_only_the_true_classs_mask_counts():
    logits = np.random.default_rng(0).normal(size=(2, 28, 28, 21))
    targets, class_ids = np.ones((2, 28, 28)), np.array([3, 7])
    loss, _ = head_mask_loss(logits, class_ids, targets)
    others = np.ones(21, bool)
    others[[3, 7]] = False
    logits[..., others] += 100  # no competition between classes
    assert head_mask_loss(logits, class_ids, targets)[0] == loss
    # S4 writes "Lmask = Sigmoid(Cls_k)", which is the activation; the loss is the mean cross entropy of it
    own = np.stack([logits[0, ..., 3], logits[1, ..., 7]])
    assert loss == pytest.approx(np.log1p(np.exp(-own)).mean())


def test_fact_083_086_masks_are_predicted_for_detections(monkeypatch):
    # S0: no proposal layer, masks before the detection layer. S3: masks of the 100 best proposals.
    # True: proposals -> classes and boxes -> detections -> masks.
    order = []

    def logged(name):
        original = getattr(model, name)

        def call(*args, **kwargs):
            order.append((name, args[0].shape[0] if name in ("box_head", "mask_head") else None))
            return original(*args, **kwargs)

        monkeypatch.setattr(model, name, call)

    for name in ("propose", "box_head", "refine", "mask_head", "paste_masks"):
        logged(name)
    config = presets.tiny(detection_score_threshold=0.0, detections_per_image=5)
    (found,) = MaskRCNN(config).detect([np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)])
    assert [name for name, _ in order] == ["propose", "box_head", "refine", "mask_head", "paste_masks"]
    proposals, masks = order[1][1], order[3][1]
    assert proposals > masks == len(found.scores)


def test_fact_085_the_detection_layer():
    # S2: score > .9. The base configuration has >= .7, the samples .9, torchvision > .05
    assert (MATTERPORT.detection_score_threshold, MATTERPORT.detection_nms_iou) == (0.7, 0.3)
    assert (TORCHVISION.detection_score_threshold, TORCHVISION.detection_nms_iou) == (0.05, 0.5)
    assert MATTERPORT.detection_score_inclusive and not TORCHVISION.detection_score_inclusive
    proposals = np.array([[0.0, 40 * i, 30, 40 * i + 30] for i in range(4)])
    logits = np.log([[0.2, 0.8, 1e-9], [0.2, 1e-9, 0.8], [0.31, 0.69, 1e-9], [0.95, 0.04, 0.01]])
    boxes, class_ids, scores = refine(proposals, logits, np.zeros((4, 3, 4)), (10, 0, 100, 200), MATTERPORT)
    np.testing.assert_array_equal(boxes, [[10, 0, 30, 30], [10, 40, 30, 70]])  # clipped to the window
    assert class_ids.tolist() == [1, 2] and np.allclose(scores, 0.8)
    many = np.array([[0.0, 5.0 * i, 4, 5.0 * i + 4] for i in range(300)])
    logits = np.log(np.tile([[0.1, 0.9]], (300, 1)))
    kept, _, _ = refine(many, logits, np.zeros((300, 2, 4)), (0, 0, 10, 2000), MATTERPORT)
    assert len(kept) == 100  # no zero padding here


def test_fact_087_masks_are_cut_at_one_half():
    # S3 and S0: resize to the box, threshold .5. A mask of .5 belongs to the object.
    box = np.array([[2.0, 2, 30, 30]])
    for config in (MATTERPORT, DETECTRON2):
        for value, painted in ((0.5, 784), (0.499, 0)):
            assert paste_masks(np.full((1, 28, 28), value), box, (40, 40), config).sum() == painted


def test_fact_088_an_all_ones_mask_covers_29_pixels_in_torchvision():
    box = np.array([[20.0, 10, 48, 38]])  # [10, 20, 38, 48] in x, y order
    mask = np.ones((1, 28, 28), np.float32)
    pasted = paste_masks(mask, box, (60, 60), TORCHVISION)[0]
    assert pasted[20:49, 10:39].all() and pasted.sum() == 29 * 29
    for config in (MATTERPORT, DETECTRON2):
        pasted = paste_masks(mask, box, (60, 60), config)[0]
        assert pasted[20:48, 10:38].all() and pasted.sum() == 28 * 28


@pytest.mark.parametrize("classes, length", [(81, 93), (21, 33)])
def test_fact_089_length_of_the_image_meta(classes, length):
    assert len(compose_meta(0, plan((375, 500), MATTERPORT), np.ones(classes))) == 1 + 3 + 3 + 4 + 1 + classes == length


def test_fact_090_the_window():
    molding = plan((375, 500), MATTERPORT)
    assert (molding.resized_shape, molding.window) == ((768, 1024), (128, 0, 896, 1024))
    assert molding.scale == (2.048, 2.048) == (min(800 / 375, 1024 / 500),) * 2


def test_fact_091_093_constants():
    c = MATTERPORT
    assert (c.image_min_size, c.image_max_size, c.resize_mode) == (800, 1024, "square")
    assert (c.box_pool_size, c.mask_pool_size, 2 * c.mask_pool_size) == (7, 14, 28)
    assert c.detections_per_image == 100
    # MAX_GT_INSTANCES 100 fixes the size of an array there; here every image has as many objects as it has


def test_fact_092_boxes_are_half_open():
    # S2: "bottom left and top right corner". Top left and bottom right, and x2 = last + 1
    mask = np.zeros((20, 20), bool)
    mask[3:6, 7:15] = True
    np.testing.assert_array_equal(tight_box(mask), [3, 7, 6, 15])


def test_fact_095_how_many_boxes_each_stage_has():
    count_anchors = sum(
        len(a) for a in pyramid_anchors((1024, 1024), sizes=MATTERPORT.anchor_sizes, strides=MATTERPORT.anchor_strides)
    )
    c = MATTERPORT
    training = (count_anchors, c.rpn_anchors_per_image, c.proposals_pre_nms_train, c.proposals_post_nms_train)
    assert (*training, c.rois_per_image) == (261888, 256, 6000, 2000, 200)
    assert (c.proposals_post_nms_test, c.detections_per_image) == (1000, 100)


# --- 6. Losses --------------------------------------------------------------------------------------------------------


def test_fact_097_five_losses_of_weight_one():
    # S0 and S3: three, per RoI; S4 adds the proposal network's
    assert model.LOSSES == ("rpn_class", "rpn_box", "head_class", "head_box", "head_mask")
    for preset in presets.PRESETS.values():
        assert preset().loss_weights == (1, 1, 1, 1, 1)


def test_fact_098_smooth_l1():
    def values(x, beta):
        return smooth_l1(np.array(x, float), np.zeros(len(x)), beta=beta)[0]

    np.testing.assert_array_equal(values([0, 0.5, 1, 2, -3], 1.0), [0, 0.125, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(values([0.5, 1], 1 / 9), [0.4444, 0.9444], atol=5e-5)
    np.testing.assert_array_equal(values([0, 0.5, -3], 0.0), [0, 0.5, 3])
    assert (MATTERPORT.head_smooth_l1_beta, TORCHVISION.head_smooth_l1_beta) == (1, 1 / 9)
    assert DETECTRON2.head_smooth_l1_beta == 0


def test_fact_099_denominators_of_the_box_losses():
    labels = np.array([[1, 1] + [-1] * 254])
    deltas, targets = np.zeros((1, 256, 4)), np.full((1, 256, 4), 2.0)  # smooth L1 of each number: 1.5
    sampled = MATTERPORT.replace(box_loss_denominator="sampled")
    assert rpn_box_loss(deltas, labels, targets, MATTERPORT)[0] == 1.5  # mean over 2 positives x 4
    assert rpn_box_loss(deltas, labels, targets, sampled)[0] == 1.5 * 8 / 256
    class_ids = np.array([1, 1] + [0] * 510)
    deltas, targets = np.zeros((512, 2, 4)), np.full((512, 4), 2.0)
    assert head_box_loss(deltas, class_ids, targets, MATTERPORT)[0] == 1.5
    assert head_box_loss(deltas, class_ids, targets, sampled)[0] == 1.5 * 8 / 512
    assert [c.box_loss_denominator for c in (MATTERPORT, TORCHVISION, DETECTRON2)] == [
        "positives", "sampled", "sampled",
    ]  # fmt: skip


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


# --- 7. Backbone and pyramid ------------------------------------------------------------------------------------------


def test_fact_103_stages_of_resnet():
    for name, blocks in (("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))):
        arch = ARCHITECTURES[name]
        assert arch.blocks == blocks and arch.blocks[2] - 1 == {"resnet50": 5, "resnet101": 22}[name]
        assert (arch.stem, *arch.out_channels) == (64, 256, 512, 1024, 2048)


def test_fact_103_105_strides_of_the_maps():
    # S0: "6 scale features", then lists five: P2..P6. 1024 pixels give 256, 128, 64, 32, 16; here 128 pixels
    config = presets.tiny()
    params = initialise(config, np.random.default_rng(0))
    features, _ = backbone(np.zeros((1, 128, 128, 3), np.float32), params, config)
    assert [f.shape[1:3] for f in features] == [(128 // s, 128 // s) for s in (4, 8, 16, 32)]
    pyramid, _ = fpn(features, params)
    assert [p.shape for p in pyramid] == [(1, 128 // s, 128 // s, config.fpn_channels) for s in (4, 8, 16, 32, 64)]
    assert [c.fpn_channels for c in (MATTERPORT, TORCHVISION, DETECTRON2)] == [256] * 3


def test_fact_104_shortcuts():
    # Only the first block of a stage projects; matterport strides the first 1x1, torchvision the 3x3
    shapes = spec(TORCHVISION)
    projections = [name for name in shapes if name.endswith("shortcut.conv.w")]
    assert projections == [f"backbone.c{stage}.0.shortcut.conv.w" for stage in (2, 3, 4, 5)]
    assert MATTERPORT.stride_in_1x1 and DETECTRON2.stride_in_1x1 and not TORCHVISION.stride_in_1x1


def test_fact_106_the_top_down_path():
    config = presets.tiny()
    names = {n: s.shape for n, s in spec(TORCHVISION).items() if n.startswith("fpn.") and n.endswith(".w")}
    assert names == {
        **{f"fpn.lateral{k}.w": (1, 1, c, 256) for k, c in zip((2, 3, 4, 5), (256, 512, 1024, 2048))},
        **{f"fpn.output{k}.w": (3, 3, 256, 256) for k in (2, 3, 4, 5)},
    }
    # A single bright cell of C5 reaches 2^k x 2^k cells of the level k finer, and the 3x3 widens it by one on each side
    fpn_spec = {n: s for n, s in spec(config).items() if n.startswith("fpn.")}
    params = {n: np.zeros(s.shape) if n.endswith(".b") else np.ones(s.shape) for n, s in fpn_spec.items()}
    features = [np.zeros((1, 32 >> i, 32 >> i, c)) for i, c in enumerate(ARCHITECTURES[config.backbone].out_channels)]
    features[3][0, 1, 1] = 1
    pyramid, _ = fpn(features, params)
    for level, cells in zip(pyramid, (8, 4, 2, 1)):
        assert (level[0, ..., 0] > 0).sum() == (cells + 2) ** 2


def test_fact_107_p6_is_every_second_cell_of_p5():
    config = presets.tiny()
    params = initialise(config, np.random.default_rng(0))
    features = [
        np.random.default_rng(1).normal(size=(2, 40 >> i, 56 >> i, c)).astype(np.float32)
        for i, c in enumerate(ARCHITECTURES[config.backbone].out_channels)
    ]
    pyramid, _ = fpn(features, params)
    np.testing.assert_array_equal(pyramid[4], pyramid[3][:, ::2, ::2])
    assert not any("6" in name for name in spec(config) if name.startswith("fpn."))


def test_fact_114_colour_means():
    image = np.full((1024, 1024, 3), (200, 100, 50), np.uint8)
    expected = {
        "matterport": [200 - 123.7, 100 - 116.8, 50 - 103.9],
        "torchvision": [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225],
        "detectron2": [50 - 103.53, 100 - 116.28, 200 - 123.675],  # blue first
    }
    for config in (MATTERPORT, TORCHVISION, DETECTRON2):
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

# The slides' table, 21 rows from [0 0 0] to [0 64 128]
COLOURS = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128), (192, 128, 128),
    (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
]  # fmt: skip


def test_fact_116_the_colour_map():
    palette = colour_map()
    assert [tuple(row) for row in palette[:21].tolist()] == COLOURS
    assert palette[255].tolist() == [224, 224, 192]  # void, which the slides leave out


def test_fact_117_classes_of_voc():
    assert len(VOC_CLASSES) == 21 and VOC_CLASSES[0] == "background" and VOC_CLASSES[20] == "tvmonitor"
    if not os.environ.get("VOC_ROOT"):
        pytest.skip("VOC_ROOT is not set: the instance ids of a real image were not read")
    sample = VOCDataset(os.environ["VOC_ROOT"], "train").load(0)
    # Instances from SegmentationObject, classes from the annotation: every object has a mask of its own
    assert len(sample.gt_masks) == len(sample.gt_class_ids) > 0
    assert not (sample.gt_masks.sum(axis=0) > 1).any()
    assert ((sample.gt_class_ids >= 1) & (sample.gt_class_ids <= 20)).all()
    for mask, box in zip(sample.gt_masks, sample.gt_boxes):
        if mask.any():
            assert iou(tight_box(mask)[None].astype(np.float32), box[None]).item() > 0.8
