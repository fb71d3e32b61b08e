"""What the mistakes themselves rule out is no advice: anchors that fit, boxes that do not, cells that are enough."""

from staged import NAMES

from mrcnn_np import presets
from mrcnn_np.explain.advice import what_to_try
from mrcnn_np.explain.deaths import Miss
from mrcnn_np.explain.judge import Rules
from mrcnn_np.explain.mistakes import Mistake
from mrcnn_np.explain.report import Explanation


def report_of(config=None, **fields):
    return Explanation(NAMES, fields.pop("rules", Rules()), 0.05, config=config or presets.tiny(), **fields)


def of_stage(stage, **numbers):
    return Miss("i", 1, 1, [0, 0, 1, 1], stage, numbers, "text")


def told(report, kind, **options):
    (line,) = (line for line in what_to_try(report, **options).splitlines() if line.startswith(kind + "  "))
    return line.removeprefix(kind).strip()


def test_other_anchors_are_no_advice_where_anchors_fit():
    """The network moved them away: it has to learn, whatever anchors there are."""

    def said(*overlaps, **options):
        misses = [of_stage("proposal placed badly", anchor_iou=v) for v in overlaps]
        return told(
            report_of(misses=misses, stages={"proposal placed badly": (len(misses), 0.1)}),
            "proposal placed badly", **options,
        )  # fmt: skip

    assert said(0.8011, 0.5668) == ("train longer; no other anchors: these fit (IoU 0.57 or more) and are moved away")
    assert said(0.8, longer=False) == "no other anchors: these fit (IoU 0.80 or more) and are moved away"
    assert said(0.4).endswith("anchors that fit better (`mrcnn-np data anchors --run RUN` says which)")
    assert said(0.8, 0.4, 0.4).endswith("says which) for 2 of 3, the others' fit and are moved away")


def badly_placed(*box_ious):
    return [
        Mistake("i", 1, 1, [0, 0, 1, 1], 0.9, "badly placed", 1, 0.3, overlap, None, 0.0, "text")
        for overlap in box_ious
    ]


def test_more_cells_are_advice_where_boxes_fit_only():
    def said(mistakes, iou_type="mask", **oracles):
        rules, kinds = Rules(iou_type=iou_type), {"badly placed": (1, 0.1)}
        return told(report_of(mistakes=mistakes, oracles=oracles, kinds=kinds, rules=rules), "badly placed")

    assert said(badly_placed(0.05, 0.4)) == "train longer; look at how boxes were annotated"
    assert said(badly_placed(0.7), "box") == "train longer; look at how boxes were annotated"
    assert said(badly_placed(0.05, 0.4, 0.7)).endswith(
        "look at how boxes were annotated: of 3 badly placed detections only 1 has a box that fits its object (IoU >= "
        "0.5)"
    )
    assert " only 2 have a box that fits its object " in said(badly_placed(0.05, 0.1, 0.4, 0.7, 0.8))
    text = said(badly_placed(0.05, 0.6, 0.7))
    assert "2 of 3 boxes fit, and no mask; " in text and text.endswith("mask_pool_size=28 (14 now)")
    grids = {f"masks of {m} x {m}": {"mask": 0.9, "coco_mask": 0.912} for m in (28, 56)}
    assert "mask_pool_size" not in said(badly_placed(0.7), **grids)  # the oracle was asked, and says no
    grids["masks of 56 x 56"] = {"mask": 0.9, "coco_mask": 0.95}
    assert "mask_pool_size" in said(badly_placed(0.7), **grids)


def test_one_object_has_one_advice_on_cells():
    """A detection with a bad mask is badly placed, and its object is missed: of both the same is said."""

    def said(*possible, **oracles):
        misses = [of_stage("bad mask", best_possible_mask_iou=v) for v in possible]
        stages, kinds = {"bad mask": (1, 0.1)}, {"badly placed": (1, 0.1)}
        report = report_of(misses=misses, mistakes=badly_placed(0.7), stages=stages, kinds=kinds, oracles=oracles)
        return told(report, "bad mask"), told(report, "badly placed")

    for text in said(0.9):
        assert text.endswith("; not more cells: a perfect mask of these would fit")
    grids = {f"masks of {m} x {m}": {"mask": 0.9, "coco_mask": 0.912} for m in (28, 56)}
    for text in (*said(0.4), *said(0.4, **grids)):
        assert "mask_pool_size=28" in text
    report = report_of(
        misses=[of_stage("bad mask", best_possible_mask_iou=0.9)], mistakes=badly_placed(0.7),
        kinds={"badly placed": (1, 0.1)},
    )  # fmt: skip
    report.misses[0].image_id = "another"
    assert "mask_pool_size=28" in told(report, "badly placed")


def test_more_cells_are_advice_where_perfect_masks_do_not_fit():
    def said(*possible):
        misses = [of_stage("bad mask", best_possible_mask_iou=v) for v in possible]
        return told(report_of(misses=misses, stages={"bad mask": (1, 0.1)}), "bad mask")

    assert "mask_pool_size" not in said(0.7, 0.9) and "a perfect mask of these would fit" in said(0.7)
    assert "for 1 of 2, which a perfect mask would not fit either: train again with --config mask" in said(0.4, 0.9)


def test_one_name_each_is_advice_where_objects_have_two():
    def said(*between, **config):
        mistakes = [
            Mistake("i", 0, 1, [0, 0, 1, 1], 0.9, "wrong class", 0, 0.9, 0.9, 1 if overlap else None, overlap, "text")
            for overlap in between
        ]
        report = report_of(presets.tiny(**config), mistakes=mistakes, kinds={"wrong class": (len(mistakes), 0.1)})
        return told(report, "wrong class")

    assert said(0.9, 0.0, 0.3).startswith(
        "for 1 of 3, second names of objects that are found rightly: --config detection_"
    )
    assert said(0.9, 0.8).startswith("for 2 of 2,") and "more images of the classes" in said(0.9)
    assert "second name" not in said(0.0) + said(0.3)  # the boxes overlap too little to suppress each other
    assert "second name" not in said(0.9, detection_nms_per_class=False)
