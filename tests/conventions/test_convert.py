"""Parameters rewritten for another convention compute the same detections."""

import numpy as np
import pytest
from nets import as_float64, small_config

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.conventions.convert import convert
from mrcnn_np.errors import CheckpointError, ConfigError
from mrcnn_np.network import initialise, spec
from mrcnn_np.synthetic import params_that_detect, picture

# Each pair of values, there and back
PAIRS = [
    {"rpn_objectness": ("sigmoid", "softmax")},
    {"conv_bias": (False, True)},
    {"box_head": ("fc", "conv")},
    {"mask_head_norm": (False, True)},
    {"fpn_norm": (False, True)},
    {"fpn_norm": (False, True), "mask_head_norm": (False, True), "conv_bias": (False, True)},
    {
        "rpn_objectness": ("sigmoid", "softmax"),
        "conv_bias": (False, True),
        "box_head": ("fc", "conv"),
        "mask_head_norm": (False, True),
    },
]
IMAGE = picture((50, 64), seed=3)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " ".join(pair))
@pytest.mark.parametrize("way", [0, 1], ids=["there", "back"])
def test_detections_stay(pair, way):
    old = small_config(**{field: values[way] for field, values in pair.items()}, bn_eps=1e-3)
    new = old.replace(**{field: values[1 - way] for field, values in pair.items()})
    params = as_float64(params_that_detect(old))
    before = MaskRCNN(old, params).detect([IMAGE])[0]
    converted = convert(params, old, new)
    assert list(converted) == list(spec(new))
    after = MaskRCNN(new, converted).detect([IMAGE])[0]
    assert len(before.scores) >= 5
    np.testing.assert_array_equal(after.class_ids, before.class_ids)
    # Measured: 1e-13 pixels
    np.testing.assert_allclose(after.boxes, before.boxes, rtol=0, atol=1e-10)
    np.testing.assert_allclose(after.scores, before.scores, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(after.masks, before.masks)


def test_another_norm_constant_is_kept_apart():
    # The norm that leaves the network was computed with its epsilon, the one that enters is undone with the new one
    old = small_config(box_head="conv", mask_head_norm=True, fpn_norm=True, bn_eps=0.1)
    new = old.replace(box_head="fc", mask_head_norm=False, fpn_norm=False)
    params = as_float64(params_that_detect(old))
    back = convert(convert(params, old, new), new, old)
    before, after = (MaskRCNN(old, p).detect([IMAGE])[0] for p in (params, back))
    np.testing.assert_allclose(after.boxes, before.boxes, rtol=0, atol=1e-10)


def test_a_bottleneck_with_biases():
    old = presets.matterport(3, backbone="resnet50", image_min_size=64, image_max_size=64, box_head_channels=16)
    new = old.replace(conv_bias=False)
    params = initialise(old, np.random.default_rng(0))
    for name, p in params.items():
        if name.startswith("backbone.") and name.endswith(".b"):
            p += 1.0
    converted = convert(params, old, new)
    for name in params:
        if name.endswith("conv1.b") and name.startswith("backbone."):
            norm = name.replace("conv1.b", "bn1.mean")
            np.testing.assert_array_equal(converted[norm], params[norm] - 1.0)
    np.testing.assert_array_equal(converted["backbone.c3.0.shortcut.bn.mean"], -1.0)


def test_the_parameters_given_are_not_touched():
    old = small_config(conv_bias=True, box_head="conv", mask_head_norm=True)
    params = params_that_detect(old)
    copy = {name: p.copy() for name, p in params.items()}
    convert(params, old, old.replace(conv_bias=False, box_head="fc", mask_head_norm=False, rpn_objectness="softmax"))
    assert list(params) == list(copy)
    for name, p in params.items():
        np.testing.assert_array_equal(p, copy[name])


def test_what_needs_other_weights_says_which():
    old = small_config()
    with pytest.raises(CheckpointError, match=r"shape +rpn\.conv\.w is"):
        convert(initialise(old, np.random.default_rng(0)), old, old.replace(rpn_channels=16))


# --- norms of each map ---

OF_EACH = {"norm_groups": 4, "fpn_norm": True, "mask_head_norm": True}


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_biases_before_a_norm_of_each_map(norm):
    """Zeros come and go; other biases count before group norm, but not before instance norm, which takes them away."""
    old = small_config(norm=norm, **OF_EACH)
    biased, params = old.replace(conv_bias=True), as_float64(params_that_detect(old))
    there = convert(params, old, biased)
    assert list(there) == list(spec(biased)) and not there["backbone.c3.0.conv1.b"].any()
    back = convert(there, biased, old)
    assert list(back) == list(params) and all(back[name] is p for name, p in params.items())
    before = MaskRCNN(old, params).detect([IMAGE])[0]
    np.testing.assert_array_equal(MaskRCNN(biased, there).detect([IMAGE])[0].boxes, before.boxes)

    rng = np.random.default_rng(0)
    added = {name: rng.normal(0, 0.1, p.shape) if name not in params else p for name, p in there.items()}
    if norm == "group":
        with pytest.raises(CheckpointError, match=r"\.b is not zero, and norm = 'group' keeps a bias"):
            convert(added, biased, old)
        return
    found = [MaskRCNN(c, p).detect([IMAGE])[0] for c, p in ((biased, added), (old, convert(added, biased, old)))]
    assert len(before.scores) >= 5
    for a in found:
        np.testing.assert_allclose(a.boxes, before.boxes, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm, field, values, bn", [
    ("group", "fpn_norm", (False, True), r"fpn\.lateral2\.bn"),
    ("group", "mask_head_norm", (False, True), r"mask_head\.bn1"),
    ("group", "box_head", ("fc", "conv"), r"box_head\.bn1"),
    ("instance", "fpn_norm", (False, True), r"fpn\.lateral2\.bn"),
    ("instance", "mask_head_norm", (False, True), r"mask_head\.bn1"),
])  # fmt: skip
def test_a_norm_of_each_map_is_no_scale_and_shift(norm, field, values, bn):
    """Where a norm has to come or go, both ways are refused."""
    for old, new in (values, values[::-1]):
        config = small_config(norm=norm, norm_groups=4, **{field: old})
        with pytest.raises(CheckpointError, match=rf"{bn} computes its statistics from each map \(norm = '{norm}'\)"):
            convert(params_that_detect(config), config, config.replace(**{field: new}))


def test_one_kind_of_norm_does_not_become_another():
    batch, group = small_config(), small_config(norm="group", norm_groups=4)
    with pytest.raises(CheckpointError, match=r"unexpected +backbone\.stem\.bn\.mean"):
        convert(params_that_detect(batch), batch, group)
    with pytest.raises(CheckpointError, match=r"missing +backbone\.stem\.bn\.mean"):
        convert(params_that_detect(group), group, batch)
    with pytest.raises(CheckpointError, match=r"unexpected +backbone\.stem\.bn\.mean"):  # the head alone would fold
        normed = batch.replace(mask_head_norm=True)
        convert(params_that_detect(normed), normed, group)


# --- one call ---


def test_a_model_under_another_convention_shares_its_weights():
    model = MaskRCNN(small_config(), params_that_detect(small_config()))
    flipped = model.with_config(roi_aligned=False, detection_nms_iou=0.6)
    assert flipped.config == model.config.replace(roi_aligned=False, detection_nms_iou=0.6)
    assert all(flipped.params[name] is p for name, p in model.params.items())
    assert model.config.roi_aligned and list(flipped.params) == list(model.params)
    before, after = model.detect([IMAGE])[0], flipped.detect([IMAGE])[0]
    by_hand = MaskRCNN(flipped.config, model.params).detect([IMAGE])[0]
    np.testing.assert_array_equal(after.boxes, by_hand.boxes)
    assert before.boxes.shape != after.boxes.shape or not np.array_equal(before.boxes, after.boxes)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " ".join(pair))
def test_one_call_rewrites_what_has_to_be(pair):
    model = MaskRCNN(small_config(), as_float64(params_that_detect(small_config())))
    flipped = model.with_config(**{field: new for field, (_, new) in pair.items()})
    kept = [name for name, p in model.params.items() if flipped.params.get(name) is p]
    assert kept and set(kept) != set(flipped.params)
    before, after = model.detect([IMAGE])[0], flipped.detect([IMAGE])[0]
    np.testing.assert_allclose(after.boxes, before.boxes, rtol=0, atol=1e-10)
    back = flipped.with_config(**{field: old for field, (old, _) in pair.items()})
    assert back.config == model.config and list(back.params) == list(model.params)


def test_what_one_call_cannot_do():
    model = MaskRCNN(small_config(), params_that_detect(small_config()))
    with pytest.raises(ConfigError, match="unknown config field 'roi_alignd'; did you mean 'roi_aligned'"):
        model.with_config(roi_alignd=False)
    with pytest.raises(ConfigError, match="roi_reduce is 'min'; expected 'mean' or 'max'"):
        model.with_config(roi_reduce="min")
    with pytest.raises(CheckpointError, match=r"shape +box_head\.class\.w is"):
        model.with_config(num_classes=9)
    assert model.with_config().config == model.config
