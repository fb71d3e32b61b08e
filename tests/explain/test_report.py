"""``explain_split`` on staged images: counts, costs, order, JSON and text."""

import json
from dataclasses import replace

import numpy as np
import pytest
from staged import NAMES, Stage

from mrcnn_np.errors import DataError
from mrcnn_np.explain import explain_image, explain_split, page
from mrcnn_np.explain.judge import KINDS, Rules
from mrcnn_np.explain.page import draw_mistakes, in_words, mistakes_in
from mrcnn_np.pictures.canvas import add_text

A, B = (20, 20, 60, 60), (70, 70, 110, 110)


class Images:
    """Samples in memory as a data set; None is one that cannot be read."""

    class_names = NAMES

    def __init__(self, *samples):
        self.samples, self.ids = samples, tuple(f"i{n}" for n in range(len(samples)))

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        if self.samples[index] is None:
            raise DataError(f"{self.ids[index]} is broken", image_id=self.ids[index])
        return self.samples[index].replace(image_id=self.ids[index])


def explain(stage, *samples, **options):
    return explain_split(stage.model, Images(*samples), progress=False, **options)


def wrong_class():
    stage = Stage([A, B], [1, 2])
    stage.named[1] = 1
    return stage


def test_a_missed_object_and_the_detection_that_names_it_wrongly():
    stage = wrong_class()
    report = explain(stage, stage.sample, oracles=False)
    (miss,), (mistake,) = report.misses, report.mistakes
    assert (miss.stage, miss.number, mistake.kind, mistake.object) == ("class score", 2, "wrong class", 2)
    assert (report.images, report.objects, report.mean_ap) == (1, 2, 0.5)
    assert (miss.cost, report.stages["class score"]) == (0.5, (1, 0.5))
    assert (mistake.cost, report.kinds["wrong class"]) == (0.5, (1, 0.5))
    assert (report.all_missed, report.all_false) == (0.5, 0.0)
    assert "IoU 1.000 with object 2, a square" in mistake.text
    assert in_words(miss, NAMES).startswith("missed: object 2, a square: class score: of 1 proposals")
    assert report.costs_of_images() == {"i0": 1.0}


def test_the_text_and_the_json_have_every_number():
    stage = wrong_class()
    report = explain(stage, stage.sample, stage.sample)
    text, record = report.table(), json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert "AP 0.500 (voc10, mask IoU >= 0.5, scores above 0.05, 2 images)" in text
    assert "2 of 4 objects missed" in text and "2 detections false" in text and "perfect classes" in text
    assert set(record["kinds"]) == set(KINDS) and record["kinds"]["wrong class"] == {"count": 2, "ap_cost": 0.5}
    assert [one["class"] for one in record["missed"]] == ["square"] * 2
    assert {one["image_id"] for one in record["false"]} == {"i0", "i1"}
    assert record["oracles"]["as it is"] == dict.fromkeys(("box", "mask", "coco_box", "coco_mask"), 0.5)


def test_an_image_whose_id_tells_no_file_is_named_with_it():
    stage = wrong_class()
    places = ("", "mine/i1.jpg", "coco/val2017/000000000139.jpg")
    report = explain(stage, *(stage.sample.replace(path=path) for path in places), oracles=False)
    assert [report.named(f"i{n}") for n in range(4)] == ["i0", "i1", "i2 (000000000139.jpg)", "i3"]
    record = report.as_dict()
    for one in record["missed"] + record["false"]:
        assert one["file"] == {"i0": "", "i1": "i1.jpg", "i2": "000000000139.jpg"}[one["image_id"]]


def test_it_is_said_what_all_of_them_means():
    """To leave a badly placed detection out gains less than to set it right, so the sum may be below a part."""
    stage = wrong_class()
    lines = explain(stage, stage.sample, oracles=False).table().splitlines()
    missed, false = [line for line in lines if line.startswith("all of them")]
    assert missed.endswith("  none of them asked for")
    assert false.endswith("  left out; above, wrong class is set right where the object is free, which may gain more")
    stage = Stage([A, B], [1, 2])
    table = explain(stage, stage.sample.of_objects([0]), oracles=False).table()  # background only
    assert table.splitlines()[-1].endswith("  left out")


def test_a_table_of_nothing_is_left_out():
    stage = Stage([A, B], [1, 2])
    table = explain(stage, stage.sample, oracles=False).table()
    assert "\n\nnone of 2 objects is missed\n\nno detection is false" in table and "all of them" not in table


def test_pictures_have_the_numbers_of_the_sentences(monkeypatch):
    stage = wrong_class()
    report = explain(stage, stage.sample, oracles=False)
    (found,) = stage.model.detect([stage.sample.image])
    labels = []
    monkeypatch.setattr(page, "add_labels", lambda ax, boxes, captions, *rest: labels.append(captions))
    misses, (mistake,) = mistakes_in(report, "i0")
    draw_mistakes(stage.sample, found, misses, [mistake], NAMES)
    assert labels == [["2 square: class score"], [f"det 2 circle {mistake.score:.2f}: wrong class"]]
    labels.clear()
    draw_mistakes(stage.sample, found, [], [replace(mistake, object=1, second_name_of=1)], NAMES)
    assert labels == [["1"], [f"det 2 circle {mistake.score:.2f}: wrong class", "det 1"]]


def test_dearest_first():
    """What costs nothing comes last: a detection of background below all right ones."""
    stage = wrong_class()
    other = stage.sample.of_objects([0])
    report = explain(stage, other, stage.sample, oracles=False)
    assert {one.kind for one in report.mistakes} == {"background", "wrong class"}
    costs = [one.cost for one in report.mistakes]
    assert costs == sorted(costs, reverse=True) and costs[0] > 0
    assert report.mistakes[0].kind == "wrong class"
    assert [*report.costs_of_images()] == ["i1", "i0"]


def test_nothing_to_find_and_nothing_found():
    stage = Stage([], [])
    report = explain(stage, stage.sample)
    assert np.isnan(report.mean_ap) and report.as_dict()["mean_ap"] is None
    assert report.misses == report.mistakes == [] and "none of 0 objects is missed" in report.table()
    none = explain(stage)
    assert none.images == 0 and none.table()


def test_broken_images():
    stage = Stage([A], [1])
    with pytest.raises(DataError, match="i0 is broken"):
        explain(stage, None, stage.sample)
    report = explain(stage, None, stage.sample, skip_bad=True, oracles=False)
    assert (report.images, report.mean_ap, [*report.skipped]) == (1, 1.0, ["i0"])
    with pytest.raises(DataError, match="none of the 2 images"):
        explain(stage, None, None, skip_bad=True)


def test_one_image_by_itself():
    stage = wrong_class()
    report = explain_image(stage.model, stage.sample)
    assert [one.stage for one in report.misses] == ["class score"] and report.class_names == NAMES
    stage.model.class_names = ()
    assert explain_image(stage.model, stage.sample).class_names == ("background", "class 1", "class 2", "class 3")


def test_the_rules_are_those_that_are_given():
    stage = Stage([A, B], [1, 1])
    stage.moved[1] = (70, 80, 110, 120)  # IoU 0.6
    assert explain(stage, stage.sample, oracles=False).misses == []
    strict = explain(stage, stage.sample, oracles=False, rules=Rules("coco", "box", 0.75))
    assert [one.stage for one in strict.misses] == ["box placed badly"]
    assert [one.kind for one in strict.mistakes] == ["badly placed"]


def test_the_same_bits_twice():
    reports = []
    for _ in range(2):
        stage = wrong_class()
        reports.append(explain(stage, stage.sample).as_dict())
    assert reports[0] == reports[1]


def test_a_picture_shows_both_sides(monkeypatch):
    stage, written = wrong_class(), []
    monkeypatch.setattr(page, "add_text", lambda *args, **style: written.append(args[3]) or add_text(*args, **style))
    report = explain(stage, stage.sample, oracles=False)
    (found,) = stage.model.detect([stage.sample.image])
    picture = draw_mistakes(stage.sample, found, *mistakes_in(report, "i0"), NAMES)
    half = picture.shape[1] // 2
    for side, colour in ((picture[:, :half], (0xD6, 0x27, 0x28)), (picture[:, half:], (0x3A, 0x86, 0xFF))):
        assert (side == colour).all(axis=2).any()
    told = [text.replace("\n", " ") for text in written if "green" in text]
    assert told == ["objects: 1 missed (red), found ones green", "detections: 1 false (blue), right ones green"]
    written.clear()
    (mistake,) = report.mistakes
    cheap = replace(mistake, cost=0.0, score=0.1)
    for told, mistakes in (
        ("1 of the false ones drawn: what costs AP or scores 0.5 or more", [mistake, cheap]),
        ("none of the false ones drawn: none costs AP or scores 0.5 or more", [cheap]),
        ("12 of the false ones drawn: what costs most, then what scores highest", [mistake] * 13),
    ):
        draw_mistakes(stage.sample, found, [], mistakes, NAMES)
        title = written[-1].replace("\n", " ")
        assert title == f"detections: {len(mistakes)} false (blue), right ones green; {told}"
    empty = draw_mistakes(stage.sample.of_objects([]), found.above(2.0), [], [], NAMES)
    assert empty.shape == picture.shape
