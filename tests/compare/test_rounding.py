"""What rounding decides, and what follows from it: our own network plays both sides, so no framework is needed."""

import numpy as np
import pytest
from nets import make_sample, small_config

from mrcnn_np import MaskRCNN
from mrcnn_np.compare.comparison import compare
from mrcnn_np.compare.rounding import FollowTheirRounding, rounded_otherwise
from mrcnn_np.compare.trace import GIVEN, trace_ours
from mrcnn_np.synthetic import params_that_detect

IMAGE = make_sample(np.random.default_rng(1), size=(64, 48)).image


@pytest.fixture(scope="module")
def model():
    config = small_config(detection_score_threshold=0.05, detections_per_image=6)
    return MaskRCNN(config, params_that_detect(config))


def other_side(model, name, rows, given=None):
    """The same network, but for one row of bins that is 0 in the features of these RoIs; which rows may be so."""

    def lose(which, used):
        x = used[which].copy()
        if which == name:
            x[rows, -1] = 0
        return x

    theirs = trace_ours(model, IMAGE, given=given, follow=lose)
    theirs[name][rows, -1] = 0
    left_to_rounding = {name: np.arange(len(theirs[name])) < 10}
    return theirs, left_to_rounding


@pytest.mark.parametrize(("name", "rows"), [("box_features", [3, 4]), ("mask_features", [1])])
def test_what_follows_from_a_row_rounded_otherwise_is_no_difference(model, name, rows):
    theirs, left_to_rounding = other_side(model, name, rows)
    free = compare(trace_ours(model, IMAGE), theirs, left_to_rounding=left_to_rounding)
    assert not free.agree and free.first.name in ("class_logits", "mask_logits")
    ours = trace_ours(model, IMAGE, follow=FollowTheirRounding(theirs, left_to_rounding, 1e-4))
    result = compare(ours, theirs, left_to_rounding=left_to_rounding)
    assert result.agree and f"without {len(rows)} of " in str(result)
    after = [row for row in result.rows if row.name in ("class_logits", "detection_boxes", "mask_logits", "masks")]
    assert len(after) == 4 and all(row.max_abs == 0 and not row.note for row in after)  # and nothing else is forgiven


def test_a_row_rounded_otherwise_where_the_boxes_are_given(model):
    free = trace_ours(model, IMAGE)
    given = {name: free[name][::-1] for name in GIVEN if name != "molded"}
    theirs, left_to_rounding = other_side(model, "box_features", [2], given)
    theirs |= given
    ours = trace_ours(model, IMAGE, given=given, follow=FollowTheirRounding(theirs, left_to_rounding, 1e-4))
    np.testing.assert_array_equal(ours["class_logits"], theirs["class_logits"])


def test_a_row_that_rounding_does_not_decide_stays_a_difference(model):
    theirs, left_to_rounding = other_side(model, "box_features", [11])
    ours = trace_ours(model, IMAGE, follow=FollowTheirRounding(theirs, left_to_rounding, 1e-4))
    assert compare(ours, theirs, left_to_rounding=left_to_rounding).first.name == "box_features"


def test_rounded_otherwise_by_hand():
    b = np.ones((10, 2, 3))
    a, left_to_rounding = b.copy(), np.arange(10) < 8
    a[[1, 9], 0, 0] += 0.1
    assert np.flatnonzero(rounded_otherwise(a, b, left_to_rounding, 1e-3)).tolist() == [1]
    assert not rounded_otherwise(a, b, left_to_rounding, 0.2).any()
    a[:4, 1, 1] = 0  # 4 of 8: more than rounding explains
    assert not rounded_otherwise(a, b, left_to_rounding, 1e-3).any()
