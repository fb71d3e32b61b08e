"""What is suggested is measured, and lowers nothing that matters: on made data sets and on real ones."""

import dataclasses
import os

import numpy as np
import pytest
from scenes import Samples, sample_of

from mrcnn_np import presets
from mrcnn_np.data import open_dataset
from mrcnn_np.fit import measure
from mrcnn_np.fit.anchor_fit import AnchorFit
from mrcnn_np.fit.suggest import MARGIN


def made(kind, *, images=3, canvas=256):
    """Images of 12 objects whose height and width are drawn as ``kind`` says."""
    rng = np.random.default_rng(0)
    draw = {
        "one size": lambda: (30, 30),
        "two modes": lambda: rng.integers(8, 12, 2) if rng.random() < 0.5 else rng.integers(90, 120, 2),
        "long and thin": lambda: (6, 80) if rng.random() < 0.5 else (80, 6),
        "tiny": lambda: rng.integers(3, 6, 2),
        "mostly large": lambda: rng.integers(60, 100, 2) if rng.random() < 0.9 else rng.integers(8, 14, 2),
    }[kind]
    samples = []
    for _ in range(images):
        sides = np.array([draw() for _ in range(12)])
        corner = (rng.uniform(0, 1, (12, 2)) * (canvas - sides)).astype(int)
        samples.append(sample_of(np.concatenate([corner, corner + sides], axis=1).tolist(), shape=(canvas, canvas)))
    return Samples(samples)


def at(preset, size, classes=2):
    return presets.by_name(preset, num_classes=classes, image_min_size=size, image_max_size=size)


def assert_nothing_falls(report):
    """Either the present anchors stay, and the text says so; or no number that matters is lower."""
    if report.better is None:
        assert "the present anchors stay" in report.table() and report.changes == {}
        assert (report.refused is None) == ("none of those that were tried" in report.table())
        return
    assert report.refused is None
    now, then = report.now, report.better
    for value in (report.now.config.rpn_positive_iou, report.now.config.rpn_negative_iou):
        assert (then.best >= value).mean() >= (now.best >= value).mean() - MARGIN
    assert np.quantile(then.best, 0.05) >= np.quantile(now.best, 0.05) - MARGIN
    assert then.best.mean() >= now.best.mean() - MARGIN
    for kind in ("as they stand", "decoded"):
        assert (then.recall[kind][1:] >= now.recall[kind][1:] - MARGIN).all()
    assert report.options in report.table() and "\nworse: " in report.table()


@pytest.mark.parametrize("kind, preset, size", [
    ("one size", "small", 256), ("two modes", "tiny", 256), ("two modes", "small", 512),
    ("long and thin", "small", 256), ("tiny", "tiny", 256), ("tiny", "small", 256), ("mostly large", "tiny", 256),
])  # fmt: skip
def test_nothing_that_matters_falls(kind, preset, size):
    assert_nothing_falls(measure(made(kind), at(preset, size)))


@pytest.mark.parametrize("kind, preset, size", [
    ("dsb", "small", 512), ("dsb", "tiny", 256), ("voc", "tiny", 512), ("coco", "small", 256),
])  # fmt: skip
def test_nothing_that_matters_falls_on_real_data(kind, preset, size):
    variable = f"{kind.upper()}_ROOT"
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set")
    dataset = open_dataset(kind, None, "train", subset=10)
    assert_nothing_falls(measure(dataset, at(preset, size, len(dataset.class_names))))


def test_why_the_present_anchors_stay_is_said():
    """What was found lifts the objects that fit worst and lowers a share: it stands there, with what it lowers."""
    report = measure(made("two modes"), at("tiny", 256))
    lowers = dataclasses.replace(
        report, better=None, refused=fit([0.5, 0.5, 0.7], [0.5, 0.9, 0.9]), now=fit([0.1, 0.6, 0.7], [0.5, 0.9, 0.9])
    )
    *_, options, better, worse = lowers.table().splitlines()
    assert "the present anchors stay: the best of those that were tried (from 36 objects only) are" in lowers.table()
    assert options.startswith("  --config 'anchor_sizes=[16, 32, 64, 112, 184]' --config 'anchor_ratios=[")
    assert better.startswith("better: best IoU, mean 0.467 -> 0.567, best IoU, worst twentieth 0.150 -> 0.500")
    assert worse == "worse: objects with an anchor of IoU >= 0.6 67 % -> 33 %" and lowers.options == ""
    assert lowers.as_dict()["refused"]["mean_best_iou"] > lowers.as_dict()["now"]["mean_best_iou"]
    regions = dataclasses.replace(lowers, now=fit([0.4, 0.5, 0.6], [1] * 3), refused=fit([0.45, 0.45, 0.9], [1] * 3))
    assert regions.table().endswith("worse: with one of IoU >= 0.5 67 % -> 33 %")
    nothing = dataclasses.replace(lowers, refused=None)
    assert nothing.table().endswith("the present anchors stay: none of those that were tried fit clearly better")


def fit(best, recall):
    levels = np.zeros(len(best), np.int64)
    kinds = {kind: np.array(recall, float) for kind in ("as they stand", "decoded")}
    return AnchorFit(presets.small(), np.array(best, float), levels, np.zeros(5), kinds)


def test_what_moves_is_named():
    now, then = fit([0.5, 0.5, 0.7], [0.5, 0.9, 0.9]), fit([0.7, 0.65, 0.7], [0.4, 0.9, 0.902])
    moved = {m.name: (m.now, m.then) for m in then.compared(now)}
    assert moved["best IoU, mean"] == ("0.567", "0.683") and moved["recall at 100"] == ("50 %", "40 %")
    assert moved["objects with an anchor of IoU >= 0.6"] == ("33 %", "100 %") and "recall at 1000" not in moved
    assert then.falls(now) == []  # the first 100 alone: said, but no reason to refuse
    assert [m.name for m in now.falls(then)][:2] == ["best IoU, mean", "best IoU, worst twentieth"]
    assert fit([0.7, 0.65, 0.7], [0.5, 0.9, 0.8]).falls(now)[0].name == "recall at 1000"
    assert fit([], [0, 0, 0]).compared(fit([], [0, 0, 0])) == []
