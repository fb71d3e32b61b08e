"""A step from several batches is that of one batch of all their images."""

import linear_model
import numpy as np
import pytest
from scenes import sample_of

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.config import Config
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import LOSSES
from mrcnn_np.params import trainable
from mrcnn_np.training import accumulate
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.loop import step_samples, stream, train, train_step
from mrcnn_np.training.optim import zero_velocity
from mrcnn_np.training.run_folder import CHECKPOINT, METRICS, read_steps

SIDE = 64
BOXES = [(4, 4, 30, 30), (34, 30, 60, 58), (2, 36, 26, 62)]
#: of matterport's kind and of torchvision's: what the losses are divided by differs
CONVENTIONS = {
    "positives": {"box_loss_denominator": "positives"},
    "sampled": {"box_loss_denominator": "sampled", "rois_padded": False},
    "active only": {"class_loss_active_only": True, "active_classes": "own"},
    "ratio": {"roi_negatives": "ratio", "loss_weights": (1.0, 2.0, 0.5, 1.5, 3.0)},
    "group norm": {"norm": "group", "norm_groups": 4, "bn_mode": "train", "mask_head_norm": True},
}


def samples(counts):
    """Images with so many objects each: their losses are divided by different numbers."""
    rng = np.random.default_rng(0)
    return [
        sample_of(
            BOXES[:count], shape=(SIDE, SIDE), name=f"image{i}", image=rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        )
        for i, count in enumerate(counts)
    ]


def small(**changes):
    own = {"bn_mode": "frozen", "image_min_size": SIDE, "image_max_size": SIDE} | changes
    return presets.tiny(num_classes=2, **own)


def network(config, dtype=np.float64):
    params = MaskRCNN(config, rng=np.random.default_rng(0)).params
    return MaskRCNN(config, {name: p.astype(dtype) for name, p in params.items()})


def step_of(model, images, sizes):
    """Losses, gradients and positives of a step whose parts have so many images each."""
    ends = np.cumsum(sizes)
    batches = [make_batch(images[end - size : end], model.config, model.dtype) for end, size in zip(ends, sizes)]
    losses, left = accumulate.forward(model, batches, np.random.default_rng(1))
    return losses, accumulate.backward(model, left), left.positives


def furthest(found, expected):
    """The largest error of a tensor, relative to its largest number."""
    assert set(found) == set(expected)
    return max(np.abs(found[name] - g).max() / max(np.abs(g).max(), 1e-12) for name, g in expected.items())


@pytest.mark.parametrize("changes", CONVENTIONS.values(), ids=CONVENTIONS)
@pytest.mark.parametrize("counts, sizes", [((3, 0, 1), (1, 1, 1)), ((0, 2, 1, 3), (2, 2)), ((0, 0), (1, 1))])
def test_it_is_the_bigger_batch_to_the_last_digits(counts, sizes, changes):
    model, images = network(small(**changes)), samples(counts)
    whole, expected, positives = step_of(model, images, [len(images)])
    losses, grads, found = step_of(model, images, sizes)
    assert found == positives and (positives["roi_positives"] > 0) == any(counts)
    for name in LOSSES:
        assert losses[name] == pytest.approx(whole[name], rel=1e-10, abs=1e-14), name
    assert furthest(grads, expected) < 1e-10


def test_the_mean_of_the_parts_is_something_else():
    model, images = network(small()), samples((3, 1))
    _, expected, _ = step_of(model, images, [2])
    parts = [step_of(model, [image], [1])[1] for image in images]
    assert furthest({name: (parts[0][name] + parts[1][name]) / 2 for name in expected}, expected) > 0.1


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_in_float32_up_to_rounding(backend):
    with kernels.use(backend):
        model, images = network(small(), np.float32), samples((3, 0, 1))
        whole, expected, _ = step_of(model, images, [3])
        losses, grads, _ = step_of(model, images, [1, 1, 1])
    assert losses == pytest.approx(whole, rel=1e-4)
    assert furthest(grads, expected) < 1e-3
    assert all(g.dtype == np.float32 for g in grads.values())


def test_one_batch_has_the_bits_that_it_always_had():
    model, images = network(small(bn_mode="train"), np.float32), samples((2, 1))
    other = network(small(bn_mode="train"), np.float32)
    batch = make_batch(images, model.config)
    losses, cache = other.losses(batch, np.random.default_rng(1))
    grads = other.backward(cache)
    found, own, _ = step_of(model, images, [2])
    assert found == losses and all((own[name] == g).all() for name, g in grads.items())


def test_running_statistics_move_once_for_each_part():
    model, images = network(small(bn_mode="train"), np.float32), samples((3, 0, 1))
    other = network(small(bn_mode="train"), np.float32)
    step_of(model, images, [1, 1, 1])
    rng = np.random.default_rng(1)
    for image in images:
        other.losses(make_batch([image], other.config), rng)
    assert all((model.params[name] == p).all() for name, p in other.params.items())
    assert any((model.params[name] != 0).any() for name in model.params if not trainable(name))


class Images:
    """A data set of some samples."""

    class_names = ("background", "thing")

    def __init__(self, counts=(3, 1, 0, 2, 1)):
        self.samples = samples(counts)
        self.ids = [s.image_id for s in self.samples]

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        return self.samples[index]


def test_a_step_takes_the_images_of_the_bigger_batch():
    data = Images()
    parts, batches = step_samples(
        data, small(batch_size=2, accumulate=2), seed=0, step=1, rng=stream(0, 1, 2), skipped=None
    )
    whole, one = step_samples(data, small(batch_size=4), seed=0, step=1, rng=stream(0, 1, 2), skipped=None)
    assert [s.image_id for s in parts] == [s.image_id for s in whole]
    assert [len(b.images) for b in batches] == [2, 2] and [len(b.images) for b in one] == [4]
    assert (np.concatenate([b.images for b in batches]) == one[0].images).all()  # augmented alike


def test_a_step_of_training_is_that_of_the_bigger_batch():
    images, records = samples((3, 1)), []
    for sizes in ([2], [1, 1]):
        model = network(small(learning_rate=0.02, warmup_steps=0))
        ends = np.cumsum(sizes)
        batches = [make_batch(images[e - s : e], model.config, model.dtype) for e, s in zip(ends, sizes)]
        velocity = zero_velocity(model.params, model.config)
        records.append([train_step(model, batches, velocity, step=s, rng=np.random.default_rng(s)) for s in range(2)])
    for whole, parts in zip(*records):
        assert parts == pytest.approx(whole, rel=1e-6)


def test_it_goes_on_to_the_same_bits(tmp_path):
    config = small(batch_size=1, accumulate=2, steps=3, bn_mode="train", warmup_steps=1, decay_at=())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    run = {"progress": False, "checkpoint_every": 1}
    train(network(config, np.float32), Images(), out_dir=whole, **run)
    train(network(config.replace(steps=2), np.float32), Images(), out_dir=parts, **run)
    resume = load_checkpoint(parts / CHECKPOINT)
    train(network(config, np.float32), Images(), out_dir=parts, resume=resume, **run)
    assert [row["step"] for row in read_steps(whole / METRICS)] == [1, 2, 3]
    for name in (CHECKPOINT, METRICS):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_a_configuration_from_before_takes_one_batch():
    values = linear_model.CONFIG.to_dict()
    del values["accumulate"]
    assert Config.from_dict(values).accumulate == 1
