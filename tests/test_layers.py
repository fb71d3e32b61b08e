"""One layer with its two kinds of cache, gradients that meet, and how a run is watched."""

import numpy as np
import pytest
from gradcheck import check_gradients
from nets import make_sample, small_config

from mrcnn_np import MaskRCNN
from mrcnn_np.errors import ConfigError
from mrcnn_np.heads import box_head
from mrcnn_np.layers import FusedLayerCache, NormLayerCache, accumulate, conv_bn, conv_bn_backward, shown
from mrcnn_np.molding import mold_image
from mrcnn_np.params import conv_spec, draw, norm_spec


@pytest.mark.parametrize("mode", ["frozen", "train", "group", "instance"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_gradients_of_a_layer(mode, residual, activate, norm):
    of_each = {"norm": mode, "norm_groups": 2}
    config = small_config(**of_each if mode in ("group", "instance") else {"bn_mode": mode})
    rng = np.random.default_rng(0)
    spec = conv_spec("a.conv", 3, 3, 4, bias=not norm) | (norm_spec("a.bn", 4, config.norm) if norm else {})
    params = {name: p + rng.uniform(0.1, 0.5, p.shape) for name, p in draw(spec, rng, np.float64).items()}
    names = [name for name in params if not name.endswith((".mean", ".var"))]
    x, added, plus = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((2, 5, 4, 4)), None

    def f(x, added, *values):
        y, cache = conv_bn(
            x, params | dict(zip(names, values)), "a.conv", "a.bn" if norm else None, config,
            padding=1, activate=activate, residual=added if residual else None, training=True,
        )  # fmt: skip
        assert isinstance(cache, NormLayerCache if norm and mode != "frozen" else FusedLayerCache)

        def back(dy):
            grads = {}
            dx, dresidual = conv_bn_backward(dy, cache, grads, plus=plus)
            assert (dresidual is None) != residual and set(grads) == set(names)
            return (dx, dresidual if residual else np.zeros_like(added), *(grads[name] for name in names))

        return y, back

    check_gradients(f, x, added, *(params[name] for name in names), rng=rng)
    dy = rng.standard_normal((2, 5, 4, 4))
    alone = f(x, added, *(params[name] for name in names))[1](dy)[0]
    plus = rng.standard_normal(x.shape)
    np.testing.assert_allclose(f(x, added, *(params[name] for name in names))[1](dy)[0], alone + plus, atol=1e-12)


def test_norms_of_each_map():
    """Training and inference compute the same; of four channels 4 groups are instance norm, and 2 are not."""
    rng = np.random.default_rng(0)
    params = draw(conv_spec("a", 1, 3, 4, bias=False) | norm_spec("n", 4, "group"), rng)
    assert set(params) == {"a.w", "n.gamma", "n.beta"}
    x = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    found = {}
    for norm, groups in (("group", 2), ("group", 4), ("instance", 32)):
        config = small_config(norm=norm, norm_groups=groups, bn_mode="train")
        found[norm, groups], cache = conv_bn(x, params, "a", "n", config)
        assert cache is None
        trained, cache = conv_bn(x, params, "a", "n", config, training=True)
        assert isinstance(cache, NormLayerCache) and cache.norm.groups == min(groups, 4)
        np.testing.assert_array_equal(trained, found[norm, groups])
    np.testing.assert_array_equal(found["group", 4], found["instance", 32])
    assert np.abs(found["group", 2] - found["group", 4]).max() > 0.1


def test_groups_that_do_not_divide_a_layer_are_named():
    told = r"norm_groups is 32; expected a divisor of the 16 channels of backbone\.stem\.bn, and of all others: 8 or a"
    with pytest.raises(ConfigError, match=told):
        MaskRCNN(small_config(norm="group"), rng=np.random.default_rng(0))
    MaskRCNN(small_config(norm="group", norm_groups=8), rng=np.random.default_rng(0))


@pytest.mark.parametrize("changes", [{"norm": "instance"}, {"norm": "group", "norm_groups": 8}], ids=str)
def test_a_norm_of_maps_of_one_pixel_is_refused(changes):
    """A channel of one number is its own mean: all regions would look alike to the box head."""
    config = small_config(box_head="conv", box_head_channels=8, **changes)
    with pytest.raises(ConfigError, match=r"the maps of box_head\.bn1 have one pixel, of which nothing would be left"):
        MaskRCNN(config, rng=np.random.default_rng(0))


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
@pytest.mark.parametrize("head", ["conv", "conv_fc"])
def test_regions_do_not_look_alike_behind_a_norm(norm, head):
    if (norm, head) == ("instance", "conv"):
        return  # refused
    config = small_config(norm=norm, norm_groups=4, box_head=head, box_head_convs=2)
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    rois = np.random.default_rng(1).standard_normal((3, 7, 7, config.fpn_channels)).astype(np.float32)
    logits, *_ = box_head(rois, model.params, config)
    assert np.ptp(logits, axis=0).max() > 1e-3


def test_inference_keeps_nothing():
    params = draw(conv_spec("a", 1, 3, 4, bias=True), np.random.default_rng(0))
    y, cache = conv_bn(np.ones((1, 2, 2, 3), np.float32), params, "a", None, small_config())
    assert y.shape == (1, 2, 2, 4) and cache is None


def test_gradients_of_a_layer_that_is_used_twice_meet():
    grads = {"a.w": np.array([1.0, 2.0])}
    accumulate(grads, "a", w=np.array([10.0, 20.0]), b=np.array([5.0]), gamma=None)
    assert {name: g.tolist() for name, g in grads.items()} == {"a.w": [11, 22], "a.b": [5]}


# --- who watches ------------------------------------------------------------------------------------------------------


def run(observe):
    model = MaskRCNN(small_config(detection_score_threshold=0.0, detections_per_image=5), rng=np.random.default_rng(0))
    molded, molding = mold_image(make_sample(np.random.default_rng(1)).image, model.config)
    return model.detect_molded(molded[None], molding, observe=observe)


def test_an_observer_that_returns_nothing_changes_nothing():
    seen = {}
    watched, alone = run(lambda name, x: seen.update({name: x})), run(None)
    for field in ("boxes", "class_ids", "scores", "masks"):
        np.testing.assert_array_equal(getattr(watched, field), getattr(alone, field))
    np.testing.assert_array_equal(seen["boxes"], alone.boxes)
    assert seen["masks"] is watched.masks and len(seen["proposals"]) == len(seen["class_logits"])


@pytest.mark.parametrize("name", ["molded", "c1", "c2.0", "c5", "p4", "rpn_logits", "box_features", "mask_logits"])
def test_what_an_observer_returns_is_gone_on_with(name):
    later = {}

    def observe(seen, x):
        later[seen] = x
        return np.zeros_like(x) if seen == name else None

    run(observe)
    changed = dict(later)
    run(lambda seen, x: later.update({seen: x}))
    names = list(later)
    earlier, after = names[: names.index(name) + 1], names[names.index(name) + 1 :]
    assert all(np.array_equal(changed[n], later[n]) for n in earlier)
    assert any(changed[n].shape != later[n].shape or not np.array_equal(changed[n], later[n]) for n in after)


def test_an_observer_that_returns_something_else_is_told():
    with pytest.raises(TypeError, match=r"observe returned float for 'c2\.0'; expected an array"):
        run(lambda name, x: float(x.mean()) if name == "c2.0" else x)
    x = np.ones(3)
    assert shown(None, "x", x) is x
