"""The whole network against torchvision's maskrcnn_resnet50_fpn with the same weights, stage by stage.

In float64 what the two share is equal to rounding. In float32 each is held against the float64 result, see
``agrees_with_torch.py``.
"""

import copy
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from agrees_with_torch import check_float32, check_float64, error, nhwc  # noqa: E402
from PIL import Image  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from torchvision_params import our_params  # noqa: E402
from torchvision_that_detects import torchvision_that_detects  # noqa: E402

from mrcnn_np import MaskRCNN, presets  # noqa: E402
from mrcnn_np.backbone import backbone  # noqa: E402
from mrcnn_np.compare.torchvision.model import as_tensor  # noqa: E402
from mrcnn_np.fpn import fpn  # noqa: E402
from mrcnn_np.heads import box_head, mask_head  # noqa: E402
from mrcnn_np.molding import mold_image  # noqa: E402
from mrcnn_np.network import check  # noqa: E402
from mrcnn_np.proposals import propose  # noqa: E402
from mrcnn_np.rpn import rpn_head  # noqa: E402
from mrcnn_np.synthetic import picture  # noqa: E402
from mrcnn_np.weights.torchvision import ORDER  # noqa: E402

# Small numbers that still leave every cut something to cut off
THEIR_SETTINGS = {
    "min_size": 128, "max_size": 192, "rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 200,
    "box_score_thresh": 0.3, "box_detections_per_img": 30,
}  # fmt: skip
OUR_SETTINGS = {
    "image_min_size": 128, "image_max_size": 192, "proposals_pre_nms_test": 300, "proposals_post_nms_test": 200,
    "detection_score_threshold": 0.3, "detections_per_image": 30,
}  # fmt: skip
CONFIG = presets.torchvision(num_classes=5, **OUR_SETTINGS)

# The first keeps its size; the second becomes 115 x 192 on a canvas of 128 x 192
SIZES = {"as is": (128, 160), "resized and padded": (90, 150)}
STAGES = ("c2", "c3", "c4", "c5", "p2", "p3", "p4", "p5", "p6")


@pytest.fixture(scope="module")
def models():
    """(theirs, ours) in each precision."""
    double = torchvision_that_detects(
        as_tensor(picture(SIZES["as is"]), torch.float64), num_classes=5, **THEIR_SETTINGS
    )
    pairs = {}
    for dtype, theirs in ((np.float64, double), (np.float32, copy.deepcopy(double).float())):
        params = our_params(theirs.state_dict())
        check(params, CONFIG)
        pairs[dtype] = theirs, MaskRCNN(CONFIG, params)
    return pairs


def run_theirs(theirs, image):
    """Run their detector and keep what its modules return on the way."""
    kept, hooks = {}, []
    modules = {
        "molded": theirs.transform, "body": theirs.backbone.body, "fpn": theirs.backbone, "rpn_head": theirs.rpn.head,
        "anchors": theirs.rpn.anchor_generator, "proposals": theirs.rpn, "box": theirs.roi_heads.box_predictor,
        "mask": theirs.roi_heads.mask_predictor,
    }  # fmt: skip
    for name, module in modules.items():
        hooks.append(module.register_forward_hook(lambda _, __, y, name=name: kept.__setitem__(name, y)))
    # A copy: their last step scales the boxes in place
    keep_boxes = lambda _, __, y: kept.__setitem__("molded boxes", y[0][0]["boxes"].clone())  # noqa: E731
    hooks.append(theirs.roi_heads.register_forward_hook(keep_boxes))
    with torch.no_grad():
        (kept["result"],) = theirs([as_tensor(image, next(theirs.parameters()).dtype)])
    for hook in hooks:
        hook.remove()
    out = {"molded": nhwc(kept["molded"][0].tensors), "window": (0, 0, *kept["molded"][0].image_sizes[0])}
    out |= {name: nhwc(c) for name, c in zip(STAGES[:4], kept["body"].values())}
    out |= {name: nhwc(p) for name, p in zip(STAGES[4:], kept["fpn"].values())}
    logits, deltas = kept["rpn_head"]
    out["rpn logits"] = torch.cat([nhwc(x).flatten(1) for x in logits], dim=1)
    out["rpn deltas"] = torch.cat([nhwc(x).reshape(1, -1, 4) for x in deltas], dim=1)[..., ORDER]
    out["anchors"] = kept["anchors"][0][:, ORDER]
    out["proposals"] = kept["proposals"][0][0][:, ORDER]
    class_logits, deltas = kept["box"]
    out["class logits"], out["deltas"] = class_logits, deltas.reshape(len(deltas), -1, 4)[..., ORDER]
    out["mask logits"] = nhwc(kept["mask"])
    out["molded boxes"] = kept["molded boxes"][:, ORDER]
    return {name: v.numpy() if torch.is_tensor(v) else v for name, v in out.items()} | {"result": kept["result"]}


def run_ours(ours, image, proposals, boxes):
    """Run the stages one by one; the heads on given proposals and boxes, so that each stage is judged by itself."""
    config, params = ours.config, ours.params
    molded, molding = mold_image(image, config, ours.dtype)
    images = molded[None]
    features, _ = backbone(images, params, config)
    pyramid, _ = fpn(features, params, config)
    logits, deltas, _ = rpn_head(pyramid, params, config)
    anchors = ours.anchors(images.shape[1:3], pyramid)
    out = {"molded": images, "window": molding.window, "rpn logits": logits, "rpn deltas": deltas}
    out |= dict(zip(STAGES, [*features, *pyramid])) | {"anchors": np.concatenate(anchors)}
    out["proposals"], _ = propose(logits[0], deltas[0], anchors, molding.window, config, training=False)
    for head, rois, size in ((box_head, proposals, config.box_pool_size), (mask_head, boxes, config.mask_pool_size)):
        pooled, _ = ours.roi_features(pyramid, rois, np.zeros(len(rois), int), size, images.shape)
        *outputs, _ = head(pooled, params, config)
        out |= dict(zip(("class logits", "deltas") if head is box_head else ("mask logits",), outputs))
    return out


@pytest.fixture(scope="module", params=SIZES)
def runs(request, models):
    """What every stage computes: ``{precision: (theirs, ours)}``."""
    image = picture(SIZES[request.param])
    results = {}
    for dtype, (theirs, ours) in models.items():
        stages = run_theirs(theirs, image)
        results[dtype] = stages, run_ours(ours, image, stages["proposals"], stages["molded boxes"])
    return results


HEADS = ("class logits", "deltas", "mask logits")


@pytest.mark.parametrize("stage", ["molded", *STAGES, "rpn logits", "rpn deltas", *HEADS])
def test_stage(runs, stage):
    """Measured in float64: from 1e-15 (C2) to 1e-14 (heads)."""
    (theirs64, ours64), (theirs32, ours32) = runs[np.float64], runs[np.float32]
    assert ours64["window"] == theirs64["window"]
    check_float64(stage, ours64[stage], theirs64[stage], 1e-12)
    if stage not in HEADS:
        check_float32(stage, ours32[stage], theirs32[stage], theirs64[stage])
    else:  # both read their boxes of the float32 run; those of the float64 run come in another order
        assert error(ours32[stage], theirs32[stage]) < 3e-5  # measured: 3e-6


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_anchors(runs, dtype):
    """Equal, and in the same order."""
    theirs, ours = runs[dtype]
    assert ours["anchors"].dtype == dtype
    np.testing.assert_array_equal(ours["anchors"], theirs["anchors"])


def pair_up(found, expected):
    """The index of the box found for each expected one, so that the worst are as close as can be.

    Boxes whose scores are alike may trade places; a box may occur twice (from two levels, clipped to the image).
    """
    assert len(found) == len(expected)
    distance = np.abs(found[None] - expected[:, None]).max(axis=2)
    return linear_sum_assignment(distance)[1]


def test_proposals(runs):
    """The 200 that remain of 5000 anchors, best first. Measured: 3e-13 and 1e-4 pixels apart."""
    theirs, ours = runs[np.float64]
    assert len(theirs["proposals"]) == CONFIG.proposals_post_nms_test
    np.testing.assert_allclose(ours["proposals"], theirs["proposals"], rtol=0, atol=1e-10)
    theirs, ours = (run["proposals"] for run in runs[np.float32])
    np.testing.assert_allclose(ours[pair_up(ours, theirs)], theirs, rtol=0, atol=1e-2)


def check_detections(found, result, *, boxes, scores, mask_iou):
    """Same number, classes, boxes (pixels), scores, and pasted masks."""
    order = pair_up(found.boxes, result["boxes"].numpy()[:, ORDER])
    assert np.array_equal(found.class_ids[order], result["labels"].numpy())
    np.testing.assert_allclose(found.boxes[order], result["boxes"].numpy()[:, ORDER], rtol=0, atol=boxes)
    np.testing.assert_allclose(found.scores[order], result["scores"].numpy(), rtol=0, atol=scores)
    expected = result["masks"][:, 0].numpy() >= CONFIG.mask_threshold
    shared, either = ((f(found.masks[order], expected)).sum(axis=(1, 2)) for f in (np.logical_and, np.logical_or))
    assert (shared >= mask_iou * either).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", SIZES)
def test_detections(models, case, dtype):
    """From the image to the pasted masks. Measured in float32: 2e-4 pixels, scores 4e-6, masks equal."""
    theirs, ours = models[dtype]
    image = picture(SIZES[case])
    with torch.no_grad():
        (result,) = theirs([as_tensor(image, next(theirs.parameters()).dtype)])
    (found,) = ours.detect([image])
    assert len(found.boxes) == CONFIG.detections_per_image and len(set(found.class_ids)) >= 4
    assert found.boxes.dtype == found.scores.dtype == dtype
    assert 0 < found.masks.mean() < 0.5
    if dtype == np.float32:
        check_detections(found, result, boxes=1e-2, scores=1e-4, mask_iou=0.999)
    else:  # boxes go back to the original size by a scale that torchvision keeps in float32
        bounds = {"as is": 1e-10, "resized and padded": 1e-5}
        check_detections(found, result, boxes=bounds[case], scores=1e-12, mask_iou=1.0 if case == "as is" else 0.999)


def test_detections_on_a_real_image(models):
    """A photograph with its short side at 256 pixels, in float32."""
    if "VOC_ROOT" not in os.environ:
        pytest.skip("VOC_ROOT is not set: no real images")
    path = min(Path(os.environ["VOC_ROOT"]).rglob("JPEGImages/*.jpg"))
    image = np.array(Image.open(path).convert("RGB"))
    theirs, ours = (copy.copy(model) for model in models[np.float32])
    theirs.transform = copy.copy(theirs.transform)
    theirs.transform.min_size, theirs.transform.max_size = (256,), 448
    ours.config = ours.config.replace(image_min_size=256, image_max_size=448)
    with torch.no_grad():
        (result,) = theirs([as_tensor(image, torch.float32)])
    (found,) = ours.detect([image])
    assert len(found.boxes) >= 10
    check_detections(found, result, boxes=1e-2, scores=1e-4, mask_iou=0.999)
