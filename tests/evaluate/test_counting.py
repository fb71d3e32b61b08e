"""What is found from a score on: beside a loop, beside a matching of these detections alone, and beside `explain`."""

from __future__ import annotations

import numpy as np
import pytest
from naive_evaluate import METHODS, NAMES, THREE, loop_coco_outcomes, loop_iou, random_scene
from scenes import Samples, detections_of, sample_of
from staged import NAMES as STAGED
from staged import Stage

from mrcnn_np.detections import Detections
from mrcnn_np.evaluate import CocoEvaluator, Evaluator
from mrcnn_np.evaluate.counting import LEAST_OBJECTS, Matches, count_from_scores
from mrcnn_np.evaluate.split import evaluate_split
from mrcnn_np.explain.judge import Rules
from mrcnn_np.explain.report import explain_split


def evaluators(kind):
    yield from (Evaluator(NAMES, method=method, iou_type=kind) for method in METHODS)
    yield CocoEvaluator(NAMES, iou_type=kind)


def added(evaluator, detections, samples):
    for found, sample in zip(detections, samples):
        evaluator.add(found, sample)
    return evaluator.matches()


def loop_counts(detections, samples, kind, rule, score):
    """Objects, right, false and ignored detections above a score, one detection at a time."""
    objects = right = false = ignored = 0
    for whole, sample in zip(detections, samples):
        found = whole[whole.scores > np.float32(score)]
        for k in range(1, len(NAMES)):
            rows, demanded = loop_coco_outcomes(found, sample, k, kind, 0.5, 0, 1e10, 100)
            objects += demanded
            if rule == "coco":
                for _, matched, out in rows:
                    right, false, ignored = right + (matched and not out), false + (not matched), ignored + out
                continue
            taken = set()
            for d in sorted(np.flatnonzero(found.class_ids == k), key=lambda d: -float(found.scores[d])):
                here = [g for g in range(len(sample.gt_boxes)) if sample.gt_class_ids[g] == k]
                overlaps = {g: loop_iou(kind, found, sample, d, g, sample.gt_crowd[g]) for g in here}
                single = {g: v for g, v in overlaps.items() if not sample.gt_crowd[g]}
                best = max(single, key=single.get, default=None)
                if best is not None and single[best] >= 0.5:
                    if sample.gt_difficult[best]:
                        ignored += 1
                    elif best in taken:
                        false += 1
                    else:
                        right += 1
                        taken.add(best)
                elif any(v >= 0.5 for g, v in overlaps.items() if sample.gt_crowd[g]):
                    ignored += 1
                else:
                    false += 1
    return objects, right, false, ignored


@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("ties", [False, True])
def test_a_loop_counts_the_same(kind, ties):
    """Counted in it is matched anew at every score: what comes below changes nothing above."""
    detections, samples = random_scene(np.random.default_rng(3), images=16, ties=ties)
    for evaluator in evaluators(kind):
        rule = "coco" if isinstance(evaluator, CocoEvaluator) or evaluator.method == "coco" else "voc"
        matches = added(evaluator, detections, samples)
        expected = {s: loop_counts(detections, samples, kind, rule, s) for s in [i / 100 for i in range(100)]}
        counts = count_from_scores(matches)
        assert expected[0.5][0] >= LEAST_OBJECTS and counts.best is not None
        for one in (counts.default, counts.best, counts.balanced):
            if one is not None:
                assert (one.objects, one.right, one.false, one.ignored) == expected[one.score]
        f1 = {s: 2 * r / (objects + r + f) for s, (objects, r, f, _) in expected.items()}
        assert counts.best.f1 == f1[counts.best.score] == max(f1.values())
        off = {s: abs(objects - r - f) for s, (objects, r, f, _) in expected.items()}
        assert counts.balanced is None or abs(counts.balanced.missed - counts.balanced.false) == min(off.values())
        assert sum(one.right for one in counts.classes.values()) == counts.default.right
        assert sum(one.objects for one in counts.classes.values()) == counts.default.objects


def test_explain_counts_the_same():
    """`explain --score 0.5` lets nothing below be detected; here what was detected anyway is left out."""
    boxes = [(8, 8, 40, 40), (8, 60, 40, 92), (60, 8, 92, 40), (70, 70, 110, 110)]
    stage = Stage(boxes, [1, 2, 3, 1], detection_score_threshold=0.05)
    stage.certain = np.array([4.0, 2.0, 0.2, -0.7])  # of the background 0, of the other classes less
    stage.named[1] = 3
    low, model = [], stage.model
    for score in (0.5, 0.05):
        data = Samples([stage.sample])
        data.class_names, data.ids = STAGED, ("staged",)
        model.config = model.config.replace(detection_score_threshold=score)
        for method in ("voc10", "coco"):
            explained = explain_split(model, data, rules=Rules(method=method), oracles=False, progress=False)
            counts = evaluate_split(model, data, method=method, progress=False).counts
            low.append((explained, counts.default))
    for method in (0, 1):
        explained, at_half = low[method][0], low[method + 2][1]
        assert (len(explained.misses), len(explained.mistakes)) == (at_half.missed, at_half.false)
        assert explained.objects == at_half.objects == 4 and 0 < at_half.missed < 4 and at_half.false
        assert len(low[method + 2][0].mistakes) + len(low[method + 2][0].misses) != at_half.missed + at_half.false


def matches_of(scores, outcomes, objects, **more):
    """One class."""
    none = np.zeros(0)
    return Matches(NAMES[:2], "mask", (none, np.array(scores)), (none.astype(np.int8), np.array(outcomes, np.int8)),
                   np.array([0, objects]), 3, **more)  # fmt: skip


def test_by_hand():
    scores = [*[0.9] * 20, *[0.7] * 4, *[0.6] * 10, *[0.3] * 6, *[0.2] * 40]
    outcomes = [*[1] * 20, *[0] * 4, *[0] * 10, *[1] * 6, *[0] * 40]
    counts = count_from_scores(matches_of(scores, outcomes, 30), threshold=0.05)
    one = counts.default
    assert (one.score, one.right, one.false, one.missed, one.counted) == (0.5, 20, 14, 10, 34)
    assert one.f1 == pytest.approx(40 / 64) and one.as_dict()["precision"] == 20 / 34
    best, balanced = counts.best, counts.balanced
    assert 0.7 < best.score < 0.9 and (best.right, best.false) == (20, 0) and best.f1 == 0.8
    assert best.score == 0.8  # the middle of 0.70 .. 0.89
    assert balanced.score == 0.5 and abs(balanced.missed - balanced.false) == 4  # 34 are nearer to 30 than 24 or 20
    text = counts.table()
    assert [line.split("  ")[0] for line in text.splitlines()[:3]] == ["detect with", "--score 0.5", "--score 0.8"]
    assert "its default; as many missed as false" in text and "chosen on these very images" in text
    assert "20 (66.7%)" in text and "14 (41.2%)" in text


def test_no_score_is_proposed_without_reason():
    few = count_from_scores(matches_of([0.9] * 19, [1] * 19, 19))
    assert few.best is None and "19 objects are too few" in few.table() and "chosen on" not in few.table()
    assert few.as_dict()["best_f1"] is None and few.as_dict()["no_proposal_because"].startswith("19 objects")
    nothing = count_from_scores(matches_of([0.9] * 4, [0] * 4, 40))
    assert nothing.best is None and "no object is found with any" in nothing.table()
    empty = count_from_scores(matches_of([], [], 0))
    assert empty.default.as_dict()["recall"] is empty.default.as_dict()["precision"] is None and empty.table()
    short = count_from_scores(matches_of([0.9] * 20, [1] * 20, 40))
    assert short.best.score == 0.5 and short.balanced is None  # no score gives as many as there are
    assert "chosen on" not in short.table()  # there is no other score


def test_below_the_networks_threshold_nothing_is_said():
    counts = count_from_scores(matches_of([0.75] * 30, [1] * 30, 30), threshold=0.7)
    assert counts.default.score == 0.7 and 0.7 <= counts.best.score <= 0.74
    assert "the lowest that was measured" in counts.table()


def test_a_detection_of_just_that_score():
    """As the network compares, in float32: 0.56 as float32 is a little more than as a double."""
    matches = matches_of(np.full(30, 0.56, np.float32).astype(float), [1] * 30, 30)
    for inclusive in (True, False):
        best = count_from_scores(matches, threshold=0.56, inclusive=inclusive)
        assert best.default.right == (30 if inclusive else 0)


def test_what_is_ignored_and_what_is_cut_off_is_said():
    sample = sample_of(THREE, difficult=[True, False, False], crowd=[False, True, False])
    for evaluator in evaluators("mask"):
        matches = added(evaluator, [detections_of(THREE, [0.9, 0.8, 0.7])], [sample])
        counts = count_from_scores(matches)
        assert (counts.default.objects, counts.default.right, counts.default.ignored) == (1, 1, 2)
        assert "2 more detections from 0.5 on lie on crowds or difficult objects" in counts.table()
    many: Detections = detections_of([(0, 0, 4, 4)] * 120, [0.9] * 120)
    matches = added(CocoEvaluator(NAMES), [many], [sample])
    assert matches.limit == 100 and "the best 100 detections" in count_from_scores(matches).table()
    assert added(Evaluator(NAMES), [many], [sample]).limit is None


def test_what_was_learnt_proposes_nothing():
    stage = Stage([(8, 8, 40, 40)] * 1, [1])
    data = Samples([stage.sample] * 25)
    data.class_names = STAGED
    assert evaluate_split(stage.model, data, progress=False).counts.best.score == 0.5
    own = evaluate_split(stage.model, data, progress=False, learned_from=True).counts
    assert own.best is None and "has learnt these images" in own.table() and own.default.right == 25
