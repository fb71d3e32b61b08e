"""The trace is the run itself, and what is given takes the place of what was found."""

import numpy as np
import pytest
from nets import make_sample, small_config

from mrcnn_np import MaskRCNN
from mrcnn_np.compare.trace import GIVEN, PER_DETECTION, PER_PROPOSAL, trace_ours


@pytest.fixture(scope="module")
def model():
    config = small_config(detection_score_threshold=0.0, detections_per_image=5)
    return MaskRCNN(config, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def image():
    return make_sample(np.random.default_rng(1), size=(64, 48)).image


def test_the_trace_ends_with_what_detect_returns(model, image):
    trace = trace_ours(model, image)
    (found,) = model.detect([image])
    for name, value in (("boxes", found.boxes), ("detection_classes", found.class_ids), ("masks", found.masks)):
        np.testing.assert_array_equal(trace[name], value)
    assert len(found.boxes) == 5


def test_names_and_shapes(model, image):
    trace = trace_ours(model, image)
    levels = ["p2", "p3", "p4", "p5", "p6"]
    blocks = ["c2.0", "c2", "c3.0", "c3", "c4.0", "c4", "c5"]
    heads = [f"{kind}.{level}" for kind in ("rpn_logits", "rpn_deltas", "anchors") for level in levels]
    assert list(trace) == ["molded", "c1", *blocks, *levels, *heads, *PER_PROPOSAL, *PER_DETECTION]
    assert trace["c1"].shape == (1, 32, 32, 16) and trace["p6"].shape == (1, 1, 1, 8)
    assert trace["rpn_logits.p2"].shape == (16 * 16 * 3,) and trace["rpn_deltas.p6"].shape == (3, 4)
    assert {len(trace[name]) for name in PER_PROPOSAL} == {len(trace["proposals"])}
    assert {len(trace[name]) for name in PER_DETECTION} == {5}
    assert trace["masks"].shape == (5, 64, 48) and trace["masks"].dtype == bool


def test_given_proposals_and_detections(model, image):
    free = trace_ours(model, image)
    given = {name: free[name][::-1][:4].copy() for name in GIVEN}
    forced = trace_ours(model, image, given=given)
    np.testing.assert_array_equal(forced["p2"], free["p2"])
    assert len(forced["class_logits"]) == len(forced["masks"]) == 4
    np.testing.assert_allclose(forced["class_logits"], free["class_logits"][::-1][:4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(forced["mask_logits"], free["mask_logits"][::-1][:4], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(forced["boxes"], free["boxes"][::-1][:4])
