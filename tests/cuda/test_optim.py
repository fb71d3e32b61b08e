"""The step of gradient descent on the device against its NumPy body: many tensors in one launch, any alignment."""

import numpy as np
import pytest
from cuda_cases import check, same_in_any_order

from kernels.cuda import optim as device
from kernels.cuda.machine.device import COPIES, to_device
from mrcnn_np.training import optim

SHAPES = {"a": (5, 7), "none": (0, 3), "b": (1,), "whole": (64,), "c": (3, 3, 2, 9), "last": (4,)}


def draw(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def moved(tensors):
    return {name: to_device(t) for name, t in tensors.items()}


def shifted(tensors):
    """The same numbers at addresses that 16 does not divide, as parts of larger arrays."""
    parts = {}
    for name, t in tensors.items():
        larger = to_device(np.zeros(t.size + 1, np.float32))
        parts[name] = larger[1:].reshape(t.shape)
        parts[name][...] = to_device(t)
    return parts


@pytest.mark.parametrize("place", [moved, shifted])
def test_momentum_step(place):
    params, grads, velocity = draw(0), draw(1), draw(2)
    del velocity["b"]  # frozen
    there = place(params), place(grads), place(velocity)
    how = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": dict.fromkeys(SHAPES, 0.0) | {"a": 0.1, "c": 0.01}}
    optim.momentum_step.reference(params, grads, velocity, **how)
    assert device.momentum_step(*there, **how) is None
    for mine, wanted in zip(there, (params, grads, velocity)):
        for name in wanted:
            check(mine[name], wanted[name], 3e-7)
    np.testing.assert_array_equal(there[0]["b"].get(), params["b"])


def test_gradients_with_gaps_are_taken_and_parameters_with_gaps_are_not():
    how = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": {"a": 0.5}}
    p, g, v = (np.random.default_rng(i).standard_normal((6, 8)).astype(np.float32) for i in range(3))
    mine = {"a": to_device(p)}, {"a": to_device(np.repeat(g, 2, axis=1))[:, ::2]}, {"a": to_device(v)}
    device.momentum_step(*mine, **how)
    optim.momentum_step.reference({"a": p}, {"a": g}, {"a": v}, **how)
    check(mine[0]["a"], p, 3e-7)
    gaps = {"a": to_device(np.zeros((6, 16), np.float32))[:, ::2]}
    assert device.momentum_step(gaps, mine[1], mine[2], **how) is NotImplemented
    assert device.momentum_step(mine[0], mine[1], gaps, **how) is NotImplemented
    assert device.momentum_step(mine[0], {}, mine[2], **how) is NotImplemented
    assert device.clip_gradients(gaps, 1.0) is NotImplemented


@pytest.mark.parametrize("place", [moved, shifted])
def test_global_norm(place):
    grads = draw(3)
    norm = device.global_norm(place(grads))
    assert float(norm) == pytest.approx(optim.global_norm.reference(grads), rel=1e-12)
    grads["a"][0] = 1e30  # whose square is no float32
    assert float(device.global_norm(place(grads))) == pytest.approx(optim.global_norm.reference(grads), rel=1e-7)
    assert float(device.global_norm({})) == 0


@pytest.mark.parametrize("place", [moved, shifted])
@pytest.mark.parametrize("most", [None, 1e-3, 5.0, 1e9, 0.0])
def test_clipping(place, most):
    grads = draw(4)
    there = place(grads)
    norm = device.clip_gradients(there, most)
    assert float(norm) == pytest.approx(optim.clip_gradients.reference(grads, most), rel=1e-12)
    for name, g in grads.items():
        check(there[name], g, 2e-7)


def test_nan_is_not_clipped():
    grads = moved({"a": np.array([1, np.nan, 3], np.float32)})
    assert np.isnan(float(device.clip_gradients(grads, 1.0)))
    np.testing.assert_array_equal(grads["a"].get(), np.array([1, np.nan, 3], np.float32))


def test_a_step_waits_for_nothing():
    """The table of tensors goes to the device, and only if they have moved; nothing comes back."""
    params, grads, velocity = (moved(draw(i)) for i in range(3))
    how = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": dict.fromkeys(SHAPES, 0.0)}
    for copies in (2, 0):
        COPIES.reset()
        device.clip_gradients(grads, 1.0)
        device.momentum_step(params, grads, velocity, **how)
        assert (COPIES.to_device, COPIES.to_host, COPIES.sizes) == (copies, 0, 0)


def test_the_same_bits_in_any_order():
    def run():
        params, grads, velocity = moved(draw(5)), moved(draw(6)), moved(draw(7))
        norm = device.clip_gradients(grads, 1.0)
        how = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": dict.fromkeys(SHAPES, 0.1)}
        device.momentum_step(params, grads, velocity, **how)
        return [norm, *params.values(), *velocity.values(), *grads.values()]

    same_in_any_order(run)


def test_float64_is_left_to_numpy():
    grads = {"a": to_device(np.ones(3))}
    assert device.global_norm(grads) is NotImplemented
    assert device.clip_gradients(grads, 1.0) is NotImplemented
