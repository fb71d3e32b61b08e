"""SGD with momentum, its schedule, clipping and the choice of what is trained."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np import presets
from mrcnn_np.errors import ConfigError
from mrcnn_np.training.optim import (
    clip_gradients,
    global_norm,
    learning_rate_at,
    sgd_step,
    trained_names,
    zero_velocity,
)

CONFIG = presets.tiny(
    learning_rate=0.1, steps=100, warmup_steps=10, warmup_factor=0.1, decay_at=(0.7, 0.9), decay_factor=0.1
)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.01), (5, 0.055), (9, 0.091), (10, 0.1), (69, 0.1), (70, 0.01), (89, 0.01), (90, 0.001), (99, 0.001)],
)
def test_learning_rate_table(step, rate):
    assert learning_rate_at(step, CONFIG) == pytest.approx(rate, rel=1e-12)


def test_learning_rate_without_warmup_and_decay():
    config = CONFIG.replace(warmup_steps=0, decay_at=())
    assert [learning_rate_at(s, config) for s in (0, 50, 99)] == [0.1] * 3


def test_decay_steps_are_whole_numbers():
    # 0.29 * 100 is 28.999999999999996: the drop belongs to step 29, not to step 28
    config = CONFIG.replace(warmup_steps=0, decay_at=(0.29,))
    assert learning_rate_at(28, config) == pytest.approx(0.1)
    assert learning_rate_at(29, config) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("step", "rate"),  # 0.05 (1 + cos(pi s / 100)), times 0.1 + 0.9 s / 10 before step 10
    [(0, 0.01), (5, 0.55 * 0.0993844170), (10, 0.0975528258), (50, 0.05), (75, 0.0146446609), (100, 0.0), (120, 0.0)],
)
def test_learning_rate_along_a_cosine(step, rate):
    assert learning_rate_at(step, CONFIG.replace(decay="cosine")) == pytest.approx(rate, rel=1e-8, abs=1e-15)


def test_the_cosine_of_no_steps():
    assert learning_rate_at(0, CONFIG.replace(decay="cosine", steps=0, warmup_steps=0)) == 0.1


def test_two_steps_by_hand():
    config = CONFIG.replace(momentum=0.5, weight_decay=0.1, no_decay=("*.b",))
    params = {"a.w": np.array([1.0]), "a.b": np.array([1.0])}
    velocity = zero_velocity(params, config)
    for _ in range(2):
        sgd_step(params, {name: np.array([2.0]) for name in params}, velocity, learning_rate=0.1, config=config)
    # w: v = 2 + .1*1 = 2.1, p = .79; v = 1.05 + 2 + .079 = 3.129, p = .4771.   b: v = 2, p = .8; v = 3, p = .5
    assert velocity["a.w"] == pytest.approx(3.129)
    assert params["a.w"] == pytest.approx(0.4771)
    assert velocity["a.b"] == pytest.approx(3.0)
    assert params["a.b"] == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_a_loop_over_numbers(dtype):
    rng = np.random.default_rng(0)
    config = CONFIG.replace(momentum=0.9, weight_decay=0.01)
    params = {"x.w": rng.normal(size=(3, 2)).astype(dtype), "x.gamma": rng.normal(size=3).astype(dtype)}
    velocity = zero_velocity(params, config)
    state = {name: [[float(p), 0.0] for p in tensor.ravel()] for name, tensor in params.items()}
    for step in range(5):
        grads = {name: rng.normal(size=p.shape).astype(dtype) for name, p in params.items()}
        for name, numbers in state.items():
            decay = 0.01 if name == "x.w" else 0.0
            for number, g in zip(numbers, grads[name].ravel()):
                number[1] = 0.9 * number[1] + float(g) + decay * number[0]
                number[0] -= learning_rate_at(step, config) * number[1]
        sgd_step(params, grads, velocity, learning_rate=learning_rate_at(step, config), config=config)
    for name, numbers in state.items():
        assert params[name].dtype == velocity[name].dtype == dtype
        # 5 steps of float32 round-off; measured 1.5e-7
        np.testing.assert_allclose(
            params[name].ravel(), [n[0] for n in numbers], atol=5e-7 if dtype == np.float32 else 0
        )


def test_momentum_finds_the_minimum_of_a_bowl():
    config = CONFIG.replace(weight_decay=0.0)
    curvature, params = np.array([1.0, 10.0]), {"x.w": np.array([3.0, -2.0])}
    velocity = zero_velocity(params, config)
    for _ in range(300):
        sgd_step(params, {"x.w": curvature * params["x.w"]}, velocity, learning_rate=0.05, config=config)
    assert np.abs(params["x.w"]).max() < 1e-5


def test_the_arrays_stay_the_same_objects():
    params = {"x.w": np.ones(3, np.float32)}
    kept, velocity = params["x.w"], zero_velocity(params, CONFIG)
    sgd_step(params, {"x.w": np.ones(3, np.float32)}, velocity, learning_rate=0.1, config=CONFIG)
    assert params["x.w"] is kept
    assert (kept < 1).all()


def test_frozen_and_running_statistics_are_not_trained():
    params = {n: np.ones(2) for n in ("backbone.c1.w", "backbone.c1.mean", "backbone.c1.var", "rpn.w", "rpn.b")}
    config = CONFIG.replace(frozen=("backbone.*",))
    assert trained_names(params, CONFIG) == ["backbone.c1.w", "rpn.w", "rpn.b"]
    assert trained_names(params, config) == ["rpn.w", "rpn.b"]
    velocity = zero_velocity(params, config)
    sgd_step(params, {n: np.ones(2) for n in ("rpn.w", "rpn.b")}, velocity, learning_rate=0.1, config=config)
    assert [name for name, p in params.items() if (p != 1).any()] == ["rpn.w", "rpn.b"]


def test_a_frozen_pattern_without_a_match_is_an_error():
    for pattern in ("bakcbone.*", "*.mean"):  # the second exists, but is never trained anyway
        with pytest.raises(ConfigError, match=pattern.replace("*", r"\*")):
            trained_names(["backbone.c1.w", "backbone.c1.mean"], CONFIG.replace(frozen=(pattern,)))


def test_clipping_by_hand():
    grads = {"a": np.array([3.0]), "b": np.array([[4.0]])}
    assert clip_gradients(grads, 10.0) == 5.0
    assert grads["a"] == 3.0
    assert clip_gradients(grads, None) == 5.0
    assert grads["b"] == 4.0
    assert clip_gradients(grads, 1.0) == 5.0
    assert grads["a"] == pytest.approx(0.6)
    assert grads["b"] == pytest.approx(0.8)


def test_norm_of_nothing_and_of_what_float32_cannot_square():
    assert global_norm({}) == 0.0
    assert clip_gradients({"a": np.zeros((0, 3), np.float32)}, 1.0) == 0.0
    assert global_norm({"a": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.floats(1e-3, 1e3))
def test_clipping_keeps_the_direction(values, max_norm):
    original = np.array(values, np.float32)
    grads = {"a": original[:2].copy(), "b": original[2:].copy()}
    norm = clip_gradients(grads, max_norm)
    clipped = np.concatenate([grads["a"], grads["b"]])
    assert clipped.dtype == np.float32
    assert global_norm(grads) <= max_norm * (1 + 1e-6)
    scale = min(1.0, max_norm / norm) if norm else 1.0
    np.testing.assert_allclose(clipped, original * scale, rtol=1e-6, atol=1e-30)
    assert math.isfinite(norm)
