import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np import backbone, config
from mrcnn_np.config import LOG_1000_16, Config, presets
from mrcnn_np.errors import ConfigError, UserError

ALL = sorted(presets.PRESETS)


@pytest.mark.parametrize("name", ALL)
def test_presets_exist_by_name_and_take_changes(name):
    config = presets.by_name(name, num_classes=7, momentum=0.5)
    assert (config.num_classes, config.momentum) == (7, 0.5)
    assert config == presets.PRESETS[name](7, momentum=0.5)
    assert config.backbone in (*backbone.ARCHITECTURES, *backbone.VGGS)


def test_documented_number_of_classes():
    # COCO has 80 classes and torchvision keeps COCO's 11 unused ids; shapes has three
    found = {name: presets.by_name(name).num_classes for name in ("tiny", "matterport", "torchvision", "detectron2")}
    assert found == {"tiny": 4, "matterport": 81, "torchvision": 91, "detectron2": 81}


def test_log_1000_16():
    assert round(LOG_1000_16, 6) == 4.135167  # 62.5 times


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=f"unknown preset 'big'; expected one of {', '.join(presets.PRESETS)}"):
        presets.by_name("big")


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        presets.tiny().steps = 3


# --- dictionaries and JSON ---


@pytest.mark.parametrize("name", ALL)
def test_survives_json(name):
    config = presets.by_name(name, mini_mask_shape=(56, 56))
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_from_dict_refuses_unknown_and_missing_fields():
    with pytest.raises(ConfigError, match="unknown config field 'colour'"):
        Config.from_dict({**presets.tiny().to_dict(), "colour": 1})
    with pytest.raises(ConfigError, match="num_classes"):
        Config.from_dict({"name": "x"})


def test_replace_refuses_unknown_fields():
    with pytest.raises(ConfigError, match="unknown config field 'step'; did you mean 'steps'"):
        presets.tiny().replace(step=3)


def test_a_bad_choice_lists_the_choices():
    with pytest.raises(ConfigError) as error:
        presets.tiny().replace(resize_mode="stretch")
    assert str(error.value) == "resize_mode is 'stretch'; expected 'square' or 'shortest_edge'"


# --- values ---

BAD_VALUES = [
    ("num_classes", 1, "at least 2"),
    ("num_classes", 2.0, "int"),
    ("num_classes", True, "int"),
    ("name", 3, "str"),
    ("learning_rate", "fast", "float"),
    ("learning_rate", float("nan"), "float"),
    ("learning_rate", float("inf"), "float"),
    ("learning_rate", -0.1, "0 or more"),
    ("resize_mode", "stretch", "square"),
    ("bn_mode", None, "frozen"),
    ("pixel_mean", (1.0, 2.0), "tuple"),
    ("pixel_mean", [1.0, 2.0, 3.0], "tuple"),
    ("pixel_std", (1.0, 0.0, 1.0), "positive"),
    ("pixel_scale", 0.0, "positive"),
    ("mini_mask_shape", (0, 56), "positive"),
    ("mini_mask_shape", (56,), "tuple"),
    ("image_min_size", 0, "between 1 and image_max_size"),
    ("image_min_size", 2000, "between 1 and image_max_size"),
    ("image_max_size", 1000, "a multiple of 32"),  # tiny is square
    ("pad_multiple", 48, "a multiple of 32"),
    ("pad_multiple", 0, "positive"),
    ("anchor_sizes", (32.0, 64.0), "5 sizes"),
    ("anchor_sizes", (32.0, 64.0, 0.0, 1.0, 1.0), "positive"),
    ("anchor_strides", (4, 8, 16, 32), "5 strides"),
    ("anchor_ratios", (), "at least one"),
    ("anchor_ratios", (0.5, -1.0), "positive"),
    ("rpn_negative_iou", 0.9, "at most rpn_positive_iou"),
    ("rpn_positive_fraction", 1.5, "in [0, 1]"),
    ("roi_positive_fraction", 0.0, "in (0, 1]"),
    ("roi_positive_fraction", 1.1, "in (0, 1]"),
    ("rois_per_image", 0, "positive"),
    ("proposals_pre_nms_train", 0, "positive"),
    ("mask_pool_size", -1, "positive"),
    ("head_box_std", (0.1, 0.1, 0.0, 0.2), "positive"),
    ("loss_weights", (1.0, 1.0), "tuple"),
    ("batch_size", 0, "positive"),
    ("steps", -1, "0 or more"),
    ("clip_norm", 0.0, "positive, or none"),
    ("scale_jitter", (1.2, 0.8), "low <= high"),
    ("scale_jitter", (0.0, 1.0), "low <= high"),
    ("scale_jitter", (1.0, 1000.0), "high <= 10"),
    ("crop", (0.9, 0.8), "low <= high"),
    ("crop", (0.5, 1.1), "high <= 1"),
    ("colour_jitter", (0.1, 0.1, 1.5), "in [0, 1]"),
    ("flip", 1.5, "in [0, 1]"),
    ("momentum", 2.0, "in [0, 1]"),
    ("crowd_iou", -0.1, "in [0, 1]"),
    ("roi_sampling_ratio", -1, "0 or more"),
    ("rpn_smooth_l1_beta", -1.0, "0 or more"),
    ("loss_weights", (1.0, 1.0, -1.0, 1.0, 1.0), "0 or more"),
    ("learning_rate", 10**400, "float"),
    ("no_decay", ("a", 1), "tuple"),
]


@pytest.mark.parametrize("field, value, expected", BAD_VALUES, ids=[f"{f}={v}" for f, v, _ in BAD_VALUES])
def test_bad_values_name_field_value_and_expectation(field, value, expected):
    with pytest.raises(ConfigError) as error:
        presets.tiny().replace(**{field: value})
    assert isinstance(error.value, UserError)
    assert f"{field} is {value!r}; expected" in str(error.value)
    assert expected in str(error.value)


def test_integers_pass_for_floats_and_none_where_it_is_an_option():
    config = presets.tiny(learning_rate=1, clip_norm=None, max_log_scale=None, crowd_iou=None, bn_eps=0.0)
    assert (config.learning_rate, config.clip_norm, config.bn_eps) == (1, None, 0.0)


# --- command line overrides ---

OVERRIDES = [
    ("steps=5", "steps", 5),
    ("learning_rate=1e-3", "learning_rate", 1e-3),
    ("backbone=resnet18", "backbone", "resnet18"),
    ('backbone="resnet18"', "backbone", "resnet18"),
    ("clip_norm=none", "clip_norm", None),
    ("clip_norm=None", "clip_norm", None),
    ("clip_norm=null", "clip_norm", None),
    ("mini_mask_shape=[28, 28]", "mini_mask_shape", (28, 28)),
    ("roi_aligned=false", "roi_aligned", False),
    ('frozen=["backbone.*"]', "frozen", ("backbone.*",)),
    (" steps = 5", "steps", 5),
]


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000], ids=["digits", "brackets"])
def test_an_override_that_json_gives_up_on_is_a_config_error(text):
    with pytest.raises(ConfigError, match="learning_rate is"):
        presets.tiny().with_overrides([f"learning_rate={text}"])


@pytest.mark.parametrize("text, field, value", OVERRIDES, ids=[row[0] for row in OVERRIDES])
def test_overrides(text, field, value):
    assert getattr(presets.tiny().with_overrides([text]), field) == value


def test_the_last_override_wins_and_none_changes_nothing():
    assert presets.tiny().with_overrides(["steps=5", "steps=6"]).steps == 6
    assert presets.tiny().with_overrides([]) == presets.tiny()


@pytest.mark.parametrize("text", ["steps", "steps:5", "", "pace=3", "steps=many", "steps=1.5", "learning_rate=NaN"])
def test_bad_overrides(text):
    with pytest.raises(ConfigError):
        presets.tiny().with_overrides([text])


@pytest.mark.parametrize("text, message", [
    ("anchor_sizes=18, 28, 64, 112, 184", "anchor_sizes is '18, 28, 64, 112, 184'; expected numbers in brackets: write "
     "'anchor_sizes=[18, 28, 64, 112, 184]'"),
    ("anchor_sizes=[18, 28", "expected numbers in brackets: write 'anchor_sizes=[18, 28]'"),
    ("anchor_sizes=18", "anchor_sizes is 18; expected numbers in brackets: write 'anchor_sizes=[18]'"),
    ("anchor_ratios=0.5 1", "expected numbers in brackets: write 'anchor_ratios=[0.5, 1]'"),
    ("anchor_sizes=big", "expected numbers in brackets, such as 'anchor_sizes=[32, 64]'"),
    ("anchor_strides=1.5", "expected whole numbers in brackets, such as 'anchor_strides="),
    ("pixel_mean=[1, 2]", "pixel_mean is (1, 2); expected 3 numbers in brackets, such as 'pixel_mean="),
    ("mini_mask_shape=28", "expected 2 whole numbers in brackets, or None, such as 'mini_mask_shape=[1, 2]'"),
    ("mini_mask_shape=(28, 28)", "expected 2 whole numbers in brackets, or None: write 'mini_mask_shape=[28, 28]'"),
    ("frozen=rpn.*", "frozen is 'rpn.*'; expected texts in brackets: write 'frozen=[\"rpn.*\"]'"),
    ("frozen=1", "frozen is 1; expected texts in brackets: write 'frozen=[\"1\"]'"),
])  # fmt: skip
def test_how_a_list_is_written(text, message):
    config = presets.tiny(neck="none", anchor_strides=(16,), anchor_sizes=(32.0, 64.0))
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.with_overrides([text])


def test_every_list_without_brackets_is_told_how_to_write_it():
    for name, value in presets.matterport().to_dict().items():
        how = rf"; expected .* in brackets(, or None)?(: write|, such as) '{name}=\["
        for text in ("", "x y", "{}", "1e999", '{"a": [1]}') if isinstance(value, tuple) else ():
            with pytest.raises(ConfigError, match=how):
                presets.matterport().with_overrides([f"{name}={text}"])


def test_overrides_may_contain_an_equals_sign():
    assert presets.tiny().with_overrides(["name=a=b"]).name == "a=b"


@given(st.floats(0, 10), st.integers(0, 10**6))
@settings(max_examples=20)
def test_overrides_read_what_json_writes(rate, steps):
    config = presets.tiny().with_overrides([f"learning_rate={json.dumps(rate)}", f"steps={steps}"])
    assert (config.learning_rate, config.steps) == (rate, steps)


# --- imports ---


def test_the_configuration_needs_no_numpy():
    code = (
        "import sys; from mrcnn_np import presets; from mrcnn_np.config import Config, presets as same\n"
        "assert presets is same and presets.tiny().name == 'tiny' and isinstance(presets.tiny(), Config)\n"
        "print([name for name in ('numpy', 'scipy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_module_of_the_configuration_needs_one_that_needs_it():
    folder = Path(config.__file__).parent
    imports = re.compile(r"^ *from \.(\w*) import (\w+)", re.MULTILINE)
    needs = {p.stem: {a or b for a, b in imports.findall(p.read_text())} for p in folder.glob("*.py")}
    assert needs["presets"] >= {"config"}
    left = {name: others for name, others in needs.items() if name != "__init__"}  # emptied from the leaves up
    while left:
        leaves = [name for name, others in left.items() if not others & set(left)]
        assert leaves, f"a cycle among {', '.join(left)}"
        for name in leaves:
            del left[name]


def test_none_is_a_word_where_a_field_knows_no_none():
    one_map = ["neck=none", "anchor_strides=[16]", "clip_norm=None"]
    config = presets.tiny().with_overrides(one_map)
    assert config.neck == "none" and config.clip_norm is None
    assert config.anchors_per_cell == 15 and config.sizes_by_level == (config.anchor_sizes,)
    assert config.levels == ("c4",) and presets.vgg16().levels == ("conv5_3",)
    assert presets.tiny().anchors_per_cell == 3 and presets.tiny().levels == ("p2", "p3", "p4", "p5", "p6")


@pytest.mark.parametrize("changes, message", [
    ({"neck": "none"}, "expected 1 stride, that of the one map"),
    ({"backbone": "vgg16"}, "expected a ResNet: a VGG has no pyramid"),
    ({"box_head": "c5"}, "box_head is 'c5'; expected another"),
    ({"neck": "none", "anchor_strides": (16,), "anchor_sizes": ()}, "expected at least one size"),
    ({"neck": "none", "anchor_strides": (16,), "box_head": "c5"}, "mask_pool_size is 14; expected 4"),
    ({"neck": "none", "anchor_strides": (16,), "box_head": "c5", "backbone": "tiny_vgg"}, "a VGG has no C5 stage"),
])  # fmt: skip
def test_what_contradicts_itself_without_a_pyramid(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        presets.tiny(**changes)
