"""The losses on the device against their NumPy bodies."""

import numpy as np
import pytest
from cuda_cases import check, device_tree, same_in_any_order

from kernels.cuda import losses as device
from kernels.cuda.machine.device import to_device
from mrcnn_np.ops import losses


def draw(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 2), (3, 4), (7, 21)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_softmax_cross_entropy(shape, dtype):
    logits, labels = 3 * draw(*shape), (np.arange(shape[0]) * 5 % shape[1]).astype(dtype)
    wanted, its = losses.softmax_cross_entropy.reference(logits, labels)
    loss, cache = device.softmax_cross_entropy(to_device(logits), to_device(labels))
    check(loss, wanted, 5e-7)
    check(cache.probabilities, its.probabilities, 3e-7)
    np.testing.assert_array_equal(cache.labels.get(), labels)
    dloss = draw(shape[0])
    wanted = losses.softmax_cross_entropy_backward.reference(dloss, its)
    for tree in (cache, device_tree(its)):
        check(device.softmax_cross_entropy_backward(to_device(dloss), tree), wanted, 5e-7)


def test_a_label_that_is_no_class_gives_nan():
    labels = to_device(np.array([0, 3, -1, 2]))
    loss = device.softmax_cross_entropy(to_device(draw(4, 3)), labels)[0].get()
    assert np.isnan(loss).tolist() == [False, True, True, False]


@pytest.mark.parametrize("shape", [(0,), (3,), (5, 3, 3), (33,)])
def test_sigmoid_cross_entropy(shape):
    logits, targets = 9 * draw(*shape), np.random.default_rng(1).random(shape, np.float32)
    wanted, its = losses.sigmoid_cross_entropy.reference(logits, targets)
    loss, cache = device.sigmoid_cross_entropy(to_device(logits), to_device(targets))
    check(loss, wanted, 5e-7)
    dloss = draw(*shape)
    wanted = losses.sigmoid_cross_entropy_backward.reference(dloss, its)
    check(device.sigmoid_cross_entropy_backward(to_device(dloss), cache), wanted, 5e-7)


def test_a_target_that_is_no_probability_gives_nan():
    targets = np.array([0, 1, 1.5, -0.1, np.nan], np.float32)
    loss = device.sigmoid_cross_entropy(to_device(draw(5)), to_device(targets))[0].get()
    assert np.isnan(loss).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("shape", [(0, 4), (1,), (5, 4), (19,)])
@pytest.mark.parametrize("beta", [1.0, 1 / 9, 0])
def test_smooth_l1(shape, beta):
    pred, target = draw(*shape), 0.3 * draw(*shape)
    if pred.size > 2:
        target.flat[0], target.flat[1] = pred.flat[0], pred.flat[1] - np.float32(beta)  # the kinks
    wanted, its = losses.smooth_l1.reference(pred, target, beta=beta)
    loss, cache = device.smooth_l1(to_device(pred), to_device(target), beta=beta)
    check(loss, wanted, 3e-7)
    check(cache.difference, its.difference, 0)
    assert cache.beta == its.beta
    dloss = draw(*shape)
    wanted = losses.smooth_l1_backward.reference(dloss, its)
    check(device.smooth_l1_backward(to_device(dloss), cache), wanted, 3e-7)


def test_smooth_l1_keeps_nan():
    d = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    for beta in (0.0, 0.5):
        loss, cache = device.smooth_l1(to_device(d), to_device(np.zeros(4, np.float32)), beta=beta)
        its = losses.smooth_l1.reference(d, np.zeros(4, np.float32), beta=beta)
        np.testing.assert_array_equal(loss.get(), its[0])
        wanted = losses.smooth_l1_backward.reference(np.ones(4, np.float32), its[1])
        np.testing.assert_array_equal(device.smooth_l1_backward(to_device(np.ones(4, np.float32)), cache).get(), wanted)


def test_softmax_cross_entropy_in_any_order():
    logits, labels = to_device(draw(5, 9)), to_device(np.arange(5))
    same_in_any_order(lambda: [device.softmax_cross_entropy(logits, labels)[0]])


def test_what_is_left_to_numpy():
    """It computes in float64, or says what is wrong."""
    x, wide, labels = to_device(draw(2, 3)), to_device(np.ones((2, 3))), to_device(np.zeros(2, np.int64))
    for declined in (
        device.softmax_cross_entropy(wide, labels),
        device.softmax_cross_entropy(x, labels[:1]),
        device.softmax_cross_entropy(x, labels.astype(np.float32)),
        device.sigmoid_cross_entropy(x, wide),
        device.sigmoid_cross_entropy(x, x[:1]),
        device.smooth_l1(x, x[:, :1]),
        device.smooth_l1(x, x, beta=-1),
        device.smooth_l1(wide, x),
    ):
        assert declined is NotImplemented
