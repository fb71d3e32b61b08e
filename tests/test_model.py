"""The whole network: gradients of every tensor, batches against single images, determinism, bad values."""

import dataclasses

import numpy as np
import pytest
from nets import as_float64, make_sample, small_config

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.errors import CheckpointError, NonFiniteError
from mrcnn_np.molding import make_batch
from mrcnn_np.network import initialise
from mrcnn_np.objective import LOSSES
from mrcnn_np.params import trainable

ONE_MAP = {"neck": "none", "anchor_strides": (16,), "anchor_sizes": (12.0, 24.0, 48.0)}
C4 = ONE_MAP | {"box_head": "c5", "box_pool_size": 14, "mask_pool_size": 7, "mask_head_convs": 0}
VARIANTS = {
    "tiny": {},
    "frozen norm": {"bn_mode": "frozen"},
    "running statistics in C3, the batch's elsewhere": {"frozen": ("backbone.c3.*",)},
    "keras-like": {
        "rpn_objectness": "softmax",
        "roi_method": "crop_and_resize",
        "mask_target_method": "crop_and_resize",
        "mask_target_rounded": True,
        "box_head": "conv",
        "mask_head_norm": True,
        "conv_bias": True,
        "stem_pool_padding": "same",
        "proposals_per_level": False,
        "roi_level_rounding": "round",
        "class_loss_active_only": True,
        "bn_mode": "frozen",
    },
    "torchvision v2": {
        "fpn_norm": True,
        "rpn_convs": 2,
        "box_head": "conv_fc",
        "box_head_convs": 2,
        "mask_head_norm": True,
        "mask_head_convs": 2,
    },
    "group norm": {"norm": "group", "norm_groups": 4, "fpn_norm": True, "mask_head_norm": True, "box_head": "conv"},
    "instance norm": {"norm": "instance", "fpn_norm": True, "mask_head_norm": True},
    "max, sampled": {"roi_reduce": "max", "box_loss_denominator": "sampled", "loss_weights": (1.0, 2.0, 0.5, 1.5, 3.0)},
    "adaptive, L1, mini masks": {
        "roi_sampling_ratio": 0,
        "rpn_smooth_l1_beta": 0.0,
        "head_smooth_l1_beta": 0.0,
        "mini_mask_shape": (28, 28),
        "bn_mode": "frozen",
    },
    "C4, shared C5 head": C4,
    "C4, frozen norm, no masks": C4 | {"bn_mode": "frozen", "mask_branch": False},
    "C4 with fully connected head and softmax": ONE_MAP | {"rpn_objectness": "softmax"},
    "VGG, RoIPool, Faster R-CNN": ONE_MAP | {"backbone": "tiny_vgg", "roi_method": "roi_pool", "mask_branch": False},
    "VGG, RoIAlign, masks": ONE_MAP | {"backbone": "tiny_vgg", "mask_head_norm": True},
}


def perturbed(config, rng):
    """Fresh parameters with every tensor away from zero, so that every head has something to say."""
    params = as_float64(initialise(config, rng))
    for name, p in params.items():
        if name.endswith(".var"):
            p *= rng.uniform(0.5, 1.5, p.shape)
        else:
            p += 0.1 * rng.standard_normal(p.shape) * (1.0 if p.ndim == 1 else p.std())
    return params


@pytest.fixture
def samples():
    rng = np.random.default_rng(1)
    return [make_sample(rng, size=(64, 48), name="a"), make_sample(rng, size=(40, 64), objects=3, name="b")]


def total(model, batch, targets):
    return sum(model.losses(batch, np.random.default_rng(0), targets=targets)[0].values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gradient(variant, samples):
    """Central differences along one random direction per tensor, two images, float64: relative error < 1e-6.

    The step is small because a longer one carries some of the network's ReLUs across their kink; a tensor that is
    unlucky with the first step is tried with a shorter one. The allowance is the round-off of the difference quotient,
    a few eps * loss / step.
    """
    config = small_config(**VARIANTS[variant])
    rng = np.random.default_rng(2)
    model = MaskRCNN(config, perturbed(config, rng))
    batch = make_batch(samples, config, np.float64)
    losses, cache = model.losses(batch, np.random.default_rng(3))
    targets = cache.targets
    assert (targets.class_ids > 0).sum() >= 4 and (targets.rpn_labels == 1).sum() >= 2
    assert all(losses[name] > 0 for name in LOSSES if config.mask_branch or name != "head_mask")
    grads = model.backward(cache)
    assert set(grads) == {name for name in model.params if trainable(name)}

    report = []
    for name, gradient in grads.items():
        p = model.params[name]
        assert gradient.shape == p.shape and gradient.dtype == np.float64
        direction = rng.standard_normal(p.shape)
        direction /= np.linalg.norm(direction)
        analytic = float((gradient * direction).sum())
        original, errors = p.copy(), []
        for step in (1e-6, 1e-7):
            p[...] = original + step * direction
            plus = total(model, batch, targets)
            p[...] = original - step * direction
            minus = total(model, batch, targets)
            p[...] = original
            numeric = (plus - minus) / (2 * step)
            noise = 20 * np.finfo(float).eps * sum(losses.values()) / step
            error = max(abs(numeric - analytic) - noise, 0.0) / max(abs(numeric), abs(analytic), 1e-12)
            errors.append((error, name, numeric, analytic))
            if error < 1e-6:
                break
        report.append(min(errors))
    worst = max(report)
    assert worst[0] < 1e-6, worst


def test_batch_of_two_is_two_batches_of_one(samples):
    config = small_config(bn_mode="frozen", box_loss_denominator="sampled")
    model = MaskRCNN(config, perturbed(config, np.random.default_rng(4)))
    both = make_batch(samples, config, np.float64)
    _, cache = model.losses(both, np.random.default_rng(5))
    pair = cache.targets
    rng = np.random.default_rng(5)
    singles = [model.losses(make_batch([s], config, np.float64), rng) for s in samples]
    # the same anchors and RoIs were drawn
    assert np.array_equal(pair.rpn_labels, np.concatenate([c.targets.rpn_labels for _, c in singles]))
    np.testing.assert_allclose(pair.rois, np.concatenate([c.targets.rois for _, c in singles]), rtol=0, atol=1e-10)
    assert np.array_equal(pair.class_ids, np.concatenate([c.targets.class_ids for _, c in singles]))

    # A mean over both images is the mean of the two, weighted by how much each counted
    losses, _ = model.losses(both, np.random.default_rng(5))
    counts = {
        "rpn_class": [(c.targets.rpn_labels != 0).sum() for _, c in singles],
        "rpn_box": [(c.targets.rpn_labels != 0).sum() for _, c in singles],
        "head_class": [len(c.targets.rois) for _, c in singles],
        "head_box": [len(c.targets.rois) for _, c in singles],
        "head_mask": [(c.targets.class_ids > 0).sum() for _, c in singles],
    }
    for name in LOSSES:
        expected = np.average([single[name] for single, _ in singles], weights=counts[name])
        np.testing.assert_allclose(losses[name], expected, rtol=1e-12, err_msg=name)

    weights = {name: np.array(counts[name]) / sum(counts[name]) for name in LOSSES}
    summed = None
    for i, (_, cache_i) in enumerate(singles):
        scaled = MaskRCNN(
            config.replace(loss_weights=tuple(float(weights[name][i]) for name in LOSSES)), model.params
        ).backward(cache_i)
        summed = scaled if summed is None else {k: summed[k] + scaled[k] for k in summed}
    grads = model.backward(cache)
    for name, g in grads.items():
        np.testing.assert_allclose(g, summed[name], rtol=1e-9, atol=1e-12 * np.abs(g).max(), err_msg=name)


def test_a_consumed_cache_gives_the_same_gradients_and_is_gone():
    model = MaskRCNN(small_config())
    batch = make_batch([make_sample(np.random.default_rng(0))], model.config)
    _, cache = model.losses(batch, np.random.default_rng(1))
    kept = model.backward(cache)
    blocks = cache.backbone.stages
    consumed = model.backward(cache, consume=True)
    assert {k: g.tobytes() for k, g in consumed.items()} == {k: g.tobytes() for k, g in kept.items()}
    assert blocks == [[], [], [], []] and cache.backbone is None and cache.rpn is None and cache.mask_head is None


def test_detect_does_not_depend_on_the_neighbours():
    config = small_config(detection_score_threshold=0.0)
    model = MaskRCNN(config, {k: v.astype(np.float32) for k, v in perturbed(config, np.random.default_rng(6)).items()})
    rng = np.random.default_rng(7)
    images = [make_sample(rng, size=size, objects=0).image for size in ((64, 48), (1, 1), (500, 5), (33, 64))]
    together = model.detect(images)
    for image, found in zip(images, together):
        (alone,) = model.detect([image])
        for field in dataclasses.fields(found):
            assert np.array_equal(getattr(found, field.name), getattr(alone, field.name)), field.name
        assert found.masks.shape == (len(found.boxes), *image.shape[:2]) and found.masks.dtype == bool
        assert found.boxes.dtype == found.scores.dtype == np.float32 and found.class_ids.dtype == np.int64
        assert (np.diff(found.scores) <= 0).all()
        h, w = image.shape[:2]
        assert (found.boxes >= -1e-3).all() and (found.boxes <= np.array([h, w, h, w]) + 1e-3).all()
    assert sum(len(d.boxes) for d in together) > 0


def test_image_without_objects_trains_as_background():
    config = small_config()
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    batch = make_batch([make_sample(np.random.default_rng(0), objects=0)], config)
    losses, cache = model.losses(batch, np.random.default_rng(0))
    assert losses["rpn_box"] == losses["head_box"] == losses["head_mask"] == 0.0
    assert losses["rpn_class"] > 0 and losses["head_class"] > 0
    grads = model.backward(cache)
    assert all(np.isfinite(g).all() for g in grads.values())
    assert not grads["mask_head.logits.w"].any() and grads["backbone.stem.conv.w"].any()


def test_untrained_losses_start_where_they_must(samples):
    """ln 2 for two-way choices, ln K for the class: the logits start near zero."""
    config = small_config(num_classes=21)
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    losses, _ = model.losses(make_batch(samples, config), np.random.default_rng(0))
    assert losses["rpn_class"] == pytest.approx(np.log(2), abs=0.05)
    assert losses["head_mask"] == pytest.approx(np.log(2), abs=0.05)
    assert losses["head_class"] == pytest.approx(np.log(21), abs=0.3)


def test_float32_and_float64_are_preserved(samples):
    config = small_config()
    for dtype in (np.float32, np.float64):
        model = MaskRCNN(config, initialise(config, np.random.default_rng(0), dtype))
        assert model.dtype is dtype
        _, cache = model.losses(make_batch(samples, config, dtype), np.random.default_rng(0))
        assert all(g.dtype == dtype for g in model.backward(cache).values())
        assert cache.targets.rois.dtype == cache.targets.masks.dtype == dtype
        assert model.detect([samples[0].image])[0].scores.dtype == dtype


def test_same_seed_same_bits(samples):
    config = small_config()
    results = []
    for _ in range(2):
        model = MaskRCNN(config, rng=np.random.default_rng(0))
        losses, cache = model.losses(make_batch(samples, config), np.random.default_rng(1))
        results.append((losses, {k: g.tobytes() for k, g in model.backward(cache).items()}))
    assert results[0] == results[1]


def test_no_gradient_reaches_the_boxes(samples):
    """A RoI is a constant of the second stage: head losses leave the proposal head's deltas alone."""
    config = small_config(loss_weights=(0.0, 0.0, 1.0, 1.0, 1.0))
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    _, cache = model.losses(make_batch(samples, config), np.random.default_rng(0))
    grads = model.backward(cache)
    assert not grads["rpn.deltas.w"].any() and not grads["rpn.conv.w"].any()
    assert grads["fpn.output2.w"].any()


def test_nan_is_named():
    config = small_config()
    params = initialise(config, np.random.default_rng(0))
    params["backbone.c3.0.conv1.w"][0, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"backbone\.c3\.0\.conv1\.w"):
        MaskRCNN(config, params)
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    model.params["fpn.lateral3.b"][0] = np.inf
    with pytest.raises(NonFiniteError, match=r"fpn\.lateral3\.b"):
        model.detect([np.zeros((64, 64, 3), np.uint8)])
    model.params["fpn.lateral3.b"][0] = 0
    model.params["backbone.c4.0.bn1.gamma"][:] = 3e38
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"c4 holds NaN"):
        model.detect([np.full((64, 64, 3), 255, np.uint8)])


def test_wrong_parameters_are_tabled():
    config = small_config()
    params = initialise(config, np.random.default_rng(0))
    params["surprise.w"] = params.pop("fpn.output2.w")
    params["rpn.conv.b"] = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError) as error:
        MaskRCNN(config, params)
    message = str(error.value)
    assert "missing     fpn.output2.w" in message and "unexpected  surprise.w" in message
    assert "rpn.conv.b is (3,), expected (8,)" in message


def test_presets_are_reachable_from_both_names():
    from mrcnn_np import config

    assert config.presets is presets


# --- networks that read one map ---


@pytest.mark.parametrize("variant", [name for name, changes in VARIANTS.items() if changes.get("neck") == "none"])
def test_both_backends_agree_on_one_map(variant, samples):
    """Losses, gradients and detections, in float64, where the backends differ by rounding only."""
    import kernels

    config = small_config(**VARIANTS[variant] | {"detection_score_threshold": 0.0, "bn_mode": "frozen"})
    params = perturbed(config, np.random.default_rng(8))
    batch, results = make_batch(samples, config, np.float64), []
    for backend in ("numpy", "cpu"):
        with kernels.use(backend):
            model = MaskRCNN(config, params)
            losses, cache = model.losses(batch, np.random.default_rng(9))
            (found,) = model.detect([samples[0].image])
            results.append((losses, model.backward(cache), found))
    (losses, grads, found), (others, other_grads, other) = results
    for name in LOSSES:
        np.testing.assert_allclose(losses[name], others[name], rtol=1e-10, err_msg=name)
    for name, gradient in grads.items():
        scale = max(np.abs(gradient).max(), 1e-12)
        assert np.abs(gradient - other_grads[name]).max() <= 1e-8 * scale, name
    assert len(found) > 0
    np.testing.assert_allclose(found.boxes, other.boxes, rtol=0, atol=1e-8)
    assert np.array_equal(found.class_ids, other.class_ids) and np.array_equal(found.masks, other.masks)


@pytest.mark.parametrize("variant", ["tiny", "C4, shared C5 head", "VGG, RoIPool, Faster R-CNN"])
def test_gradients_are_announced_part_by_part_when_they_are_complete(variant, samples):
    """What ``ready`` has seen never changes; it is called after every part, and in the backbone more often."""
    model = MaskRCNN(small_config(**VARIANTS[variant]), rng=np.random.default_rng(13))
    _, cache = model.losses(make_batch(samples[:1], model.config), 14)
    seen, news = {}, []

    def ready(grads):
        new = [name for name in grads if name not in seen]
        seen.update({name: grads[name].copy() for name in new})
        news.append(new)

    grads = model.backward(cache, ready=ready)
    assert list(grads) == list(seen)
    assert all((seen[name] == g).all() for name, g in grads.items())
    # a call brings one part, and of the backbone one block, one convolution of a VGG, or the stem
    parts = [{tuple(name.split(".")[: 3 if name.startswith("backbone.c") else 1]) for name in new} for new in news]
    if "VGG" in variant:
        parts = [{part[:2] for part in of_call} for of_call in parts]
    assert all(len(of_call) <= 1 for of_call in parts)


@pytest.mark.parametrize("frozen, left", [
    (("backbone.*",), ()), (("backbone.stem.*", "backbone.c2.*", "backbone.c3.*", "backbone.c4.*"), ("backbone.c5.",)),
])  # fmt: skip
def test_a_frozen_backbone_below_c5_as_the_head(frozen, left, samples):
    """What is not frozen has the gradient that it has without freezing; C5 is a stage like others."""
    changes = VARIANTS["C4, shared C5 head"] | {"bn_mode": "frozen"}
    whole, part = small_config(**changes), small_config(**changes | {"frozen": frozen})
    params = perturbed(whole, np.random.default_rng(10))
    batch = make_batch(samples, whole, np.float64)
    _, cache = MaskRCNN(whole, params).losses(batch, 11)
    targets, all_grads = cache.targets, MaskRCNN(whole, params).backward(cache)
    _, cache = MaskRCNN(part, params).losses(batch, 11, targets=targets)
    grads = MaskRCNN(part, params).backward(cache, consume=True)
    expected = {name for name in all_grads if name.startswith(("rpn.", "box_head.", "mask_head.", *left))}
    assert set(grads) == expected
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, all_grads[name], rtol=1e-10, atol=1e-14, err_msg=name)


def test_one_map_without_objects_and_without_regions():
    """Empty is normal: no object in the batch, and no detection."""
    for variant in ("C4, shared C5 head", "VGG, RoIPool, Faster R-CNN"):
        config = small_config(**VARIANTS[variant] | {"detection_score_threshold": 1.0, "bn_mode": "frozen"})
        model = MaskRCNN(config)
        sample = make_sample(np.random.default_rng(12), objects=0)
        losses, cache = model.losses(make_batch([sample], config), 0)
        assert losses["head_mask"] == losses["head_box"] == 0.0
        assert all(np.isfinite(g).all() for g in model.backward(cache).values())
        (found,) = model.detect([sample.image])
        assert len(found) == 0 and found.masks.shape == (0, *sample.image.shape[:2])
