"""The keypoint head: its sizes, its gradients, both backends; and the whole network with it."""

import dataclasses

import numpy as np
import pytest
from gradcheck import check_gradients
from nets import as_float64, make_sample, small_config

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.errors import ConfigError
from mrcnn_np.keypoints.head import keypoint_head, keypoint_head_backward, keypoint_head_spec
from mrcnn_np.keypoints.pose import Pose
from mrcnn_np.molding import make_batch
from mrcnn_np.network import initialise
from mrcnn_np.params import count, draw, shapes, trainable
from mrcnn_np.synthetic import picture, sample_from
from mrcnn_np.training import accumulate

SMALL = {"keypoints": 3, "keypoint_head_convs": 1, "keypoint_head_channels": 8, "keypoint_pool_size": 4}
POSE = Pose(("nose", "left_hand", "right_hand"), ((0, 1), (0, 2)))


def with_keypoints(sample, rng):
    """Three keypoints in each box, one of them not annotated."""
    low, high = sample.gt_boxes[:, None, :2], sample.gt_boxes[:, None, 2:]
    points = low + rng.uniform(0.1, 0.9, (len(low), 3, 2)) * (high - low)
    seen = np.tile([2.0, 1.0, 2.0], (len(low), 1))
    seen[:1, 2] = 0
    return sample.replace(gt_keypoints=np.concatenate([points, seen[..., None]], axis=2), pose=POSE)


@pytest.fixture
def samples():
    rng = np.random.default_rng(1)
    made = [make_sample(rng, size=(64, 48), name="a"), make_sample(rng, size=(40, 64), objects=3, name="b")]
    return [with_keypoints(sample, rng) for sample in made]


def test_the_papers_sizes():
    """Eight 3x3 convolutions of 512, a transposed one of 4x4 for 17 keypoints: 20.2 million numbers."""
    spec = keypoint_head_spec(presets.torchvision(keypoints=17))
    assert shapes(spec)["keypoint_head.conv1.w"] == (3, 3, 256, 512)
    assert shapes(spec)["keypoint_head.deconv.w"] == (4, 4, 512, 17) and len(spec) == 18
    assert count(spec) == 9 * 256 * 512 + 7 * 9 * 512 * 512 + 8 * 512 + 16 * 512 * 17 + 17
    assert keypoint_head_spec(presets.torchvision()) == {}


def test_fourteen_cells_become_fifty_six():
    config = small_config(keypoints=2, keypoint_head_convs=1, keypoint_head_channels=4)
    params = draw(keypoint_head_spec(config), np.random.default_rng(0))
    assert keypoint_head(np.zeros((3, 14, 14, 8), np.float32), params, config)[0].shape == (3, 56, 56, 2)
    assert keypoint_head(np.zeros((0, 14, 14, 8), np.float32), params, config)[0].shape == (0, 56, 56, 2)


def test_gradients_of_the_head():
    config, rng = small_config(**SMALL), np.random.default_rng(2)
    params = draw(keypoint_head_spec(config), rng, np.float64)
    names = list(params)

    def f(x, *tensors):
        y, cache = keypoint_head(x, dict(zip(names, tensors)), config, training=True)

        def backward(dy):
            grads = {}
            dx = keypoint_head_backward(dy, cache, grads)
            return [dx, *(grads[name] for name in names)]

        return y, backward

    check_gradients(f, rng.standard_normal((2, 4, 4, 8)), *params.values(), rng=rng)


def test_both_backends_agree():
    config, rng = small_config(**SMALL | {"keypoints": 17, "keypoint_head_channels": 16}), np.random.default_rng(3)
    params = draw(keypoint_head_spec(config), rng)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4, 4, 8), (3, 16, 16, 17)))
    found = []
    for backend in ("numpy", "cpu"):
        with kernels.use(backend):
            y, cache = keypoint_head(x, params, config, training=True)
            grads = {}
            dx = keypoint_head_backward(dy, cache, grads)
        found.append({"y": y, "dx": dx, **grads})
    for name, ours in found[0].items():
        np.testing.assert_allclose(found[1][name], ours, rtol=0, atol=2e-5 * np.abs(ours).max(), err_msg=name)


VARIANTS = {
    "masks and keypoints": {},
    "keypoints alone": {"mask_branch": False},
    "all that could be, weighted": {"keypoint_loss_denominator": "possible", "keypoint_loss_weight": 3.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_the_network(variant, samples):
    """Central differences of the tensors that the branch moves, two images, float64."""
    config, rng = small_config(**SMALL, **VARIANTS[variant], bn_mode="frozen"), np.random.default_rng(4)
    params = as_float64(initialise(config, rng))
    for p in params.values():
        p += 0.1 * rng.standard_normal(p.shape) * (0.3 if p.ndim == 1 else p.std())
    for name in params:
        if name.endswith(".var"):
            params[name] = np.abs(params[name]) + 0.5
    model, batch = MaskRCNN(config, params), make_batch(samples, config, np.float64)
    losses, cache = model.losses(batch, 3)
    targets = cache.targets
    assert targets.keypoints.shape == ((targets.class_ids > 0).sum(), 3) and (targets.keypoints >= 0).sum() >= 6
    assert losses["head_keypoint"] > 0 and (losses["head_mask"] > 0) == config.mask_branch
    grads = model.backward(cache)
    assert set(grads) == {name for name in params if trainable(name)}
    for name in [
        *(n for n in grads if "keypoint_head" in n),
        "fpn.output2.w",
        "fpn.output3.b",
        "backbone.c3.0.conv1.w",
    ]:
        p, direction = params[name], rng.standard_normal(params[name].shape)
        direction /= np.linalg.norm(direction)
        analytic, original, errors = float((grads[name] * direction).sum()), p.copy(), []
        for step in (1e-6, 1e-7):
            values = []
            for sign in (1, -1):
                p[...] = original + sign * step * direction
                values.append(sum(model.losses(batch, 0, targets=targets)[0].values()))
            p[...] = original
            numeric = (values[0] - values[1]) / (2 * step)
            noise = 20 * np.finfo(float).eps * sum(losses.values()) / step
            errors.append(max(abs(numeric - analytic) - noise, 0.0) / max(abs(numeric), abs(analytic), 1e-12))
        assert min(errors) < 1e-6, (name, errors, analytic)


def test_the_masks_do_not_notice(samples):
    """The branch draws nothing: with it, the other five losses are what they are without."""
    config = small_config(**SMALL)
    params = initialise(config, np.random.default_rng(0))
    without = {name: p for name, p in params.items() if not name.startswith("keypoint_head.")}
    losses, _ = MaskRCNN(config, params).losses(make_batch(samples, config), 5)
    plain, _ = MaskRCNN(config.replace(keypoints=0), without).losses(make_batch(samples, config), 5)
    assert {name: losses[name] for name in plain} == plain and set(losses) - set(plain) == {"head_keypoint"}


def test_beside_the_only_map():
    """The head reads maps of another number of channels than the pyramid would have."""
    config = presets.tiny_c4(
        num_classes=2, keypoints=3, box_head="fc", box_pool_size=7, fpn_channels=5, image_min_size=64,
        image_max_size=64, keypoint_head_convs=1, keypoint_head_channels=4,
    )  # fmt: skip
    image = picture((64, 64))
    model, batch = MaskRCNN(config), make_batch([sample_from(image, config)], config)
    losses, cache = model.losses(batch, 0)
    assert losses["head_keypoint"] > 0
    assert set(model.backward(cache)) == {name for name in model.params if trainable(name)}
    (found,) = model.detect(image)
    assert len(found) and found.keypoints.shape == (len(found), 3, 2)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_detections_have_keypoints(offset):
    config = small_config(**SMALL, mask_branch=False, detection_score_threshold=0.0, keypoint_offset=offset)
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    model.params["keypoint_head.deconv.b"][...] = [5, 0, -5]
    image = np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)
    (found,) = model.detect(image)
    assert len(found) > 3 and found.keypoints.shape == (len(found), 3, 2) == (*found.keypoint_scores.shape, 2)
    positions, boxes = found.keypoints + offset, found.boxes[:, None]
    assert (positions >= boxes[..., :2] - 0.01).all() and (positions <= boxes[..., 2:] + 0.01).all()
    assert found.pose.names == ("keypoint 1", "keypoint 2", "keypoint 3") and not found.has_masks
    assert found[:2].keypoints.shape == (2, 3, 2) and found[0].keypoints.shape == (3, 2)
    assert found[[]].keypoint_scores.shape == (0, 3)
    record = found.to_coco(7)[0]
    y, x = found.keypoints[0, 1].tolist()
    assert record["keypoints"][3:6] == [x, y, float(found.keypoint_scores[0, 1])] and "segmentation" not in record
    moved = dataclasses.replace(found, keypoints=None)
    assert "keypoints" not in moved.to_coco()[0] and moved.skeletons is None


def test_what_does_not_fit_is_said(samples):
    config = small_config(**SMALL)
    with pytest.raises(ValueError, match=r"image a has no keypoints; expected 3 for each object"):
        make_batch([samples[0].replace(gt_keypoints=None)], config)
    with pytest.raises(ValueError, match=r"gt_keypoints has shape \(2, 2, 3\), expected \(2, 3, 3\)"):
        make_batch([samples[0].replace(gt_keypoints=samples[0].gt_keypoints[:, :2])], config)
    with pytest.raises(ConfigError, match=r"keypoint_names is .* expected a name for each of the 3 keypoints"):
        config.replace(keypoint_names=("nose",))
    with pytest.raises(ConfigError, match=r"keypoint_skeleton is .* expected pairs of numbers from 1 to 3"):
        config.replace(keypoint_skeleton=(1, 4))
    assert make_batch(samples, config.replace(keypoints=0)).gt_keypoints == ()


def test_a_network_without_a_positive_region(samples):
    """No objects: the branch sees nothing, and its gradients are zeros."""
    config = small_config(**SMALL)
    empty = samples[0].of_objects([])
    model = MaskRCNN(config)
    losses, cache = model.losses(make_batch([empty], config), 0)
    grads = model.backward(cache)
    assert losses["head_keypoint"] == 0 and not grads["keypoint_head.conv1.w"].any()


def test_a_step_of_two_parts_is_that_of_both(samples):
    """Parts weigh by how many keypoints count in each."""
    config = small_config(**SMALL, bn_mode="frozen")
    model = MaskRCNN(config, as_float64(initialise(config, np.random.default_rng(0))))
    whole, parts = ([make_batch(s, config, np.float64) for s in cut] for cut in ([samples], [samples[:1], samples[1:]]))
    both, left = accumulate.forward(model, whole, np.random.default_rng(3))
    apart, left_apart = accumulate.forward(model, parts, np.random.default_rng(3))
    for name, value in both.items():
        np.testing.assert_allclose(apart[name], value, rtol=1e-10, err_msg=name)
    grads, summed = accumulate.backward(model, left), accumulate.backward(model, left_apart)
    for name, g in grads.items():
        np.testing.assert_allclose(summed[name], g, rtol=0, atol=1e-9 * max(np.abs(g).max(), 1e-6), err_msg=name)


def test_the_gradients_of_every_part_are_announced(samples):
    """After each part, the keypoint head first, and none changes once it has been announced."""
    config = small_config(**SMALL, bn_mode="frozen")
    model = MaskRCNN(config, as_float64(initialise(config, np.random.default_rng(0))))
    _, cache = model.losses(make_batch(samples, config, np.float64), np.random.default_rng(3))
    seen, parts = {}, []

    def ready(grads):
        parts.append({name.split(".")[0] for name in grads if name not in seen})
        seen.update({name: g.copy() for name, g in grads.items() if name not in seen})

    grads = model.backward(cache, ready=ready)
    assert parts[0] == {"keypoint_head"} and all(len(part) <= 1 for part in parts)
    assert set(seen) == set(grads)
    for name, g in grads.items():
        np.testing.assert_array_equal(seen[name], g, err_msg=name)
