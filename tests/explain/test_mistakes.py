"""What is said of a false detection: its kind, its object, and whether the object goes under two names."""

import numpy as np
from staged import Stage

from mrcnn_np.explain import explain_image
from mrcnn_np.explain.page import in_words

A, B = (20, 20, 60, 60), (70, 70, 110, 110)


def under_two_names(logit, **config):
    """Stage a circle whose proposal is called a square, too."""
    stage = Stage([A], [1], **config)
    one_name = stage.model._class_logits

    def two_names(x, seen):
        logits = one_name(x, seen)
        logits[logits[:, 0] == 0, 2] = logit
        return logits

    stage.model._class_logits = two_names
    return stage


def test_one_object_under_two_names():
    """Detections count from 1 as in what ``detect`` writes, the best score first."""
    stage = under_two_names(3.0)
    report = explained(stage)
    (mistake,) = report.mistakes
    assert (mistake.kind, mistake.object, mistake.second_name_of, mistake.name_iou) == ("wrong class", 1, 1, 1.0)
    assert "which detection 1 finds rightly: one object under two names (IoU of the boxes 1.000)" in mistake.text
    (record,) = report.as_dict()["false"]
    assert (record["number"], record["second_name_of"]) == (2, 1)
    assert in_words(mistake, report.class_names).startswith("false: detection 2, square ")


def test_a_better_wrong_name_is_no_second_one():
    """Suppressing across classes would leave the wrong one there."""
    report = explained(under_two_names(4.5))
    (mistake,) = report.mistakes
    assert (mistake.kind, mistake.number, mistake.second_name_of, mistake.name_iou) == ("wrong class", 1, None, 0.0)
    assert "two names" not in mistake.text


def test_a_badly_placed_detection_beside_one_that_is_right():
    stage = Stage([A, B])
    # a region of its own beside A, less certain, that overlaps the object by 0.33
    extra = (20, 40, 60, 80)
    stage.objects = np.concatenate([stage.objects, [extra]]).astype(np.float32)
    stage.proposed, stage.moved = stage.objects.copy(), stage.objects.copy()
    stage.logits, stage.certain = np.array([6.0, 5, 4]), np.array([5.0, 4, 3])
    stage.named, stage.masked = np.ones(3, np.int64), np.ones(3, bool)
    report = explained(stage)
    (mistake,) = report.mistakes
    assert (mistake.kind, mistake.number, mistake.found_by) == ("badly placed", 3, 1)
    assert mistake.text.endswith(", which detection 1 finds rightly")
    assert report.as_dict()["false"][0]["found_by"] == 1


def test_suppressed_across_classes():
    report = explained(under_two_names(3.0, detection_nms_per_class=False))
    assert report.mistakes == [] and report.misses == []


def test_other_kinds_have_one_name():
    stage = Stage([A, B], [1, 2])
    stage.named[1] = 1
    (mistake,) = explained(stage).mistakes
    assert (mistake.kind, mistake.second_name_of) == ("wrong class", None)


def explained(stage):
    return explain_image(stage.model, stage.sample)
