"""What advice tells to try is a configuration, goes the way it says, and saves the objects that it is said for."""

import re
import shlex

import pytest
from staged import NAMES, Stage

from mrcnn_np import presets
from mrcnn_np.explain.advice import AGAINST_FALSE, AGAINST_MISSES, what_to_try
from mrcnn_np.explain.deaths import RANKED, RPN_NMS, SUPPRESSED, Miss
from mrcnn_np.explain.judge import Rules
from mrcnn_np.explain.report import Explanation, explain_image
from mrcnn_np.explain.values import VALUES, fill_in

A, B = (20, 20, 60, 60), (70, 70, 110, 110)


def report_of(config=None, misses=()):
    return Explanation(NAMES, Rules(), 0.05, config=config, misses=list(misses))


def miss(stage, **numbers):
    return Miss("i", 0, 1, [0, 0, 1, 1], stage, numbers, "text")


def pasted(text):
    words = shlex.split(text.replace(";", " ").replace(",", " "))
    return [words[i + 1] for i, word in enumerate(words) if word == "--config"]


@pytest.mark.parametrize("preset", sorted(presets.PRESETS))
def test_what_is_told_can_be_pasted(preset):
    """Of every preset: the options make a configuration in which the field has moved the way that is meant."""
    config = presets.PRESETS[preset]()
    for advice in (*AGAINST_MISSES.values(), *AGAINST_FALSE.values()):
        text = fill_in(advice, report_of(config))
        assert "{" not in text and "..." not in text
        changed = config.with_overrides(pasted(text))
        for way, name in re.findall(r"{(more|less) (\w+)}", advice):
            if name in ("size", "score"):
                continue
            now, then = getattr(config, name), getattr(changed, name)
            assert then == now or (then > now) == (way == "more"), text
            assert then != now or not now, text  # of a field that is 0 or none nothing less is told
            assert f"{name}=" in text or not now


def test_values_by_hand():
    config = presets.tiny()
    tell = {name: fill_in(f"{{{way} {name}}}", report_of(config)) for way, name in VALUES}
    assert tell["proposals_pre_nms_test"] == "--config proposals_pre_nms_test=1200 (400 now)"
    assert tell["detections_per_image"] == "--config detections_per_image=100 (50 now)"
    assert tell["mask_pool_size"] == "--config mask_pool_size=28 (14 now)"
    assert fill_in("{more detection_nms_iou}", report_of(config)) == "--config detection_nms_iou=0.5 (0.4 now)"
    assert fill_in("{less detection_nms_iou}", report_of(config)) == "--config detection_nms_iou=0.3 (0.4 now)"
    assert fill_in("{less score}", report_of(config)) == "--score 0.025 (0.05 now)"
    assert fill_in("{more score}", report_of(config)) == "--score (0.05 now; `mrcnn-np eval` says which does best)"
    assert fill_in("{more size}", report_of(config)) == "--size 256 (128 now)"
    assert fill_in("{now anchor_sizes}", report_of(config)) == "anchor_sizes (12, 20, 32, 52, 84 now)"
    wide = presets.torchvision()
    assert fill_in("{more size}", report_of(wide)).startswith(
        "--config image_min_size=1600 --config image_max_size=2666"
    )


def test_values_by_what_was_missed():
    config = presets.tiny()
    low = report_of(config, [miss(RANKED, place=n) for n in (812, 401, 2345)])
    assert fill_in("{more proposals_pre_nms_test}", low) == "--config proposals_pre_nms_test=2400 (400 now)"
    for stage, name, now in ((SUPPRESSED, "detection_nms_iou", 0.4), (RPN_NMS, "proposals_nms_iou", 0.7)):
        close = report_of(config, [miss(stage, by_iou=now + d) for d in (0.01, 0.13, 0.25)])
        assert fill_in(f"{{more {name}}}", close) == f"--config {name}={now + 0.15:g} ({now:g} now)"
    same = report_of(config, [miss(SUPPRESSED, by_iou=0.99)])
    assert fill_in("{more detection_nms_iou}", same).startswith("--config detection_nms_iou=0.7 ")


def test_without_a_configuration_the_direction_is_left():
    assert fill_in("{more detections_per_image}", report_of()) == "detections_per_image=... (more)"
    assert fill_in("{now anchor_sizes}", report_of()) == "anchor_sizes"


def test_a_value_that_is_not_allowed_is_not_told():
    config = presets.tiny(mask_pool_size=40)
    assert fill_in("{more mask_pool_size}", report_of(config)) == "mask_pool_size (more than 40)"
    assert fill_in("{more proposals_nms_iou}", report_of(presets.tiny(proposals_nms_iou=0.97))).endswith("than 0.97)")


def test_the_value_saves_the_object():
    """An object whose anchor ranks too low, and one that a neighbour suppresses, are found with what is told."""
    low = Stage([A, B], proposals_pre_nms_test=1)
    low.proposed[0], low.logits[1] = (20, 20, 60, 61), -12
    close = Stage([A, (20, 34, 60, 74), B], [1, 1, 2], detection_nms_iou=0.3)
    for stage, lost in ((low, RANKED), (close, SUPPRESSED)):
        report = explain_image(stage.model, stage.sample, class_names=NAMES)
        assert [one.stage for one in report.misses] == [lost]
        stage.config = stage.model.config = stage.config.with_overrides(pasted(what_to_try(report)))
        left = [one.stage for one in explain_image(stage.model, stage.sample, class_names=NAMES).misses]
        assert left == (["proposal cut off"] if lost == RANKED else [])  # 200 others still rank before it
