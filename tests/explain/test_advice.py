"""What to try: one line for each kind of mistake, and first of all whether the network is trained at all."""

import dataclasses
import re

import numpy as np
import pytest
from staged import NAMES, Stage

from mrcnn_np import presets
from mrcnn_np.data.few import Few
from mrcnn_np.explain.advice import (
    _LONGER,
    AGAINST_FALSE,
    AGAINST_MISSES,
    hardly_trained,
    in_full,
    never_taught,
    notes_on_costs,
    what_to_try,
)
from mrcnn_np.explain.deaths import STAGES, Miss
from mrcnn_np.explain.judge import KINDS, Rules
from mrcnn_np.explain.mistakes import Mistake
from mrcnn_np.explain.page import left_out, worth_telling
from mrcnn_np.explain.report import Explanation, explain_image
from mrcnn_np.explain.values import fill_in


def report_of(scores=(), mean_ap=0.2, **fields):
    return Explanation(NAMES, Rules(), 0.05, mean_ap=mean_ap, scores=list(scores), **fields)


def mistake(number, score, cost=0.0, kind="background"):
    return Mistake("i", number, 1, [0, 0, 1, 1], score, kind, None, 0.0, 0.0, None, 0.0, "text", cost)


def test_every_kind_has_its_advice():
    assert set(AGAINST_MISSES) == set(STAGES) and set(AGAINST_FALSE) == set(KINDS)
    for kind in KINDS:
        text = what_to_try(report_of(kinds={kind: (3, 0.01)}))
        assert kind in text and fill_in(AGAINST_FALSE[kind], report_of()) in text and "{" not in text
    assert what_to_try(report_of(kinds={"both": (0, 0.0)}, stages={"no anchor": (0, 0.0)})) == ""


def test_the_dearest_kind_comes_first():
    text = what_to_try(
        report_of(kinds={"duplicate": (1, 0.01), "background": (9, 0.2)}, stages={"bad mask": (1, 0.05)})
    )
    *table, remark = text.splitlines()
    assert [line.split("  ")[0] for line in table] == ["against", "background", "bad mask", "duplicate"]
    assert remark.startswith("(one at a time")


def test_scores_that_tell_nothing_apart_are_said_first():
    report = report_of([0.508] * 36)
    text = in_full(report, steps=111)
    first, second = text.splitlines()[0], text.splitlines()[2]
    assert first == "the network was trained for 111 steps only: train longer before anything else"
    assert second.startswith("the scores of all 36 detections lie between 0.508 and 0.508: the class head cannot tell")


@pytest.mark.parametrize(
    "scores, mean_ap, steps",
    [
        (np.linspace(0.05, 0.9, 30), 0.3, 500),  # spread
        ([0.97] * 30, 0.9, 100),  # sure of all, and right
        ([0.5] * 4, 0.3, None),  # too few to say
        ([], float("nan"), 10),  # nothing to find
    ],
)
def test_what_is_trained_is_not_told_to_train(scores, mean_ap, steps):
    assert hardly_trained(report_of(scores, mean_ap), steps) == []


def test_too_few_pictures_for_random_weights_are_not_told_to_train_longer():
    few = Few(2, 3, 40)
    (said,) = hardly_trained(report_of(mean_ap=0.1), 111, few)
    assert said.startswith(
        "the network began with random weights, and 2 of 3 classes are seen in fewer than 20 of the 40 pictures that"
    )
    assert "--weights" in said and "train longer" not in said
    (said,) = hardly_trained(report_of(mean_ap=0.1), 111, None)  # enough, but trained too short
    assert "train longer" in said
    assert hardly_trained(report_of(mean_ap=0.9), 111, few) == []  # it has learnt all the same


def test_what_the_network_began_with_is_named():
    few = Few(2, 3, 40, start="weights that know generated shapes only (runs/shapes)")
    (said,) = hardly_trained(report_of(mean_ap=0.1), 111, few)
    assert said.startswith("the network began with weights that know generated shapes only (runs/shapes), and 2 of 3 ")


def test_no_advice_is_given_against_what_was_never_taught():
    stage = Stage([(20, 20, 60, 60), (70, 70, 110, 110)], [1, 2])
    stage.named[1] = 1
    report = explain_image(stage.model, stage.sample)
    assert len(report.misses) == 1 and never_taught(report) == [] and what_to_try(report)
    report.untaught = (report.class_names[report.misses[0].class_id], "elephant")
    (said,) = never_taught(report)
    assert said.startswith(f"never taught: {report.untaught[0]} (1 missed). No picture") and said in in_full(report)
    assert report.misses[0].stage not in what_to_try(report)


def test_equal_scores_are_remarked_on_among_low_ones():
    """Detections from 0.05 on are counted; those that pictures show say whether the class head ranks anything."""
    (said,) = hardly_trained(report_of([*np.linspace(0.05, 0.49, 40), *[0.6] * 30]), None)
    assert said.startswith(
        "the scores of the 30 detections from 0.5 on, which pictures show, lie between 0.600 and 0.600"
    )
    assert hardly_trained(report_of([*np.linspace(0.05, 0.49, 40), *np.linspace(0.5, 0.99, 30)]), None) == []


def test_a_class_of_which_nothing_is_found_is_named():
    stage = Stage([(20, 20, 60, 60), (70, 70, 110, 110), (10, 70, 50, 110)], [1, 2, 2])
    stage.named[1] = stage.named[2] = 1
    report = explain_image(stage.model, stage.sample)
    assert report.lost_classes == {"square": 2} and report.stages["class score"] == (2, 0.5)
    assert [miss.cost for miss in report.misses] == [0.0, 0.0]
    (note,) = notes_on_costs(report)
    assert note.startswith("no object is found of: square (2). Such a class has AP 0, and counts as perfect")
    assert report.as_dict()["lost_classes"] == {"square": 2}


def test_an_oracle_that_lowers_ap_is_explained():
    as_it_is = dict.fromkeys(("box", "mask", "coco_box", "coco_mask"), 0.102)
    lower, same = as_it_is | {"mask": 0.042}, as_it_is | {"mask": 0.1019}
    (note,) = notes_on_costs(report_of(oracles={"as it is": as_it_is, "perfect proposals": lower, "x": same}))
    assert note.startswith("lower than as it is: perfect proposals. An oracle replaces one part")
    assert notes_on_costs(report_of(oracles={"as it is": as_it_is, "perfect proposals": as_it_is})) == []


def test_what_costs_nothing_and_scores_low_is_only_counted():
    low, high, dear = mistake(3, 0.06), mistake(2, 0.7), mistake(1, 0.06, 0.01)
    told = worth_telling([dear, high, low])
    assert told == [dear, high] and left_out([dear, high, low], told) == "and 1 more false detection, at no cost"
    many = [mistake(n, 0.9, 0.1) for n in range(15)] + [low]
    told = worth_telling(many)
    assert len(told) == 12 and left_out(many, told) == "and 4 more false detections, of which 3 cost something"


def test_longer_training_is_no_advice_where_it_cannot_help():
    for advice in (*AGAINST_MISSES.values(), *AGAINST_FALSE.values()):
        without = _LONGER.sub("", advice)
        assert without and "train longer" not in without and not without.startswith(";") and not without.endswith(";")


def of_stage(stage, **numbers):
    return Miss("i", 0, 1, [0, 0, 1, 1], stage, numbers, "text")


def test_no_setting_is_advice_for_a_network_that_finds_nothing():
    few, stages = Few(3, 3, 28), {"no anchor": (1, 0.0), "proposal ranked low": (11, 0.0), "class score": (8, 0.0)}
    misses = (
        [of_stage("no anchor")] + [of_stage("proposal ranked low", place=6183)] * 11 + [of_stage("class score")] * 8
    )
    known = {"config": presets.tiny(), "misses": misses, "stages": stages, "objects": 20}
    nothing = in_full(report_of(mean_ap=0.0, **known), few=few)
    assert "--config proposals" not in nothing and "--score 0" not in nothing and "one at a time" not in nothing
    assert "(no setting is proposed, such as proposals_pre_nms_test, --score: with 20 of 20 objects missed" in nothing
    assert "more images with such objects; look for wrong annotations\n" in nothing and "--size 256" in nothing
    kinds = ("box", "mask", "coco_box", "coco_mask")
    poor, good = ({"perfect proposals": dict.fromkeys(kinds, ap)} for ap in (0.01, 0.4))
    assert "no setting is proposed" in in_full(report_of(mean_ap=0.0, oracles=poor, **known))  # trained, and still
    for report, given in (
        (report_of(mean_ap=0.0, **known | {"objects": 40}), few),  # half of them are found
        (report_of(mean_ap=0.0, oracles=good, **known), None),  # it knows them, and does not propose them
        (report_of([0.3], mean_ap=0.0, **known | {"objects": 2, "misses": misses[:2]}), few),  # one picture says little
    ):
        text = in_full(report, few=given)
        assert "--config proposals_pre_nms_test=" in text and "no setting is proposed" not in text


def test_every_field_that_is_named_comes_with_its_value():
    """A name of a field in advice has its present value beside it, so that nobody has to look for it."""
    config = presets.tiny(detection_min_size=2.0)  # there is less than that
    fields = {field.name for field in dataclasses.fields(config)}
    for advice in (*AGAINST_MISSES.values(), *AGAINST_FALSE.values()):
        text = fill_in(advice, report_of(config=config))
        for name in re.findall(r"\w+_\w+", text):
            assert name not in fields or re.search(rf"{name}(=\S+)? \([\d., ]+ now\)", text), text
        for option in re.findall(r"--(?:score|size)[^;]*", text):
            assert " now" in option, text


def test_words_that_are_not_common_are_explained_where_they_come_first():
    as_it_is = dict.fromkeys(("box", "mask", "coco_box", "coco_mask"), 0.5)
    report = report_of(config=presets.tiny(), oracles={"as it is": as_it_is}, stages={"class score": (1, 0.1)})
    text = report.table()
    assert text.index("AP cost: by how much AP would rise") < text.index("count  AP cost")
    assert (
        text.index("oracle: one part of the network replaced by the truth") < re.search("oracle +box AP", text).start()
    )
    assert "oracle" not in report_of().table()
