"""The whole network on arrays of a device: what it computes, what crosses to the host, and that training goes on.

The network is a small one of all kinds of layers. Without a card the arrays are the stand-ins for CuPy's, which refuse
what CuPy's refuse, and the kernels run in Numba's simulator.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
from fake_ranks import on_cards

import kernels
from kernels.cuda.machine import device
from mrcnn_np import MaskRCNN, backbone, presets
from mrcnn_np.errors import ConfigError, DeviceMemoryError, NonFiniteError
from mrcnn_np.layers import shown
from mrcnn_np.molding import make_batch
from mrcnn_np.parallel.ranks import Ranks
from mrcnn_np.synthetic import batch, params_that_detect, picture, sample, sample_from
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.loop import train, train_step
from mrcnn_np.training.optim import zero_velocity

COPIES = device.COPIES
SIDE = 32


class Narrow(backbone.Architecture):
    """Bottlenecks that put out few channels, too."""

    out_channels = (8, 8, 8, 12)


ONE_BLOCK_A_STAGE = {
    "bottlenecks": Narrow("bottleneck", (1, 1, 1, 1), (4, 4, 4, 4), stem=4, stem_kernel=3),
    "basic": backbone.Architecture("basic", (1, 1, 1, 1), (4, 4, 4, 8), stem=4, stem_kernel=3),
}


def small(preset="torchvision", **changes):
    """Return a preset with a network of a few channels and one block in each stage, for images of 32 x 32."""
    config = presets.by_name(preset, num_classes=3)
    architecture = "basic" if config.name in ("tiny", "small") else "bottlenecks"
    return config.replace(**{
        "backbone": architecture, "fpn_channels": 4, "rpn_channels": 4, "box_head_channels": 8, "mask_head_channels": 4,
        "box_pool_size": 2, "mask_pool_size": 2, "mask_head_convs": 1,
        "image_min_size": SIDE, "image_max_size": SIDE, "batch_size": 1,
        "anchor_sizes": (4, 8, 16, 32, 64), "rpn_anchors_per_image": 32,
        "proposals_pre_nms_train": 40, "proposals_pre_nms_test": 40,
        "proposals_post_nms_train": 8, "proposals_post_nms_test": 4,
        "rois_per_image": 4, "detections_per_image": 3, "detection_score_threshold": 0.0, "detection_min_size": 0.0,
    } | changes)  # fmt: skip


@pytest.fixture(autouse=True)
def architectures(monkeypatch):
    for name, architecture in ONE_BLOCK_A_STAGE.items():
        monkeypatch.setitem(backbone.ARCHITECTURES, name, architecture)
    known = (*backbone.ARCHITECTURES, *ONE_BLOCK_A_STAGE)
    monkeypatch.setattr("mrcnn_np.config.config.BACKBONES", known)


def close(a, b, tolerance=2e-4):
    """Compare two arrays, relative to the largest number."""
    a, b = kernels.to_host(a), kernels.to_host(b)
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * (np.abs(b).max(initial=0) + 1e-3))


def images(config, count=1):
    """Return a batch whose objects are not all of one size."""
    return batch((SIDE, SIDE), config.replace(batch_size=count))


PRESETS = ("torchvision", "matterport", "tiny")
ANCHORS = {"anchor_sizes": (4, 8, 16), "box_pool_size": 3}
ONE_MAP = [("detectron2_c4", ANCHORS), ("tiny_c4", ANCHORS | {"roi_method": "roi_pool"})]
KEYPOINTS = {"keypoints": 3, "keypoint_head_convs": 1, "keypoint_head_channels": 4, "keypoint_pool_size": 2}
POSES = [
    ("torchvision", KEYPOINTS | {"mask_branch": False}),
    ("tiny", KEYPOINTS | {"keypoint_decode": "quarter", "keypoint_loss_denominator": "possible"}),
]


@pytest.mark.parametrize("preset, changes", [*((name, {}) for name in PRESETS), *ONE_MAP, *POSES])
def test_losses_gradients_and_detections_are_those_of_numpy(preset, changes):
    config = small(preset, **changes)
    ready, image = images(config), picture((SIDE, SIDE - 5))
    found = {}
    for backend in ("numpy", "cuda"):
        with kernels.use("numpy"):
            model = MaskRCNN(config, params_that_detect(config))
        with kernels.use(backend):
            losses, cache = model.losses(ready, 0)
            found[backend] = losses, cache.targets, model.backward(cache), model.detect(image)[0], model.params
    (losses, targets, grads, seen, params), (their_losses, *theirs) = found["cuda"], found["numpy"]
    assert all(kernels.on_device(g) for g in grads.values())
    assert {type(loss) for loss in losses.values()} == {float}
    assert losses == pytest.approx(their_losses, rel=1e-4)
    for field in fields(targets):
        mine, other = getattr(targets, field.name), getattr(theirs[0], field.name)
        if mine is None and other is None:  # of a branch that is not there
            continue
        close(mine, other)
    assert grads.keys() == theirs[1].keys()
    largest = max(float(np.abs(g).max()) for g in theirs[1].values())
    for name, g in theirs[1].items():
        np.testing.assert_allclose(kernels.to_host(grads[name]), g, rtol=1e-3, atol=1e-5 * largest, err_msg=name)
    for name, p in theirs[3].items():  # running statistics move
        close(params[name], p)
    assert len(seen.boxes) > 0
    for name in ("boxes", "scores"):
        close(getattr(seen, name), getattr(theirs[2], name))
    np.testing.assert_array_equal(seen.class_ids, theirs[2].class_ids)
    assert seen.masks.shape == theirs[2].masks.shape
    assert not seen.masks.size or (seen.masks != theirs[2].masks).mean() < 1e-3
    if config.keypoints:
        assert "head_keypoint" in losses
        for name in ("keypoints", "keypoint_scores"):
            close(getattr(seen, name), getattr(theirs[2], name))


@pytest.mark.parametrize("changes", [{}, KEYPOINTS])
def test_gradient_of_the_losses_by_differences(changes):
    """The directional derivative of the sum of the losses, in float64 by NumPy, is that of the device's gradient."""
    config = small("torchvision", **changes)
    ready, model = images(config), MaskRCNN(config)
    with kernels.use("cuda"):
        _, cache = model.losses(ready, 0)
        grads, targets = kernels.to_host(model.backward(cache)), kernels.to_host(cache.targets)
    params = {name: p.astype(np.float64) for name, p in kernels.to_host(model.params).items()}
    rng = np.random.default_rng(1)
    for part in ("backbone", "fpn", "rpn", "box_head", "mask_head", *(["keypoint_head"] if changes else [])):
        names = [name for name in grads if name.startswith(part)]
        direction = {name: rng.standard_normal(grads[name].shape) * np.abs(params[name]).mean() for name in names}
        sides = []
        for step in (1e-6, -1e-6):
            moved = params | {name: params[name] + step * direction[name] for name in names}
            with kernels.use("numpy"):
                losses, _ = MaskRCNN(config, moved).losses(ready_in_float64(ready), 0, targets=targets)
            sides.append(sum(losses.values()))
        expected = (sides[0] - sides[1]) / 2e-6
        assert sum(float((grads[n] * direction[n]).sum()) for n in names) == pytest.approx(expected, rel=2e-3, abs=1e-5)


def ready_in_float64(ready):
    return replace(ready, images=ready.images.astype(np.float64))


@pytest.mark.skipif(not device.SIMULATED, reason="CuPy does not count what it copies")
def test_what_crosses_in_one_detection_and_in_one_step():
    """All that crosses, with its reason: a new one is a wait of the host for the device, or of both for each other."""
    config = small("torchvision")
    ready, image, model = images(config), picture((SIDE, SIDE)), MaskRCNN(config)
    with kernels.use("cuda"):
        velocity = zero_velocity(model.params, config)
        train_step(model, ready, velocity, step=0, rng=np.random.default_rng(0))  # parameters and anchors move, once
        COPIES.reset()
        model.detect(image)
        detect = counted()
        COPIES.reset()
        train_step(model, ready, velocity, step=1, rng=np.random.default_rng(0))
        step = counted()
    assert detect == {
        "to_device": sum({"the image, its mean and deviation": 3, "its place and scale": 2}.values()),
        "to_host": sum({
            "are the head's outputs finite": 1, "survivors of NMS, of proposals and detections": 2,
            "are these boxes finite": 2, "regions of each level, for two heads": 2, "boxes, classes, scores, masks": 4,
        }.values()),
        "sizes": sum({"boxes with sides, of proposals and detections": 2, "candidates": 1}.values()),
    }  # fmt: skip
    assert step == {
        "to_device": sum({
            "images, boxes, classes, masks, active classes": 5,
            "objects, for anchors and regions": 2, "which are sampled: anchors and regions, positive and negative": 4,
            "std of deltas, for anchors and regions": 2, "where the masks' windows begin": 1,
            "a table of the tensors, for their norm or their step": 1,
        }.values()),
        "to_host": sum({
            "are parameters, the head's outputs, proposals, gradients finite": 4, "survivors of NMS": 1,
            "regions of each level, for two heads": 2, "five losses": 1, "norm of the gradients": 1,
        }.values()),
        "sizes": sum({
            "anchors: positive, negative, sampled": 3, "boxes with sides": 1, "regions: positive, negative": 2,
            "positive regions, for the mask head and the loss of boxes": 2, "anchors in the losses": 3,
        }.values()),
    }  # fmt: skip


@pytest.mark.skipif(not device.SIMULATED, reason="CuPy does not count what it copies")
def test_what_else_crosses_for_keypoints():
    """Beside what crosses for boxes alone."""
    found = {}
    for name, changes in (("without", {"mask_branch": False}), ("with", KEYPOINTS | {"mask_branch": False})):
        config = small("torchvision", **changes)
        ready, image, model = images(config), picture((SIDE, SIDE)), MaskRCNN(config, params_that_detect(config))
        with kernels.use("cuda"):
            velocity = zero_velocity(model.params, config)
            train_step(model, ready, velocity, step=0, rng=np.random.default_rng(0))
            COPIES.reset()
            model.detect(image)
            detect = counted()
            COPIES.reset()
            train_step(model, ready, velocity, step=1, rng=np.random.default_rng(0))
            found[name] = detect, counted()
    detect, step = ({name: b[name] - a[name] for name in a} for a, b in zip(found["without"], found["with"]))
    assert detect == {
        "to_device": 0, "to_host": sum({"regions of each level": 1, "maps and the boxes they are read in": 2}.values()),
        "sizes": 0,
    }  # fmt: skip
    assert step == {
        "to_device": sum({"keypoints": 1}.values()), "to_host": sum({"regions of each level": 1}.values()),
        "sizes": sum({"keypoints that count": 1}.values()),
    }  # fmt: skip


def counted():
    return {name: getattr(COPIES, name) for name in ("to_device", "to_host", "sizes")}


def test_two_steps_move_the_parameters_as_numpy_does_and_twice_with_the_same_bits():
    config = small("tiny", learning_rate=0.01, clip_norm=0.5, warmup_steps=0)
    ready = images(config)
    found = []
    for backend in ("numpy", "cuda", "cuda"):
        model = MaskRCNN(config)
        with kernels.use(backend):
            velocity = zero_velocity(model.params, config)
            records = [
                train_step(model, ready, velocity, step=step, rng=np.random.default_rng(step)) for step in range(2)
            ]
        found.append((records, kernels.to_host(model.params), kernels.to_host(velocity)))
    (records, params, velocity), (ours, *tensors), (again, *same) = found
    for a, b in zip(ours, records):
        assert a == pytest.approx(b, rel=1e-3)
    for name, p in params.items():
        close(tensors[0][name], p, 1e-3)
    for name in velocity:
        assert tensors[1][name].tobytes() == same[1][name].tobytes()
    assert ours == again
    assert all(tensors[0][name].tobytes() == same[0][name].tobytes() for name in params)


def test_a_step_from_two_batches_is_that_of_the_bigger_one():
    config = small("torchvision", learning_rate=0.01, warmup_steps=0, clip_norm=None, bn_mode="frozen")
    found = []
    for batches in ([images(config, 2)], [images(config), images(config)]):
        model = MaskRCNN(config)
        with kernels.use("cuda"):
            velocity = zero_velocity(model.params, config)
            record = train_step(model, batches, velocity, step=0, rng=np.random.default_rng(0))
        found.append((record, kernels.to_host(velocity)))
    (whole, expected), (parts, velocity) = found
    assert parts == pytest.approx(whole, rel=1e-3)
    for name, v in expected.items():
        close(velocity[name], v, 1e-3)


@pytest.mark.parametrize("bn_mode, worst", [("frozen", 2e-5), ("train", 5e-4)])  # 1e-6; 1.2e-4: maps of one cell
def test_a_step_of_two_ranks_is_that_of_one_process(bn_mode, worst):
    config = small("tiny", learning_rate=0.01, warmup_steps=0, batch_size=2, bn_mode=bn_mode)
    seen = [sample_from(picture((SIDE, SIDE), seed), config, seed=seed) for seed in range(2)]

    def step(ranks):
        model = MaskRCNN(config, rng=np.random.default_rng(0))
        velocity = zero_velocity(model.params, config)
        own = make_batch([seen[i] for i in ranks.share(2)], config)
        record = train_step(model, own, velocity, step=0, rng=np.random.default_rng(1), ranks=ranks)
        assert all(map(kernels.on_device, velocity.values()))
        return record, kernels.to_host(velocity)

    with kernels.use("cuda"):
        whole, expected = step(Ranks())
    found = on_cards(2, step)
    largest = max(float(np.abs(v).max()) for v in expected.values())
    for record, velocity in found:
        assert record == pytest.approx(whole, rel=1e-3)
        for name, v in expected.items():
            np.testing.assert_allclose(velocity[name], v, rtol=1e-3, atol=worst * largest, err_msg=name)
    (_, first), (_, second) = found
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_training_writes_checkpoints_that_another_backend_reads(tmp_path):
    config = small("tiny", steps=2, num_classes=4)
    dataset = OneImage()
    model = MaskRCNN(config)
    with kernels.use("cuda"):
        train(model, dataset, out_dir=tmp_path, checkpoint_every=1, progress=False)
    saved = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert saved.step == 2
    close(saved.params["fpn.output2.w"], model.params["fpn.output2.w"], 0)
    resumed = MaskRCNN(config.replace(steps=3))
    with kernels.use("cuda"):
        train(resumed, dataset, out_dir=tmp_path, resume=saved, progress=False)
    with kernels.use("numpy"):
        assert len(MaskRCNN(config, load_checkpoint(tmp_path / "checkpoint.safetensors").params).detect(
            picture((SIDE, SIDE))
        )) == 1  # fmt: skip


class OneImage:
    """A data set of one made-up image."""

    class_names, ids = ("background", "a", "b", "c"), ("0",)

    def __len__(self):
        return 1

    def load(self, index):
        return sample((SIDE, SIDE), classes=4)


def test_parameters_follow_the_backend():
    config = small("torchvision")
    params = MaskRCNN(config).params
    model, image = MaskRCNN(config, params), picture((SIDE, SIDE))
    with kernels.use("cuda"):
        model.detect(image)
        moved = dict(params)
        assert all(kernels.on_device(p) for p in params.values())
        model.detect(image)
        assert all(params[name] is p for name, p in moved.items())
        other = model.with_config(detection_nms_iou=0.3, detection_nms_per_class=False)
        assert len(other.detect(image)) == 1
    with kernels.use("numpy"):
        model.detect(image)
    assert not any(kernels.on_device(p) for p in params.values())


def test_forward_here_and_backward_there():
    config = small("torchvision")
    ready, model = images(config), MaskRCNN(config)
    with kernels.use("numpy"):
        _, cache = model.losses(ready, 0)
        expected = model.backward(cache)
    with kernels.use("cuda"):
        grads = model.backward(cache)
        _, there = model.losses(ready, 0, targets=cache.targets)
    assert all(kernels.on_device(g) for g in grads.values())
    with kernels.use("numpy"):
        back = model.backward(there)
    for name, g in expected.items():
        close(grads[name], g, 1e-3)
        close(back[name], g, 1e-3)


@pytest.mark.parametrize("changes", [{}, KEYPOINTS])
def test_an_image_without_objects(changes):
    config = small("torchvision", **changes)
    ready = images(config)
    fields_of_objects = ("gt_boxes", "gt_class_ids", "gt_masks", "gt_crowd", *(["gt_keypoints"] if changes else []))
    none = {name: (getattr(ready, name)[0][:0],) for name in fields_of_objects}
    empty = replace(ready, **none)
    found = []
    for backend in ("numpy", "cuda"):
        model = MaskRCNN(config)
        with kernels.use(backend):
            losses, cache = model.losses(empty, 0)
            found.append((losses, kernels.to_host(model.backward(cache))))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    assert found[1][0]["head_mask"] == 0
    assert not np.any(found[1][1]["mask_head.logits.w"])


@pytest.mark.parametrize("changes", [{}, KEYPOINTS])
def test_nothing_found(changes):
    model = MaskRCNN(small("torchvision", detection_score_threshold=0.999, **changes))
    with kernels.use("cuda"):
        (found,) = model.detect(picture((SIDE, SIDE + 9)))
    assert not changes or (found.keypoints.shape, found.keypoint_scores.shape) == ((0, 3, 2), (0, 3))
    assert found.masks.shape == (0, SIDE, SIDE + 9) and found.boxes.shape == (0, 4)
    assert found.boxes.dtype == np.float32 and found.class_ids.dtype == np.int64


def test_whoever_watches_sees_arrays_of_the_host():
    seen = {}
    with kernels.use("cuda"):
        x = kernels.to_device(np.ones(3, np.float32))
        y = shown(lambda name, t: seen.update({name: t}) or 2 * t, "x", x)
    assert isinstance(seen["x"], np.ndarray)
    assert kernels.on_device(y) and kernels.to_host(y).tolist() == [2, 2, 2]


def test_a_tensor_that_is_not_finite_is_named():
    config = small("torchvision")
    model = MaskRCNN(config)
    model.params["fpn.output3.b"][1] = np.inf
    with kernels.use("cuda"):
        with pytest.raises(NonFiniteError, match=r"fpn\.output3\.b"):
            model.detect(picture((SIDE, SIDE)))
        with pytest.raises(NonFiniteError, match=r"parameter fpn\.output3\.b"):
            velocity = zero_velocity(model.params, config)
            train_step(model, images(config), velocity, step=0, rng=np.random.default_rng(0))


def test_float64_is_refused():
    config = small("torchvision")
    model = MaskRCNN(config, {name: p.astype(np.float64) for name, p in MaskRCNN(config).params.items()})
    with kernels.use("cuda"), pytest.raises(ConfigError, match="float64; the cuda backend computes in float32 only"):
        model.detect(picture((SIDE, SIDE)))


def test_too_little_memory(monkeypatch):
    """Out of memory is one message that says how much is needed."""
    config = small("torchvision")
    model = MaskRCNN(config)

    def full(*args, **kwargs):
        raise MemoryError("out of memory allocating 123 bytes")

    with kernels.use("cuda"):
        model.settle()
        monkeypatch.setattr(device, "memory", lambda: (3 << 28, 2 << 30))
        monkeypatch.setattr(device, "to_device", full)
        needed = r"needs about \d+\.\d GiB; it has 2\.0 GiB, of which 0\.8 are free"
        with pytest.raises(DeviceMemoryError, match=rf"a training step of one image of 32 x 32 pixels {needed}"):
            model.losses(images(config), 0)
        with pytest.raises(DeviceMemoryError, match=rf"a detection in an image of 32 x 32 pixels {needed}"):
            model.detect(picture((SIDE, SIDE)))
