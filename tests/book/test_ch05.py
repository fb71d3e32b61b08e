"""Chapter 5: the live picture computes what the package does, in Node and NumPy; the branch for readers with VOC."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from mrcnn_np import presets
from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.boxes import iou
from mrcnn_np.data import generate, open_dataset
from mrcnn_np.molding import make_batch
from mrcnn_np.targets import label_anchors

TEXT = Path(__file__).parents[2] / "book" / "text" / "05_anchors.py"

SIZES, STRIDES, RATIOS = (12, 20, 32, 52, 84), (4, 8, 16, 32, 64), (0.5, 1, 2)


def anchors(offset):
    return pyramid_anchors(
        (128, 128), sizes=SIZES, strides=STRIDES, aspect_ratios=RATIOS, offset=offset, dtype=np.float64
    )


def test_anchors_of_every_level(in_node):
    for offset in (0, 0.5):
        cells = [128 // stride for stride in STRIDES]
        calls = [["levelAnchors", [n, n, s, t, RATIOS, offset]] for n, s, t in zip(cells, SIZES, STRIDES)]
        for ours, theirs in zip(anchors(offset), in_node("anchors.math.js", calls)):
            np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12)


def test_overlaps_labels_and_ranks(in_node):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 100, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 60, (20, 2))], axis=1)
    boxes[0] = [40, 40, 44, 44]  # inside many anchors, which overlap it equally
    some = np.concatenate(anchors(0.5))[3000:]
    ious = iou(some, boxes)
    pairs = [["overlap", [a.tolist(), boxes[0].tolist()]] for a in some[:200]]
    np.testing.assert_allclose([o["iou"] for o in in_node("anchors.math.js", pairs)], ious[:200, 0], rtol=1e-12)
    calls = [["labels", [some.tolist(), box.tolist(), 0.3, 0.6]] for box in boxes]
    calls += [["ranked", [some.tolist(), box.tolist(), 6]] for box in boxes]
    theirs = in_node("anchors.math.js", calls)
    for g, box in enumerate(boxes):
        ours, _ = label_anchors(some, box[None], negative_iou=0.3, positive_iou=0.6, match_best=True, tie=0.0)
        assert theirs[g] == ours.tolist()
        np.testing.assert_array_equal(theirs[20 + g], np.argsort(-ious[:, g], kind="stable")[:6])


def for_readers_with_voc(opened):
    """Run the cells of the chapter that count a reader's own VOC; the press never does, it has no VOC_ROOT."""
    cells = re.split(r"^# %%.*$", TEXT.read_text(encoding="utf-8"), flags=re.M)
    chosen = [c for c in cells if "def objects_of" in c or 'os.environ.get("VOC_ROOT")' in c]
    assert len(chosen) == 2
    names = {"np": np, "os": os, "presets": presets, "make_batch": make_batch, "open_dataset": opened, "iou": iou}
    names |= {"pyramid_anchors": pyramid_anchors, "strides": STRIDES, "papers": (32, 64, 128, 256, 512)}
    for cell in chosen:
        exec(cell, names)
    return names


def test_voc_branch_counts_a_set_with_few_images(tmp_path, monkeypatch, capsys):
    folder = generate(tmp_path, train=3, val=1)
    monkeypatch.setenv("VOC_ROOT", str(tmp_path))
    names = for_readers_with_voc(lambda name, root, split: open_dataset("shapes", folder, split))
    dataset = open_dataset("shapes", folder, "train")
    assert len(names["voc"]) == sum(len(dataset.load(i).gt_boxes) for i in range(3))
    assert f"{len(names['voc'])} objects, three ratios" in capsys.readouterr().out


@pytest.mark.skipif("VOC_ROOT" not in os.environ, reason="VOC_ROOT is not set")
def test_voc_branch_on_voc(capsys):
    boxes = for_readers_with_voc(open_dataset)["voc"]
    assert len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all() and boxes.max() <= 1024
    assert "squares only" in capsys.readouterr().out


def test_voc_branch_without_voc(monkeypatch, capsys):
    monkeypatch.delenv("VOC_ROOT", raising=False)
    assert "voc" not in for_readers_with_voc(open_dataset)
    assert "VOC_ROOT is not set" in capsys.readouterr().out
