"""The account of every box agrees, bit for bit, with what the network returns."""

import numpy as np
import pytest
from nets import small_config

import kernels
from mrcnn_np import presets
from mrcnn_np.boxes import enter_frame, iou
from mrcnn_np.explain.trail import KEPT, LIMIT, NMS, SCORE, SIZE, TOP_K, follow
from mrcnn_np.model import MaskRCNN
from mrcnn_np.molding import mold_image
from mrcnn_np.synthetic import params_that_detect, picture

CONFIGS = {
    "tiny": {},
    "softmax, one pool": {"rpn_objectness": "softmax", "proposals_per_level": False},
    "argmax, centres": {
        "detection_classes": "argmax", "detection_score_inclusive": True, "box_frame": "centres",
        "proposals_window": "canvas", "proposals_min_size": None, "detection_min_size": None,
    },
    "small boxes go": {"proposals_min_size": 20.0, "detection_min_size": 20.0},
    "one name each": {"detection_nms_per_class": False, "detection_nms_iou": 0.2, "detections_per_image": 5},
    "strict": {"proposals_nms_iou": 0.3, "detection_nms_iou": 0.1, "detections_per_image": 3},
    "nothing": {"detection_score_threshold": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("backend, dtype", [("numpy", np.float32), ("numpy", np.float64), ("cpu", np.float32)])
def test_what_stays_is_what_the_network_returns(changes, backend, dtype):
    with kernels.use(backend):
        check(small_config(**{"detection_score_threshold": 0.05, **changes}), picture((64, 96)), dtype)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_the_same_for_many_classes(backend):
    """So many boxes that the compiled decoder does not hand them back."""
    config = presets.small(num_classes=81, detection_score_threshold=0.02)
    with kernels.use(backend):
        check(config, picture((200, 256)), np.float32)


def check(config, image, dtype):
    params = {name: p.astype(dtype) for name, p in params_that_detect(config, seed=3).items()}
    model = MaskRCNN(config, params)
    seen = {}
    molded, molding = mold_image(image, config, model.dtype)
    found = model.detect_molded(molded[None], molding, observe=lambda name, x: seen.update({name: x}))
    trail = follow(model, image)

    np.testing.assert_array_equal(trail.first.boxes[trail.first.kept], seen["proposals"])
    np.testing.assert_array_equal(trail.second.boxes[trail.second.kept], seen["detection_boxes"])
    np.testing.assert_array_equal(trail.second.scores[trail.second.kept], seen["detection_scores"])
    np.testing.assert_array_equal(trail.second.kept % config.num_classes, seen["detection_classes"])
    np.testing.assert_array_equal(trail.detections.boxes, found.boxes)
    np.testing.assert_array_equal(trail.detections.masks, found.masks)

    for fates, threshold in ((trail.first, config.proposals_nms_iou), (trail.second, config.detection_nms_iou)):
        assert set(np.flatnonzero(fates.fate == KEPT)) == set(fates.kept)
        weak = np.flatnonzero(fates.fate == NMS)
        assert (fates.by[weak] >= 0).all() and (np.delete(fates.by, weak) == -1).all()
        by, frame = fates.by[weak], config.box_frame
        overlaps = iou(enter_frame(fates.boxes[weak], frame), enter_frame(fates.boxes[by], frame)).diagonal()
        assert (overlaps > threshold - 1e-6).all()
        assert (fates.scores[by] >= fates.scores[weak]).all()
        assert np.isin(fates.fate[by], (KEPT, LIMIT)).all()


def test_each_step_takes_something():
    """The configurations above would prove nothing if boxes were only ever kept."""
    taken = set()
    for changes in CONFIGS.values():
        config = small_config(**{"detection_score_threshold": 0.05, **changes})
        trail = follow(MaskRCNN(config, params_that_detect(config, seed=3)), picture((64, 96)))
        taken |= {("first", int(f)) for f in trail.first.fate} | {("second", int(f)) for f in trail.second.fate}
    assert taken == {("first", f) for f in (TOP_K, SIZE, NMS, LIMIT, KEPT)} | {
        ("second", f) for f in (SCORE, SIZE, NMS, LIMIT, KEPT)
    }


def test_places_count_within_the_level():
    config = small_config()
    trail = follow(MaskRCNN(config, params_that_detect(config, seed=3)), picture((64, 64)))
    for level in range(2, 7):
        of = trail.level == level
        assert sorted(trail.place[of]) == list(range(of.sum()))
        assert (np.diff(trail.first.scores[of][np.argsort(trail.place[of])]) <= 0).all()
