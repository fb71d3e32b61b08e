"""Names of classes that may be one are told, and those that are two are not, however rare one of them is."""

import pytest

from mrcnn_np.data import COCO_CATEGORIES, VOC_CLASSES
from mrcnn_np.data.spelling import spelt_twice

COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, "
    "mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, "
    "teddy bear, hair drier, toothbrush"
)
VOC = (
    "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person, "
    "pottedplant, sheep, sofa, train, tvmonitor"
)
CITYSCAPES = (
    "unlabeled, ego vehicle, rectification border, out of roi, static, dynamic, ground, road, sidewalk, parking, "
    "rail track, building, wall, fence, guard rail, bridge, tunnel, pole, polegroup, traffic light, traffic sign, "
    "vegetation, terrain, sky, person, rider, car, truck, bus, caravan, trailer, train, motorcycle, bicycle, "
    "license plate"
)


@pytest.mark.parametrize("names", [COCO, VOC, CITYSCAPES], ids=["coco", "voc", "cityscapes"])
def test_no_false_alarm(names):
    """Whichever class is the frequent one, and all others rare."""
    names = names.split(", ")
    for frequent in [None, *names]:
        assert spelt_twice(dict.fromkeys(names, 1) | ({frequent: 10**6} if frequent else {})) == []
    assert spelt_twice(dict.fromkeys(names, 0)) == []


def test_the_lists_are_those_of_the_package():
    assert tuple(COCO.split(", ")) == tuple(COCO_CATEGORIES.values()) and tuple(VOC.split(", ")) == VOC_CLASSES[1:]


DIFFERENT = [
    "cat car can", "bus but bush", "a1 a2", "class1 class2 class10", "class 1|class 2", "left right", "A a B b",
    "1-2 12", "horse house", "truck track", "coach couch", "glass grass", "type a|type b", "classa classb",
    "gradeA gradeB", "table cable", "kitten mitten", "typical atypical", "person rider", "glove globe", "bu bus",
    "高速公路桥 高速铁路桥", "as a", "clas class", "inner outer", "male female", "plane planet", "mask1 mask11",
    "v1.0 v1.1", "bolt bolts1", "bolt boat", "bolt colt", "nut nuts2", "mask task", "bolt bol", "cat cta",
]  # fmt: skip


@pytest.mark.parametrize("names", DIFFERENT)
def test_names_that_are_two(names):
    split = names.split("|") if "|" in names else names.split()
    for frequent in split:
        assert spelt_twice(dict.fromkeys(split, 1) | {frequent: 1000}) == []


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("cat", "Cat", "capitals, spaces or dashes"),
        ("traffic light", "traffic_light", "capitals, spaces or dashes"),
        ("traffic light", "TrafficLight", "capitals, spaces or dashes"),
        ("class 1", "class_1", "capitals, spaces or dashes"),
        ("cat", "cat_", "capitals, spaces or dashes"),
        ("dog", "dogs", "the plural"),
        ("Traffic light", "traffic-lights", "the plural"),
        ("bus", "buses", "the plural"),
        ("berry", "Berries", "the plural"),
    ],
)
def test_spellings_that_are_one_however_frequent(one, other, how):
    assert spelt_twice({other: 0, one: 1}) == [(how, (one, other))]
    assert spelt_twice({one: 500, "rider": 3, other: 499}) == [(how, (one, other))]


@pytest.mark.parametrize("wrong", ["persn", "persson", "preson", "parson", "perosn", "personn", "Persn"])
def test_misspelt_names(wrong):
    assert spelt_twice({"person": 100, "car": 50, wrong: 5}) == [("one letter", ("person", wrong))]
    assert spelt_twice({"person": 100, wrong: 6}) == [] and spelt_twice({"person": 100, wrong: 0}) == []


def test_in_one_of_several_words_and_three_ways_to_spell_one():
    assert spelt_twice({"traffic light": 40, "trafic light": 2}) == [("one letter", ("traffic light", "trafic light"))]
    assert spelt_twice({"traffic light": 40, "trafic lihgt": 2}) == []
    assert spelt_twice({"tabel": 1, "table": 20}) == [("one letter", ("table", "tabel"))]
    assert spelt_twice({"bolt": 84, "nut": 70, "blot": 1}) == [("one letter", ("bolt", "blot"))]
    three = spelt_twice({"dog": 3, "Dogs": 9, "DOG": 1, "cat": 2})
    assert three == [("the plural", ("Dogs", "dog", "DOG"))]
    assert spelt_twice({}) == []
