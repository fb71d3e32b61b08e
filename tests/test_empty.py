"""Empty is normal: no objects, no positives, no regions, no proposals, no detections, for every preset and backend."""

import numpy as np
import pytest
from coco_tree import CocoTree
from nets import make_sample
from scenes import sample_of

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import LOSSES
from mrcnn_np.params import trainable
from mrcnn_np.targets import Targets
from mrcnn_np.training.run_folder import read_steps

#: what makes a preset small enough for a test; its conventions stay, and so does what its heads are made of
SMALL = {
    "image_min_size": 64,
    "image_max_size": 64,
    "fpn_channels": 16,
    "rpn_channels": 16,
    "rpn_anchors_per_image": 32,
    "rois_per_image": 16,
    "proposals_pre_nms_train": 60,
    "proposals_post_nms_train": 30,
    "proposals_pre_nms_test": 60,
    "proposals_post_nms_test": 20,
    "box_head_channels": 32,
    "mask_head_channels": 16,
}
#: what leaves a batch of images without objects without positive regions, without proposals, without regions at all
CASES = {
    "no objects": {},
    "no proposals": {"proposals_min_size": 1e5},
    "no regions": {"rois_padded": False, "roi_negatives": "ratio"},
    "no regions, batch statistics": {"rois_padded": False, "roi_negatives": "ratio", "bn_mode": "train"},
}
BACKENDS = [name for name in kernels.BACKENDS if name != "cuda"]
PRESETS = list(presets.PRESETS)
#: the first layer of a ResNet, and of a VGG
FIRST = ("backbone.stem.conv.w", "backbone.conv1_1.w")


def small(preset, **changes):
    backbone = {"tiny": "tiny", "small": "small", "tiny_c4": "tiny", "vgg16": "tiny_vgg"}.get(preset, "resnet18")
    return presets.by_name(preset, num_classes=4, backbone=backbone, frozen=(), **(SMALL | changes))


def picture(name="a", *, objects=0, size=(64, 48)):
    return make_sample(np.random.default_rng(0), size=size, objects=objects, name=name)


def step(config, samples, backend, **given):
    """Losses and gradients of fresh weights; every one must be finite and in its place."""
    with kernels.use(backend):
        model = MaskRCNN(config)
        losses, cache = model.losses(make_batch(samples, config), np.random.default_rng(0), **given)
        grads = model.backward(cache)
    assert set(grads) == {name for name in model.params if trainable(name)}
    for name, g in grads.items():
        assert g.shape == model.params[name].shape and g.dtype == np.float32, name
        assert np.isfinite(g).all(), name
    assert set(losses) == set(LOSSES) and all(np.isfinite(loss) for loss in losses.values())
    assert all(np.isfinite(p).all() for p in model.params.values())
    return losses, cache.targets, grads


def assert_same(one, other):
    """Two backends took the same step."""
    assert one[1].rois.shape == other[1].rois.shape
    np.testing.assert_array_equal(one[1].rpn_labels, other[1].rpn_labels)
    for name in LOSSES:
        assert one[0][name] == pytest.approx(other[0][name], rel=1e-4), name
    # Fresh weights leave ReLUs on their kink: single numbers differ by more than rounding, the whole does not
    difference = np.concatenate([(g - other[2][name]).ravel() for name, g in one[2].items()])
    whole = np.concatenate([g.ravel() for g in one[2].values()])
    assert np.linalg.norm(difference) <= 0.05 * np.linalg.norm(whole)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_without_positives(preset, case):
    config = small(preset, **CASES[case])
    steps = [step(config, [picture(), picture("b", size=(40, 64))], backend) for backend in BACKENDS]
    for losses, targets, grads in steps:
        assert not (targets.class_ids > 0).any() and len(targets.masks) == 0
        assert losses["rpn_box"] == losses["head_box"] == losses["head_mask"] == 0
        assert not any(g.any() for name, g in grads.items() if name.startswith("mask_head."))
        assert losses["rpn_class"] > 0 and next(iter(grads[name] for name in FIRST if name in grads)).any()
        regions = len(targets.rois)
        assert (regions == 0) == (case.startswith("no regions") or (case == "no proposals" and not config.rois_padded))
        assert (losses["head_class"] > 0) == (regions > 0)
        assert any(g.any() for name, g in grads.items() if name.startswith("box_head.")) == (regions > 0)
        assert_same(steps[0], (losses, targets, grads))


@pytest.mark.parametrize("preset", PRESETS)
def test_an_image_without_objects_beside_one_with(preset):
    steps = [step(small(preset), [picture(), picture("b", objects=2)], backend) for backend in BACKENDS]
    for losses, targets, grads in steps:
        assert losses["rpn_class"] > 0 and losses["rpn_box"] > 0 and losses["head_class"] > 0
        assert not (targets.class_ids[targets.image_index == 0] > 0).any()
        assert_same(steps[0], (losses, targets, grads))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_in_which_nothing_was_sampled(preset):
    """No anchor carries a loss and no region was chosen: every loss and every gradient is 0."""
    config = small(preset)
    for backend in BACKENDS:
        _, found, _ = step(config, [picture()], backend)
        m = 2 * config.mask_pool_size
        nothing = Targets(
            rpn_labels=np.zeros_like(found.rpn_labels),
            rpn_deltas=np.zeros_like(found.rpn_deltas),
            rois=np.zeros((0, 4), np.float32),
            image_index=np.zeros(0, np.int64),
            class_ids=np.zeros(0, np.int64),
            deltas=np.zeros((0, 4), np.float32),
            masks=np.zeros((0, m, m), np.float32),
        )
        losses, _, grads = step(config, [picture()], backend, targets=nothing)
        assert set(losses.values()) == {0.0} and not any(g.any() for g in grads.values())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [(64, 48), (1, 1), (1, 64)])
def test_only_a_crowd(preset, size):
    """A crowd is no target: an image of nothing else teaches what background is, or nothing."""
    h, w = size
    sample = sample_of([[0, 0, h, w]], shape=size, crowd=[True])
    for backend in BACKENDS:
        losses, targets, _ = step(small(preset), [sample], backend)
        assert not (targets.class_ids > 0).any() and losses["head_mask"] == losses["rpn_box"] == 0


@pytest.mark.parametrize("case", ["proposals", "detections"])
@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_found(preset, case):
    nothing = {"proposals_min_size": 1e5} if case == "proposals" else {"detection_score_threshold": 1.0}
    for backend in BACKENDS:
        with kernels.use(backend):
            model = MaskRCNN(small(preset, detection_score_inclusive=False, **nothing))
            for size in ((64, 48), (1, 1)):
                (found,) = model.detect([picture(size=size).image])
                assert found.boxes.shape == (0, 4) and found.masks.shape == (0, *size) and found.masks.dtype == bool
                assert found.scores.shape == found.class_ids.shape == (0,) and found.class_ids.dtype == np.int64
            assert model.detect([]) == []


# --- from the command line ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half_empty(tmp_path_factory):
    """Eight images, every second one without objects."""
    tree = CocoTree(tmp_path_factory.mktemp("coco") / "half")
    for number in range(1, 9):
        tree.image(number)
        if number % 2:
            tree.rectangle(number, 5, 4, 20, 15)
    return tree.save()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preset", ["tiny", "matterport"])
def test_train_goes_through_images_without_objects(half_empty, tmp_path, preset, backend):
    settings = SMALL | {"backbone": "tiny", "warmup_steps": 2}
    config = [word for name, value in settings.items() for word in ("--config", f"{name}={value}")]
    out = tmp_path / "run"
    command = ["train", "--data", "coco", "--root", str(half_empty), "--split", "train", "--val-split", "train"]
    command += ["--preset", preset, "--batch-size", "1", *config]
    always = ["--out", str(out), "--backend", backend, "--no-eval", "--no-pictures", "--quiet"]
    assert main([*command, *always, "--steps", "3"]) == 0
    assert main(["train", "--resume", "--steps", "8", *always]) == 0
    rows = read_steps(out / "metrics.jsonl")
    assert len(rows) == 8 and all(np.isfinite(row["loss"]) for row in rows)
    assert any(row["head_mask"] == 0 for row in rows)  # steps without a positive region
