"""Each preset against the facts, and a proof that every field of the configuration does something.

The table is written out from the frameworks' sources, not read from the presets. The numbers are rows of the list of
facts, see ``test_documents.py``; a row without one has its source in the frameworks' code only.
"""

import dataclasses
import math
import re
import typing
from pathlib import Path

import numpy as np
import pytest
from nets import make_sample, small_config

from mrcnn_np import MaskRCNN
from mrcnn_np.compare.trace import trace_ours
from mrcnn_np.config import DECLARATIONS, Config, fields_where, presets
from mrcnn_np.conventions.table import FRAMEWORKS, flips, meanings
from mrcnn_np.errors import CheckpointError
from mrcnn_np.molding import make_batch
from mrcnn_np.network import check, spec
from mrcnn_np.synthetic import params_that_detect
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.loop import train, train_step
from mrcnn_np.training.optim import zero_velocity

# (row of the table of conventions, facts, [(field, (matterport, torchvision, detectron2))])
ROWS = [
    ("image", (49, 90, 91), [
        ("resize_mode", ("square", "shortest_edge", "shortest_edge")),
        ("image_min_size", (800,) * 3),
        ("image_max_size", (1024, 1333, 1333)),
        ("pad_multiple", (32,) * 3),
        ("resize_rounding", ("nearest", "floor", "nearest")),
        ("pad_position", ("centre", "bottom_right", "bottom_right")),
        ("pad_before_normalise", (True, False, False)),
        ("resize_filter", ("bilinear", "bilinear", "pil")),
        ("resize_border", ("zero", "edge", "edge")),
        ("resize_truncated", (True, False, False)),
    ]),
    ("pixels", (114,), [
        ("channel_order", ("rgb", "rgb", "bgr")),
        ("pixel_scale", (1.0, 255.0, 1.0)),
        ("pixel_mean", ((123.7, 116.8, 103.9), (0.485, 0.456, 0.406), (103.53, 116.28, 123.675))),
        ("pixel_std", ((1.0, 1.0, 1.0), (0.229, 0.224, 0.225), (1.0, 1.0, 1.0))),
    ]),
    ("ground truth on the canvas", (76, 92), [
        ("mask_resize", ("centres", "edges", "exact")),
        ("gt_boxes_from_masks", (True, False, False)),
        ("mini_mask_shape", ((56, 56), None, None)),
    ]),
    ("backbone", (103,), [
        ("backbone", ("resnet101", "resnet50", "resnet50")),
        ("fpn_channels", (256,) * 3),
        ("fpn_norm", (False,) * 3),
    ]),
    ("stride of a down-sampling block", (104,), [
        ("stride_in_1x1", (True, False, True)),
    ]),
    ("bias before batch norm", (), [
        ("conv_bias", (True, False, False)),
    ]),
    ("batch norm", (), [
        ("bn_eps", (0.001, 1e-05, 1e-05)),
        ("bn_mode", ("frozen",) * 3),
    ]),
    ("padding of the stem", (), [
        ("stem_pool_padding", ("same", "one", "one")),
    ]),
    ("anchors", (37, 41, 42, 51), [
        ("anchor_sizes", ((32.0, 64.0, 128.0, 256.0, 512.0),) * 3),
        ("anchor_strides", ((4, 8, 16, 32, 64),) * 3),
        ("anchor_ratios", ((0.5, 1.0, 2.0),) * 3),
        ("anchor_stride_from_grid", (False, True, False)),
    ]),
    ("anchor ratio means", (44,), [
        ("anchor_ratio_meaning", ("width_over_height", "height_over_width", "height_over_width")),
    ]),
    ("anchor corner rounding", (43,), [
        ("anchor_rounding", (False, True, False)),
    ]),
    ("anchor centre", (46,), [
        ("anchor_offset", (0.0,) * 3),
    ]),
    ("far corner of a box", (94,), [
        ("box_frame", ("centres", "edges", "edges")),
    ]),
    ("RPN width, logits", (54, 55, 56), [
        ("rpn_channels", (512, 256, 256)),
        ("rpn_convs", (1,) * 3),
        ("rpn_objectness", ("softmax", "sigmoid", "sigmoid")),
    ]),
    ("RPN delta std", (59,), [
        ("rpn_box_std", ((0.1, 0.1, 0.2, 0.2), (1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0))),
    ]),
    ("RPN matching and sampling", (61, 63, 64, 65, 71), [
        ("rpn_positive_iou", (0.7,) * 3),
        ("rpn_negative_iou", (0.3,) * 3),
        ("rpn_match_best", (True,) * 3),
        ("rpn_best_ties", ("bit_equal",) * 3),
        ("rpn_anchors_per_image", (256,) * 3),
        ("rpn_positive_fraction", (0.5,) * 3),
        ("crowd_iou", (0.001, None, None)),
    ]),
    ("decode clamp", (60,), [
        ("max_log_scale", (None, math.log(1000 / 16), math.log(1000 / 16))),
    ]),
    ("proposals", (52, 67, 68), [
        ("proposals_pre_nms_train", (6000, 2000, 2000)),
        ("proposals_pre_nms_test", (6000, 1000, 1000)),
        ("proposals_post_nms_train", (2000, 2000, 1000)),
        ("proposals_post_nms_test", (1000,) * 3),
        ("proposals_nms_iou", (0.7,) * 3),
        ("proposals_per_level", (False, True, True)),
        ("proposals_min_size", (None, 0.001, 0.0)),
        ("proposals_window", ("canvas", "image", "image")),
    ]),
    ("ground truth joins proposals", (73,), [
        ("gt_joins_proposals", (False, True, True)),
    ]),
    ("RoIs per image, positive share", (72, 73, 74), [
        ("rois_per_image", (200, 512, 512)),
        ("roi_positive_fraction", (0.33, 0.25, 0.25)),
        ("roi_positive_iou", (0.5,) * 3),
        ("roi_negatives", ("ratio", "fill", "fill")),
        ("rois_padded", (True, False, False)),
    ]),
    ("RoI level", (31, 33, 36), [
        ("roi_level_rounding", ("round", "floor", "floor")),
        ("roi_canonical_size", (224.0,) * 3),
        ("roi_canonical_level", (4,) * 3),
    ]),
    ("RoI features", (5, 6, 15, 24, 26), [
        ("roi_method", ("crop_and_resize", "roi_align", "roi_align")),
        ("roi_sampling_ratio", (2, 2, 0)),
        ("roi_aligned", (False, False, True)),
        ("roi_reduce", ("mean",) * 3),
        ("box_pool_size", (7,) * 3),
        ("mask_pool_size", (14,) * 3),
    ]),
    ("box head", (59, 78), [
        ("box_head", ("conv", "fc", "fc")),
        ("box_head_convs", (4,) * 3),
        ("box_head_channels", (1024,) * 3),
        ("head_box_std", ((0.1, 0.1, 0.2, 0.2),) * 3),
    ]),
    ("mask head", (79,), [
        ("mask_head_convs", (4,) * 3),
        ("mask_head_channels", (256,) * 3),
        ("mask_head_norm", (True, False, False)),
    ]),
    ("smooth L1 beta, box-loss denominator", (98, 99), [
        ("rpn_smooth_l1_beta", (1.0, 1 / 9, 0.0)),
        ("head_smooth_l1_beta", (1.0, 1 / 9, 0.0)),
        ("box_loss_denominator", ("positives", "sampled", "sampled")),
    ]),
    ("class loss", (97, 100), [
        ("class_loss_active_only", (True, False, False)),
        ("active_classes", ("first", "own", "own")),
        ("loss_weights", ((1.0, 1.0, 1.0, 1.0, 1.0),) * 3),
    ]),
    ("mask target", (75,), [
        ("mask_target_method", ("crop_and_resize", "roi_align", "roi_align")),
        ("mask_target_rounded", (True, False, True)),
    ]),
    ("score threshold, NMS, top-k", (85, 86), [
        ("detection_classes", ("argmax", "all", "all")),
        ("detection_score_threshold", (0.7, 0.05, 0.05)),
        ("detection_score_inclusive", (True, False, False)),
        ("detection_nms_iou", (0.3, 0.5, 0.5)),
        ("detection_nms_per_class", (True,) * 3),
        ("detections_per_image", (100,) * 3),
        ("detection_min_size", (None, 0.01, 0.0)),
        ("detection_rounded", (True, False, False)),
    ]),
    ("mask paste", (87, 88), [
        ("mask_paste", ("resize_zero", "plus_one", "grid_sample")),
        ("mask_threshold", (0.5,) * 3),
    ]),
    ("which parts there are", (), [
        ("neck", ("fpn",) * 3),
        ("norm", ("batch",) * 3),
        ("norm_groups", (32,) * 3),
        ("keypoints", (0,) * 3),
        ("keypoint_head_convs", (8,) * 3),
        ("keypoint_head_channels", (512,) * 3),
        ("keypoint_pool_size", (14,) * 3),
        ("keypoint_offset", (0.5, 0.0, 0.5)),
        ("keypoint_loss_denominator", ("visible",) * 3),
        ("keypoint_decode", ("bicubic",) * 3),
    ]),
    ("weight decay and warm-up", (), [
        ("weight_decay_on", ("mean", "sum", "sum")),
        ("no_decay", (("*.gamma", "*.beta"), ("*.b", "*.gamma", "*.beta"), ("*.b", "*.gamma", "*.beta"))),
        ("warmup_steps", (0, 1000, 1000)),
    ]),
]  # fmt: skip

FIELDS = [f.name for f in dataclasses.fields(Config)]
# Left to the user by all three, or (name, num_classes) no convention at all; see TrainingFields
FREE = (
    "name", "num_classes", "bn_momentum", "learning_rate", "momentum", "weight_decay", "frozen", "clip_norm",
    "batch_size", "accumulate", "steps", "warmup_factor", "decay", "decay_at", "decay_factor", "flip", "flip_vertical",
    "quarter_turns", "scale_jitter", "crop", "colour_jitter", "mask_branch", "keypoint_names", "keypoint_skeleton",
    "keypoint_loss_weight",
)  # fmt: skip


@pytest.mark.parametrize("row, facts, values", ROWS, ids=[row[0] for row in ROWS])
def test_presets_follow_the_facts(row, facts, values):
    for field, expected in values:
        found = tuple(getattr(presets.by_name(name), field) for name in FRAMEWORKS)
        assert found == expected, f"{row} (facts {facts}): {field} of {', '.join(FRAMEWORKS)}"


def test_second_version_of_torchvision():
    """``maskrcnn_resnet50_fpn_v2`` in torchvision's source; all that is not listed is as in the first version."""
    first, second = presets.torchvision().to_dict(), presets.torchvision_v2().to_dict()
    assert {name: value for name, value in second.items() if value != first[name]} == {
        "name": "torchvision_v2", "bn_mode": "train", "fpn_norm": True, "rpn_convs": 2, "box_head": "conv_fc",
        "mask_head_norm": True,
    }  # fmt: skip
    assert second["box_head_convs"] == 4 and second["box_head_channels"] == 1024 and second["bn_eps"] == 1e-5


def test_every_field_has_a_row_or_is_free():
    in_rows = [field for _, _, values in ROWS for field, _ in values]
    assert sorted([*in_rows, *FREE]) == sorted(FIELDS)


def test_every_field_is_documented():
    assert list(meanings()) == FIELDS
    for meaning in meanings().values():
        assert meaning.allowed and meaning.text.count(".") >= 1, meaning.field
        if meaning.field not in FREE:  # who does what
            named = [name for name in (*FRAMEWORKS, "all three", "presets") if name in meaning.text]
            assert named, meaning.field


def test_numbers_in_the_documentation_are_the_answers():
    """What is said in words, "1024 matterport, 1333 torchvision and detectron2", is held to the presets."""
    number = r"\d+(?:\.\d+)?(?:e-?\d+)?(?:/\d+)?"
    value = rf"(\((?:{number}, )+{number}\)|(?:{number}, )*{number})"
    name = r"(?:matterport|torchvision|detectron2)(?!'s (?:v2|C4))"
    said = re.compile(rf"(?<![\w.]){value} (?:in )?(all three|{name}(?:(?:, | and ){name})*)")
    compared = 0
    for meaning in meanings().values():
        if meaning.field in FREE:
            continue
        for text, whose in said.findall(meaning.text):
            expected = tuple(map(float, re.findall(number, text))) if "," in text else eval(text)
            for framework in FRAMEWORKS if whose == "all three" else re.findall(name, whose):
                assert getattr(presets.by_name(framework), meaning.field) == expected, (meaning.field, text, whose)
                compared += 1
    assert compared > 100


def test_documentation_and_table_cite_facts_that_have_a_test():
    tested = set(re.findall(r"\d{3}", " ".join(re.findall(r"def test_fact_([\d_]+)", _documents()))))
    for row, facts, _ in ROWS:
        assert {f"{fact:03}" for fact in facts} <= tested, row
    for meaning in meanings().values():
        cited = re.findall(r"\d+", " ".join(re.findall(r"\[([\d, ]+)\]", meaning.text)))
        assert {f"{int(fact):03}" for fact in cited} <= tested, meaning.field


def _documents():
    return Path(__file__).parents[1].joinpath("test_documents.py").read_text()


def test_choices_in_the_documentation_are_those_of_the_type():
    for field, hint in typing.get_type_hints(Config).items():
        if getattr(hint, "__args__", None) and all(isinstance(c, str) for c in hint.__args__):
            quoted = re.findall(r'"(\w+)"', meanings()[field].allowed)
            assert set(quoted) == set(hint.__args__), field


# --- every field is alive ---

SHORTEST, RATIO, ACTIVE = {"resize_mode": "shortest_edge"}, {"roi_negatives": "ratio"}, {"class_loss_active_only": True}
# field: (another value, what must be set for it to matter); by what shows that it does
ALIVE = {
    "parameters": {
        "num_classes": (6, {}), "backbone": ("small", {}), "conv_bias": (True, {}), "fpn_channels": (12, {}),
        "fpn_norm": (True, {}), "rpn_convs": (2, {}), "box_head_convs": (2, {"box_head": "conv_fc"}),
        "rpn_channels": (12, {}), "rpn_objectness": ("softmax", {}), "box_pool_size": (5, {}), "box_head": ("conv", {}),
        "box_head_channels": (24, {}), "mask_head_convs": (2, {}), "mask_head_channels": (12, {}),
        "mask_head_norm": (True, {}), "mask_branch": (False, {}), "keypoints": (3, {}),
        "keypoint_head_convs": (2, {"keypoints": 3}), "keypoint_head_channels": (12, {"keypoints": 3}),
    },
    "detections": {
        "keypoint_pool_size": (7, {"keypoints": 3}), "keypoint_offset": (0.0, {"keypoints": 3}),
        "keypoint_decode": ("argmax", {"keypoints": 3}),
        "resize_mode": ("shortest_edge", {}), "image_min_size": (80, {}), "image_max_size": (64, {}),
        "pad_multiple": (64, SHORTEST), "resize_rounding": ("floor", SHORTEST), "pad_position": ("centre", {}),
        "pad_before_normalise": (True, {}), "resize_filter": ("pil", {}), "resize_border": ("zero", {}),
        "resize_truncated": (True, {}), "channel_order": ("bgr", {}), "pixel_scale": (128.0, {}),
        "pixel_mean": ((0.4, 0.5, 0.5), {}), "pixel_std": ((0.2, 0.25, 0.25), {}),
        "stride_in_1x1": (True, {"backbone": "resnet50"}), "bn_eps": (1e-3, {}), "stem_pool_padding": ("same", {}),
        "anchor_sizes": ((12.0, 20.0, 32.0, 52.0, 80.0), {}), "anchor_strides": ((4, 8, 16, 32, 48), {}),
        "anchor_stride_from_grid": (True, {}), "anchor_ratios": ((0.4, 1.0, 2.5), {}),
        "anchor_ratio_meaning": ("width_over_height", {}), "anchor_rounding": (True, {}), "anchor_offset": (0.0, {}),
        "box_frame": ("centres", {}), "rpn_box_std": ((1.0, 1.0, 1.0, 1.0), {}), "max_log_scale": (0.01, {}),
        "proposals_pre_nms_test": (2, {}), "proposals_post_nms_test": (5, {}), "proposals_nms_iou": (0.3, {}),
        "proposals_per_level": (False, {"proposals_nms_iou": 0.1}), "proposals_min_size": (20.0, {}),
        "proposals_window": ("canvas", {}),
        "roi_level_rounding": ("round", {}), "roi_canonical_size": (20.0, {}), "roi_canonical_level": (3, {}),
        "roi_method": ("crop_and_resize", {}), "roi_sampling_ratio": (1, {}), "roi_aligned": (False, {}),
        "roi_reduce": ("max", {}), "mask_pool_size": (7, {}), "head_box_std": ((0.2, 0.1, 0.2, 0.2), {}),
        "detection_classes": ("argmax", {}), "detection_score_threshold": (0.6, {}), "detection_nms_iou": (0.1, {}),
        "detection_nms_per_class": (False, {}),
        "detections_per_image": (3, {}), "detection_min_size": (20.0, {}), "detection_rounded": (True, {}),
        "mask_paste": ("plus_one", {}), "mask_threshold": (0.3, {}),
    },
    "losses": {
        "mask_resize": ("centres", {}), "gt_boxes_from_masks": (True, {}), "mini_mask_shape": ((8, 8), {}),
        "bn_mode": ("frozen", {}), "bn_momentum": (0.5, {}), "rpn_positive_iou": (0.4, {}),
        "rpn_negative_iou": (0.1, {}),
        "rpn_match_best": (False, {"rpn_positive_iou": 0.99}),
        "rpn_best_ties": ("bit_equal", {"anchor_sizes": (70.0, 48.0, 64.0, 80.0, 96.0), "rpn_positive_iou": 0.9}),
        "rpn_anchors_per_image": (16, {}), "rpn_positive_fraction": (0.05, {}),
        "crowd_iou": (0.001, {}), "proposals_pre_nms_train": (10, {}), "proposals_post_nms_train": (5, {}),
        "gt_joins_proposals": (False, {}), "rois_per_image": (8, {}), "roi_positive_fraction": (0.1, {}),
        "roi_positive_iou": (0.2, {}), "roi_negatives": ("ratio", {}), "rois_padded": (True, RATIO),
        "mask_target_method": ("crop_and_resize", {}), "mask_target_rounded": (True, {}),
        "rpn_smooth_l1_beta": (0.0, {}), "head_smooth_l1_beta": (0.0, {}), "box_loss_denominator": ("sampled", {}),
        "class_loss_active_only": (True, {}), "active_classes": ("first", ACTIVE),
        "loss_weights": ((2.0,) + (1.0,) * 4, {}),
    },
    "a step": {
        "learning_rate": (0.1, {}), "momentum": (0.5, {}), "weight_decay": (0.1, {}), "weight_decay_on": ("mean", {}),
        "no_decay": ((), {}), "frozen": (("backbone.*",), {}), "clip_norm": (1e-3, {}), "steps": (4, {}),
        "warmup_steps": (40, {}), "warmup_factor": (0.5, {}), "decay_at": ((0.001,), {}),
        "decay_factor": (0.5, {"decay_at": (0.0,)}), "decay": ("cosine", {}),
    },
    "training": {"batch_size": (2, {}), "accumulate": (2, {}), "flip": (1.0, {}), "scale_jitter": ((2.0, 2.0), {}),
                 "flip_vertical": (1.0, {}), "quarter_turns": (1.0, {}),
                 "crop": ((0.5, 0.6), {}), "colour_jitter": ((0.5, 0.5, 0.5), {})},
}  # fmt: skip
# Enlarged and padded; 53 columns become 84.8
BASE = small_config(image_min_size=64, image_max_size=96, batch_size=1, steps=1000, flip=0.0, rpn_positive_iou=0.5)
STEP = 3  # within the warm-up


@pytest.fixture(scope="module")
def params():
    return params_that_detect(BASE)


@pytest.fixture(scope="module")
def samples():
    """Two images that do not have the size of the canvas; one object of the second is a crowd."""
    rng = np.random.default_rng(0)
    first, second = make_sample(rng, size=(40, 53), objects=3), make_sample(rng, size=(70, 50), objects=3, name="b")
    round_corners = first.gt_masks.copy()
    for mask, (y1, x1, _, _) in zip(round_corners, first.gt_boxes.astype(int)):
        mask[y1, x1 : x1 + 9] = False  # a box that is not tight
    return [first.replace(gt_masks=round_corners), second.replace(gt_crowd=np.array([False, False, True]))]


def shown_by(probe, config, params, samples, folder):
    """Everything that a probe computes, by name."""
    if probe == "parameters":
        return {name: np.array(s.shape) for name, s in spec(config).items()}
    fit = config.backbone == BASE.backbone and not config.keypoints
    own = {name: p.copy() for name, p in params.items()} if fit else None
    model = MaskRCNN(config, own)
    if probe == "detections":
        return trace_ours(model, samples[0].image)
    if probe == "training":
        train(model, Images(samples), out_dir=folder, progress=False, checkpoint_every=1)
        return load_checkpoint(folder / "checkpoint.safetensors").params
    batch = make_batch(samples, config)
    active = np.ones((2, config.num_classes), bool)
    active[0, 2:] = False  # the first image's data set knows one class only
    batch = dataclasses.replace(batch, active_class_ids=active)
    if probe == "a step":
        velocity = zero_velocity(own, config)
        for v in velocity.values():
            v += 1e-3
        record = train_step(model, batch, velocity, step=STEP, rng=np.random.default_rng(0))
        return {"learning_rate": np.array(record["learning_rate"])} | model.params
    losses, cache = model.losses(batch, np.random.default_rng(0))
    shown = dataclasses.asdict(cache.targets) | {name: np.array(loss) for name, loss in losses.items()}
    return shown | {name: p for name, p in model.params.items() if name.endswith((".mean", ".var"))}


class Images:
    """The data set of a few samples."""

    class_names = ("background", "a", "b", "c")

    def __init__(self, samples):
        self.samples, self.ids = samples, [s.image_id for s in samples]

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        return self.samples[index]


# what needs other fields of the same moment, or samples with keypoints
ELSEWHERE = {
    "neck": "tests/test_vgg.py",
    "norm": "tests/test_layers.py",
    "norm_groups": "tests/test_layers.py",
    "keypoint_names": "tests/cli/test_keypoints.py",
    "keypoint_skeleton": "tests/cli/test_keypoints.py",
    "keypoint_loss_denominator": "tests/keypoints/test_labels.py",
    "keypoint_loss_weight": "tests/keypoints/test_head.py",
}
CASES = [(probe, field, *how) for probe, fields in ALIVE.items() for field, how in fields.items()]


@pytest.mark.parametrize("probe, field, value, needed", CASES, ids=[case[1] for case in CASES])
def test_every_field_changes_something(probe, field, value, needed, params, samples, tmp_path):
    before = BASE.replace(**needed, **({"steps": 1} if probe == "training" else {}))
    after = before.replace(**{field: value})
    assert getattr(before, field) != value
    folders = [tmp_path / name for name in ("before", "after")]
    for folder in folders:
        folder.mkdir()
    first, second = (shown_by(probe, c, params, samples, f) for c, f in zip((before, after), folders))
    changed = [name for name in first | second if not same(first.get(name), second.get(name))]
    assert changed
    # What a field changes is not noise: without it, everything is the same to the last bit
    again = shown_by(probe, before, params, samples, folders[0])
    assert all(same(first[name], again[name]) for name in first)


def same(a, b):
    if a is None or b is None:  # of a branch that is not there
        return a is b
    return a.shape == b.shape and np.array_equal(a, b)


def test_a_score_equal_to_the_threshold(params, samples):
    found = MaskRCNN(BASE, params).detect([samples[0].image])[0]
    threshold = float(found.scores[1])
    for inclusive, count in ((True, 2), (False, 1)):
        config = BASE.replace(detection_score_threshold=threshold, detection_score_inclusive=inclusive)
        assert len(MaskRCNN(config, params).detect([samples[0].image])[0].scores) == count


def test_the_name_stands_in_messages():
    with pytest.raises(CheckpointError, match="configuration 'mine'"):
        check({}, BASE.replace(name="mine"))


def test_no_field_is_left_out():
    shown = [case[1] for case in CASES] + ["name", "detection_score_inclusive"]
    assert sorted(shown + list(ELSEWHERE)) == sorted(FIELDS)


# --- the switchboard's list ---


def test_flips_cover_every_convention_in_which_a_framework_differs():
    for name in FRAMEWORKS:
        config = presets.by_name(name)
        flipped = {field for flip in flips(config) for field in flip.changes}
        for field in fields_where(lambda d: d.kind in ("convention", "size")):
            others = {getattr(presets.by_name(other), field) for other in FRAMEWORKS}
            needed = DECLARATIONS[field].needs
            absent = bool(needed) and not getattr(config, needed)  # of a branch that the preset lacks
            assert (field in flipped) or others == {getattr(config, field)} or absent or field == "image_max_size", (
                field
            )
