"""The parts between the layers, which have no gradient, on inputs harder than a network makes them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from agrees_with_torch import nhwc, xyxy  # noqa: E402
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image  # noqa: E402
from torchvision.models.detection.rpn import RegionProposalNetwork  # noqa: E402
from torchvision.models.detection.transform import GeneralizedRCNNTransform  # noqa: E402
from torchvision.ops import MultiScaleRoIAlign  # noqa: E402

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.detections import paste_masks, refine  # noqa: E402
from mrcnn_np.molding import mold_image, plan  # noqa: E402
from mrcnn_np.proposals import propose  # noqa: E402
from mrcnn_np.weights.torchvision import ORDER  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("min_size, max_size, largest, count", [(80, 133, 300, 400), (800, 1333, 1300, 8)])
def test_resized_and_padded_size(min_size, max_size, largest, count):
    config = presets.torchvision(image_min_size=min_size, image_max_size=max_size)
    transform = GeneralizedRCNNTransform(min_size, max_size, MEAN, STD)
    rng = np.random.default_rng(0)
    shapes = [tuple(int(s) for s in shape) for shape in rng.integers(largest // 10, largest, (count, 2))]
    # squares, sizes that need no scaling, one whose scaled side falls one bit short of a whole number, extreme shapes
    shapes += [(min_size, min_size), (min_size, max_size), (max_size, min_size), (447, 1235), (10, largest), (1, 1)]
    for h, w in shapes:
        molding = plan((h, w), config)
        images, _ = transform([torch.zeros(3, 1, 1).expand(3, h, w)])
        assert molding.resized_shape == images.image_sizes[0], (h, w)
        assert molding.molded_shape == images.tensors.shape[2:], (h, w)


@pytest.mark.parametrize("shape", [(61, 97), (200, 150), (1, 1), (3, 40), (128, 128)])
def test_molded_image(shape):
    config = presets.torchvision(image_min_size=64, image_max_size=128)
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    images, _ = GeneralizedRCNNTransform(64, 128, MEAN, STD)([torch.from_numpy(image).permute(2, 0, 1).double() / 255])
    molded, _ = mold_image(image, config, np.float64)
    np.testing.assert_allclose(molded, nhwc(images.tensors)[0].numpy(), rtol=0, atol=1e-13)


def random_boxes(rng, count, shape, margin):
    corners = rng.uniform(-margin, np.array(shape) + margin, (2, count, 2))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)], axis=1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("boxes_are", ["anywhere", "whole", "small", "beyond the image"])
@pytest.mark.parametrize("m", [28, 14])
def test_paste_masks(m, boxes_are, dtype):
    """Pixel for pixel, except where the interpolated value equals the threshold to rounding."""
    rng, shape = np.random.default_rng(2), (90, 70)
    boxes = random_boxes(rng, 60, shape, 0)
    if boxes_are == "whole":
        boxes = np.round(boxes)
    elif boxes_are == "small":
        boxes[:, 2:] = boxes[:, :2] + rng.uniform(0.01, 3, (60, 2))
    elif boxes_are == "beyond the image":
        boxes += rng.uniform(-20, 20, (60, 1))
        boxes[:, :2], boxes[:, 2:] = np.minimum(boxes[:, :2], 60), np.maximum(boxes[:, 2:], 5)
    boxes, masks = boxes.astype(dtype), rng.uniform(size=(60, m, m)).astype(dtype)
    values = paste_masks_in_image(torch.from_numpy(masks)[:, None], xyxy(boxes), shape)[:, 0].numpy()
    found = paste_masks(masks, boxes, shape, presets.torchvision())
    clear = np.abs(values - 0.5) > 1e-5
    assert clear.mean() > 0.999
    wrong = (found != (values >= 0.5)) & clear
    assert not wrong.any(), f"{wrong.any(axis=(1, 2)).sum()} masks differ, first {boxes[wrong.any(axis=(1, 2))][0]}"


def test_pasted_ones_cover_29_pixels():
    """A box from 10 to 38: torchvision counts its last pixel too."""
    ones, box = np.ones((1, 28, 28)), np.array([[20.0, 10, 48, 38]])
    (found,) = paste_masks(ones, box, (60, 60), presets.torchvision())
    assert found.sum() == 29 * 29 and found[20:49, 10:39].all()
    expected = paste_masks_in_image(torch.from_numpy(ones)[:, None], xyxy(box), (60, 60))[0, 0] >= 0.5
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("training", [False, True])
def test_proposals_of_many_useless_boxes(training):
    """Anchors far outside, deltas beyond the clamp, levels with fewer anchors than are kept."""
    rng = np.random.default_rng(3)
    counts = {"training": 60, "testing": 40}
    rpn = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, counts, {"training": 100, "testing": 70}, 0.7)
    rpn.train(training)
    config = presets.torchvision(
        proposals_pre_nms_train=60, proposals_pre_nms_test=40, proposals_post_nms_train=100, proposals_post_nms_test=70
    )
    anchors = [random_boxes(rng, n, (100, 80), 60) for n in (500, 120, 50, 9, 1)]
    total = sum(len(a) for a in anchors)
    logits = 3 * rng.standard_normal(total)
    deltas = rng.standard_normal((total, 4)) * [0.5, 0.5, 2.5, 2.5]
    decoded = rpn.box_coder.decode(xyxy(deltas), [xyxy(np.concatenate(anchors))])[:, 0]
    (expected,), (scores,) = rpn.filter_proposals(
        decoded[None], torch.from_numpy(logits)[None], [(100, 80)], [len(a) for a in anchors]
    )
    found, found_scores = propose(logits, deltas, anchors, (0, 0, 100, 80), config, training=training)
    assert 20 < len(expected) < sum(min(len(a), 60 if training else 40) for a in anchors)
    np.testing.assert_allclose(found, expected.numpy()[:, ORDER], rtol=0, atol=1e-11)
    np.testing.assert_allclose(found_scores, scores, rtol=1e-14)


@pytest.mark.parametrize("top", [100, 15])
def test_refined_detections(top):
    """All classes of a RoI compete only within their class; boxes that clipping leaves nothing of are dropped."""
    rng = np.random.default_rng(4)
    heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, top)
    proposals = random_boxes(rng, 60, (100, 80), 40)
    logits, deltas = 2 * rng.standard_normal((60, 6)), 3 * rng.standard_normal((60, 6, 4))
    (boxes,), (scores,), (labels,) = heads.postprocess_detections(
        torch.from_numpy(logits), xyxy(deltas).reshape(60, 24), [xyxy(proposals)], [(100, 80)]
    )
    config = presets.torchvision(num_classes=6, detections_per_image=top)
    found, class_ids, found_scores = refine(proposals, logits, deltas, (0, 0, 100, 80), config)
    assert len(boxes) == top or 40 < len(boxes) < 100
    np.testing.assert_array_equal(class_ids, labels)
    np.testing.assert_allclose(found, boxes.numpy()[:, ORDER], rtol=0, atol=1e-11)
    np.testing.assert_allclose(found_scores, scores, rtol=1e-13)


@pytest.mark.parametrize("height, first_scale", [(800, 1 / 4), (23, 1 / 4), (22, 1 / 2)])
def test_stride_of_a_very_flat_image(height, first_scale):
    """torchvision divides the map's height by the image's before padding; below 23 pixels it takes P2 for P1.

    An image of 50 x 5000 comes to that (13 x 1333). We use the strides of the pyramid: this is not reproduced.
    """
    rows = -(-height // 32) * 8
    maps = {str(i): torch.zeros(1, 1, rows >> i, 64 >> i) for i in range(4)}
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    pooler(maps, [torch.zeros(1, 4)], [(height, 256)])
    assert pooler.scales[0] == first_scale
    assert presets.torchvision().anchor_strides[0] == 4
