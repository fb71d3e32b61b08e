"""A step that ranks share is the step of one process with the whole batch."""

import numpy as np
import pytest
from fake_ranks import on_ranks
from scenes import sample_of

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.errors import NonFiniteError, UserError
from mrcnn_np.molding import make_batch
from mrcnn_np.parallel.ranks import ALONE
from mrcnn_np.training import accumulate
from mrcnn_np.training.agreement import alike, require_shares
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.loop import train
from mrcnn_np.training.run_folder import CHECKPOINT, METRICS, read_steps

SIDE = 64
BOXES = [(4, 4, 30, 30), (34, 30, 60, 58), (2, 36, 26, 62)]


class Images:
    """Images with different numbers of objects: their losses are divided by different numbers."""

    class_names = ("background", "thing")

    def __init__(self):
        rng = np.random.default_rng(0)
        self.samples = [
            sample_of(
                BOXES[:n], shape=(SIDE, SIDE), name=f"i{i}", image=rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            )
            for i, n in enumerate((3, 0, 1, 2, 0, 1))
        ]
        self.ids = [s.image_id for s in self.samples]

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        return self.samples[index]


def network(dtype=np.float64, **changes):
    own = {"image_min_size": SIDE, "image_max_size": SIDE, "steps": 2, "warmup_steps": 0, "learning_rate": 0.01}
    config = presets.tiny(num_classes=2, **own | changes)
    params = MaskRCNN(config, rng=np.random.default_rng(0)).params
    return MaskRCNN(config, {name: p.astype(dtype) for name, p in params.items()})


def run(folder, ranks, model, **options):
    if ranks.first:
        folder.mkdir(exist_ok=True)
    options = {"progress": False, "checkpoint_every": 1} | options
    train(model, Images(), out_dir=folder if ranks.first else folder / "never", ranks=ranks, **options)
    return model.params


@pytest.mark.parametrize(
    "size, changes",
    [
        (2, {"batch_size": 4, "bn_mode": "train"}),
        (3, {"batch_size": 4, "bn_mode": "frozen", "steps": 1}),  # shares of 1, 1 and 2
        (2, {"batch_size": 2, "bn_mode": "train", "accumulate": 2}),
    ],
)
def test_training_is_that_of_one_process(tmp_path, size, changes):
    run(tmp_path / "one", ALONE, network(**changes))
    params = on_ranks(size, lambda ranks: run(tmp_path / "several", ranks, network(**changes)))
    one, several = (read_steps(tmp_path / name / METRICS) for name in ("one", "several"))
    assert len(one) == len(several) > 0
    for whole, shared in zip(one, several):
        assert shared == pytest.approx(whole, rel=1e-6)
    ours, theirs = (load_checkpoint(tmp_path / name / CHECKPOINT) for name in ("several", "one"))
    for name, p in theirs.params.items():
        np.testing.assert_allclose(ours.params[name], p, rtol=1e-6, atol=1e-9, err_msg=name)
        assert all((other[name] == params[0][name]).all() for other in params), name


ONE_MAP = {"neck": "none", "anchor_strides": (16,), "anchor_sizes": (12.0, 24.0, 48.0)}
C4 = ONE_MAP | {"box_head": "c5", "box_pool_size": 14, "mask_pool_size": 7, "mask_head_convs": 0}


@pytest.mark.parametrize(
    "changes",
    [
        C4 | {"bn_mode": "train"},  # C5 normalises the RoIs of all ranks together
        C4 | {"bn_mode": "frozen", "mask_branch": False, "frozen": ("backbone.stem.*", "backbone.c2.*")},
        ONE_MAP | {"backbone": "tiny_vgg", "mask_branch": False, "accumulate": 2, "frozen": ("backbone.conv1_*",)},
    ],
    ids=["C4", "C4 without masks", "VGG"],
)
def test_a_step_of_a_network_without_a_pyramid_is_that_of_one_process(tmp_path, changes):
    changes = changes | {"batch_size": 2, "steps": 1, "box_head_channels": 32, "rois_per_image": 16}
    whole = run(tmp_path / "one", ALONE, network(**changes))
    for params in on_ranks(2, lambda ranks: run(tmp_path / "several", ranks, network(**changes))):
        assert set(params) == set(whole)
        for name, p in whole.items():
            np.testing.assert_allclose(params[name], p, rtol=1e-6, atol=1e-9, err_msg=name)
    one, several = (read_steps(tmp_path / name / METRICS) for name in ("one", "several"))
    assert several[0] == pytest.approx(one[0], rel=1e-6)


@pytest.mark.parametrize("denominator", ["visible", "possible"])
def test_keypoints_are_learned_as_by_one_process(denominator):
    """The sixth loss, and its gradients, of a batch whose images have different numbers of keypoints."""
    head = {"keypoints": 2, "keypoint_head_convs": 1, "keypoint_head_channels": 8, "keypoint_pool_size": 4}
    model = network(batch_size=2, bn_mode="frozen", keypoint_loss_denominator=denominator, **head)
    samples = []
    for sample in (Images().samples[0], Images().samples[2]):
        y1, x1, y2, x2 = sample.gt_boxes.T
        middle = np.stack([(y1 + y2) / 2, (x1 + x2) / 2, np.full(len(y1), 2.0)], axis=1)
        samples.append(sample.replace(gt_keypoints=np.stack([middle, middle - (3.0, 3.0, 0.0)], axis=1)))

    def step(ranks):
        own = [samples[i] for i in ranks.share(2)]
        batches = [make_batch(own, model.config, np.float64)]
        losses, left = accumulate.forward(model, batches, np.random.default_rng(1), ranks)
        return losses, accumulate.backward(model, left)

    expected, grads = step(ALONE)
    assert expected["head_keypoint"] > 0 and "keypoint_head.conv1.w" in grads
    for losses, found in on_ranks(2, step):
        assert losses == pytest.approx(expected, rel=1e-9)
        assert set(found) == set(grads)
        for name, g in grads.items():
            np.testing.assert_allclose(found[name], g, rtol=1e-6, atol=1e-10, err_msg=name)


def test_two_runs_of_one_layout_and_one_that_goes_on_have_the_same_bits(tmp_path):
    changes = {"batch_size": 2, "bn_mode": "train"}
    for name in ("a", "b"):
        on_ranks(2, lambda ranks, name=name: run(tmp_path / name, ranks, network(np.float32, **changes)))
    half = {**changes, "steps": 1}
    on_ranks(2, lambda ranks: run(tmp_path / "c", ranks, network(np.float32, **half)))

    def go_on(ranks):
        return run(tmp_path / "c", ranks, network(np.float32, **changes), resume=resume[ranks.rank])

    resume = [load_checkpoint(tmp_path / "c" / CHECKPOINT) for _ in range(2)]  # each rank has arrays of its own
    on_ranks(2, go_on)
    for name in (CHECKPOINT, METRICS):
        assert len({(tmp_path / folder / name).read_bytes() for folder in "abc"}) == 1, name


def test_what_goes_wrong_names_the_images_of_all_ranks(tmp_path):
    def work(ranks):
        model = network(batch_size=2)
        model.params["rpn.deltas.b"][0] = np.nan
        run(tmp_path / "run", ranks, model)

    with pytest.raises(
        NonFiniteError, match=r"step 1: parameter rpn.deltas.b .*\(images i\d, i\d\); the checkpoint of"
    ):
        on_ranks(2, work)


def test_more_ranks_than_images_are_refused():
    with pytest.raises(UserError, match=r"a batch has 2 images, too few for 3 ranks"):
        on_ranks(3, lambda ranks: require_shares(presets.tiny(batch_size=2), ranks))


def test_ranks_that_drifted_apart_take_over_what_the_first_has():
    def work(ranks):
        params, velocity = {"w": np.full(3, 1.0 + 1e-9 * ranks.rank)}, {"w": np.zeros(3)}
        w = params["w"]
        alike(params, velocity, ranks)
        assert params["w"] is w
        return w

    assert all((w == 1).all() for w in on_ranks(3, work))
