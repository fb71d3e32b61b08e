"""Frozen parts: what they are called, that nothing in them moves, and that everything else learns as before."""

import numpy as np
import pytest
from nets import make_sample, small_config

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.errors import UserError
from mrcnn_np.molding import make_batch
from mrcnn_np.network import initialise, spec
from mrcnn_np.params import matches, trainable
from mrcnn_np.training.freezing import PARTS, frozen_patterns, frozen_stages
from mrcnn_np.training.loop import train_step
from mrcnn_np.training.optim import trained_names, zero_velocity

#: (torchvision's trainable_backbone_layers, detectron2's FREEZE_AT, ours), as in the module's table
FRAMEWORKS = [
    (5, 0, "norm"),
    (4, 1, "stem,norm"),
    (3, 2, "stem,c2,norm"),
    (2, 3, "stem,c2,c3,norm"),
    (0, 5, "backbone"),
]


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return make_batch([make_sample(rng), make_sample(rng, objects=3, name="b")], small_config())


def model_of(parts="", **changes):
    config = small_config(**changes).replace(frozen=frozen_patterns(parts))
    return MaskRCNN(config, initialise(config, np.random.default_rng(2)))


def gradients(model, batch):
    losses, cache = model.losses(batch, np.random.default_rng(3))
    return losses, model.backward(cache), cache


@pytest.mark.parametrize("layers, freeze_at, parts", FRAMEWORKS)
def test_the_frameworks_options(layers, freeze_at, parts):
    """torchvision trains layer4, layer3, layer2, layer1, conv1 in this order, and never a batch norm."""
    config = small_config(frozen=frozen_patterns(parts))
    names = [name for name in spec(config) if name.startswith("backbone.")]
    assert frozen_stages(dict.fromkeys(names), config) == freeze_at
    stages = ("c5", "c4", "c3", "c2", "stem")[:layers]
    theirs = [n for n in names if trainable(n) and n.split(".")[1] in stages and ".bn" not in n]
    assert [n for n in trained_names(spec(config), config) if n.startswith("backbone.")] == theirs


def test_every_part_has_parameters_and_the_parts_are_all():
    config = small_config()
    names = [*spec(config), *spec(presets.vgg16()), *spec(config.replace(keypoints=2))]
    for part, pattern in PARTS.items():
        assert any(matches(name, [pattern]) for name in names), part
    rest = frozen_patterns("backbone, fpn,rpn ,box_head,mask_head")
    assert trained_names(spec(config), config.replace(frozen=rest)) == []
    assert frozen_patterns("c3,c3,") == ("backbone.c3.*",) and frozen_patterns("") == ()
    with pytest.raises(UserError, match="no part 'layer4' to freeze; expected some of stem, c2, c3"):
        frozen_patterns("stem,layer4")


@pytest.mark.parametrize("bn_mode", ["frozen", "train"])
@pytest.mark.parametrize("parts", ["stem,c2", "backbone", "c3", "norm", "fpn,mask_head"])
def test_what_is_frozen_keeps_its_bits_in_training(batch, parts, bn_mode):
    """Running statistics, too; and what has a gradient moves."""
    model = model_of(parts, bn_mode=bn_mode, weight_decay=0.1)
    before = {name: p.copy() for name, p in model.params.items()}
    velocity = zero_velocity(model.params, model.config)
    for step in range(50, 52):
        train_step(model, batch, velocity, step=step, rng=np.random.default_rng(step))
    patterns = frozen_patterns(parts)
    for name, p in model.params.items():
        moves = velocity[name].any() if name in velocity else bn_mode == "train" and not matches(name, patterns)
        assert (p.tobytes() != before[name].tobytes()) == moves, name
    assert not any(matches(name, patterns) for name in velocity)
    assert all(v.any() for name, v in velocity.items() if not name.startswith("fpn.output"))  # P5 may see no anchor


@pytest.mark.parametrize("parts, stages", [("stem", 1), ("stem,c2,c3", 3), ("backbone", 5), ("c4", 0)])
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_the_backward_pass_ends_above_frozen_stages(batch, parts, stages, backend):
    """With frozen statistics freezing changes neither the losses nor any other gradient, to the last bit."""
    with kernels.use(backend):
        losses, whole, _ = gradients(model_of(bn_mode="frozen"), batch)
        again, grads, cache = gradients(model_of(parts, bn_mode="frozen"), batch)
    assert again == losses
    below = tuple(f"backbone.{stage}." for stage in ("stem", "c2", "c3", "c4", "c5")[:stages])
    assert set(grads) == {name for name in whole if not (below and name.startswith(below))}
    for name, g in grads.items():
        assert g.tobytes() == whole[name].tobytes(), name
    stem_cache, _, stage_caches = cache.backbone
    assert [c is None for c in (stem_cache, *stage_caches)] == [k < stages for k in range(5)]  # no memory for them
