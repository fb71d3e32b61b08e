"""Right or wrong as the evaluation has it; every kind of false detection by hand."""

import numpy as np
import pytest
from judged_images import NAMES, random_image
from scenes import detections_of, sample_of

from mrcnn_np.evaluate import Evaluator
from mrcnn_np.explain.costs import Costs, Ledger
from mrcnn_np.explain.judge import KINDS, Rules, judge


@pytest.mark.parametrize("iou_type", ["mask", "box"])
@pytest.mark.parametrize("method", ["voc07", "voc10", "coco"])
def test_average_precision_is_that_of_the_evaluation(method, iou_type):
    rng = np.random.default_rng(5)
    rules, ledger = Rules(method, iou_type, 0.5), Ledger(len(NAMES), method)
    evaluator = Evaluator(NAMES, method=method, iou_type=iou_type)
    kinds = set()
    for number in range(40):
        sample, found = random_image(rng, number)
        judged = judge(found, sample, len(NAMES), rules)
        ledger.add(found.class_ids, found.scores, sample.gt_class_ids, judged)
        evaluator.add(found, sample)
        kinds |= set(judged.kinds)
    expected = evaluator.result()
    costs = Costs(ledger)
    np.testing.assert_array_equal(costs.ap[1:], expected.ap[1:])
    assert costs.mean_ap == expected.mean_ap
    assert int(costs.demanded.sum()) == expected.gt.sum() and len(costs.missed()) == (expected.gt - expected.tp).sum()
    assert kinds == {*KINDS, ""}


def test_cocos_limit_holds_here_too():
    sample = sample_of([(0, 0, 10, 10)])
    boxes = [(10, 10, 20, 20)] * 100 + [(0, 0, 10, 10)]
    found = detections_of(boxes, np.linspace(1, 0.1, 101))
    assert judge(found, sample, 2, Rules("voc10")).found.tolist() == [True]
    judged = judge(found, sample, 2, Rules("coco"))
    assert judged.found.tolist() == [False] and judged.outcome[100] == -1


@pytest.mark.parametrize("iou_type", ["mask", "box"])
def test_each_kind_by_hand(iou_type):
    sample = sample_of([(0, 0, 10, 10), (10, 10, 20, 20)], [1, 2])
    found = detections_of(
        [(0, 0, 10, 10), (0, 0, 10, 9), (0, 0, 10, 8), (0, 0, 10, 4), (0, 0, 10, 4), (0, 12, 8, 20), (10, 10, 20, 20)],
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
        [1, 1, 2, 1, 2, 1, 2],
    )
    judged = judge(found, sample, len(NAMES), Rules("voc10", iou_type))
    assert judged.kinds == ("", "duplicate", "wrong class", "badly placed", "both", "background", "")
    assert judged.target.tolist() == [-1, 0, 0, 0, 0, -1, -1]
    assert judged.matched.tolist() == [0, -1, -1, -1, -1, -1, 1]
    assert judged.found.all() and judged.demanded.all()


def test_nothing_there():
    for objects, found in (([], []), ([(0, 0, 5, 5)], []), ([], [(0, 0, 5, 5)])):
        judged = judge(detections_of(found, [0.5] * len(found)), sample_of(objects), 2, Rules())
        assert judged.kinds == ("background",) * len(found)
        assert judged.found.shape == (len(objects),) and not judged.found.any()


@pytest.mark.parametrize("threshold", [0.1, 0.0, 1.5, float("nan")])
def test_a_threshold_below_background_is_refused(threshold):
    with pytest.raises(ValueError, match="iou_threshold"):
        Rules(iou_threshold=threshold)
