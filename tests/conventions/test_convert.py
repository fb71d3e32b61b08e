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
