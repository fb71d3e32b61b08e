"""What is said of a false detection: its kind, its object, and whether the object goes under two names."""

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
    assert (mistake.kind, mistake.object, mistake.second_name_of, mistake.name_iou) == ("wrong class", 0, 1, 1.0)
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
