"""Objects that are too small for the smallest anchor, or for a cell of P2."""

import numpy as np
from all_named import all_named
from annotated_trees import mask_folders, save

from mrcnn_np import presets
from mrcnn_np.boxes import iou
from mrcnn_np.data import Report, check_dataset, open_dataset
from mrcnn_np.fit.small import small_objects


def folder(tmp_path, *boxes, height=128, width=128):
    rng = np.random.default_rng(0)
    root = tmp_path / "mine"
    save(root / "a" / "images" / "a.png", rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
    for k, (y1, x1, y2, x2) in enumerate(boxes):
        mask = np.zeros((height, width), np.uint8)
        mask[y1:y2, x1:x2] = 255
        save(root / "a" / "masks" / f"{k}.png", mask)
    return check_dataset(open_dataset("dsb", root))


def test_by_hand(tmp_path):
    """The tiny preset: anchors of 12, background below IoU 0.3, so the least side is 12 sqrt(0.3) = 6.57."""
    config = presets.tiny()
    assert config.anchor_sizes[0] == 12 and config.rpn_negative_iou == 0.3
    report = folder(tmp_path, (0, 0, 6, 7), (10, 10, 17, 17), (20, 20, 80, 23), (90, 90, 126, 126), (60, 60, 62, 61))
    anchor, mask = all_named(small_objects(report, config))
    assert (anchor.count, anchor.of, mask.count, mask.of) == (2, 5, 2, 5)  # 6 x 7 and 2 x 1; 60 x 3 and 2 x 1
    assert (
        anchor.text.startswith("are too small for the smallest anchor")
        and "`mrcnn-np data anchors` suggests with the same --preset" in anchor.text
    )
    assert mask.text.startswith("are too small for the mask head") and "--size" in mask.text
    assert anchor.example == mask.example == "one of image a: 1 x 2 pixels, 1 x 2 then"
    assert anchor.concerns[1] == "one of image a: 7 x 6 pixels, 7 x 6 then"
    assert mask.concerns[1] == "one of image a: 3 x 60 pixels, 3 x 60 then"
    # at twice the size only the line and the dot remain, at a size where all are large nothing is said
    twice = small_objects(report, config.replace(image_min_size=256, image_max_size=256))
    assert [finding.count for finding in twice] == [1, 1]
    assert small_objects(report, config.replace(image_min_size=1024, image_max_size=1024)) == []


def test_the_limit_is_that_of_an_anchor_at_the_object(tmp_path):
    """An object on the limit has with an anchor of its own shape and place the IoU at which background ends."""
    config = presets.tiny()
    side = config.anchor_sizes[0]
    for scale, counts in ((0.99, True), (1.01, False)):
        root = side * np.sqrt(config.rpn_negative_iou) * scale
        overlap = iou(np.array([[0, 0, root, root]]), np.array([[0, 0, side, side]]))[0, 0]
        assert (overlap < config.rpn_negative_iou) == counts


def test_nothing_to_be_said(tmp_path):
    assert small_objects(Report(("background", "cell")), presets.tiny()) == []
    two = check_dataset(open_dataset("dsb", mask_folders(tmp_path / "two")))
    assert [int(n) for n in two.image_of] == [0, 0, 1] and two.names == ["a", "b"]
