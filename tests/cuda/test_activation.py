"""ReLU, sigmoid and softmax on the device against their NumPy bodies: odd sizes, nothing, NaN and infinity."""

import numpy as np
import pytest
from cuda_cases import check, same_in_any_order

from kernels.cuda import activation as device
from kernels.cuda.machine.device import to_device
from mrcnn_np.ops import activation

SHAPES = [(0,), (1,), (3,), (4,), (2, 5, 7, 3), (33,), (2, 0, 3)]
SPECIAL = np.array([np.nan, -1, 2, -0.0, np.inf, -np.inf, 100, -100], np.float32)
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")


def draw(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_relu(shape):
    x, dy = draw(*shape), draw(*shape) + 1
    wanted, its = activation.relu.reference(x)
    y, cache = device.relu(to_device(x))
    check(y, wanted, 0)
    assert cache.y is y
    check(device.relu_backward(to_device(dy), cache), activation.relu_backward.reference(dy, its), 0)


def test_relu_keeps_nan():
    y, cache = device.relu(to_device(SPECIAL))
    np.testing.assert_array_equal(y.get(), activation.relu.reference(SPECIAL)[0])
    dy = np.array([1, 1, 1, 1, 1, 1, np.nan, np.inf], np.float32)
    wanted = activation.relu_backward.reference(dy, activation.ReluCache(y.get()))
    np.testing.assert_array_equal(device.relu_backward(to_device(dy), cache).get(), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_sigmoid(shape):
    x = 5 * draw(*shape)
    y, cache = device.sigmoid(to_device(x))
    check(y, activation.sigmoid.reference(x)[0], 3e-7)
    assert cache.y is y


def test_sigmoid_of_what_is_not_finite():
    np.testing.assert_array_equal(device.sigmoid(to_device(SPECIAL))[0].get()[[0, 3, 4, 5, 6, 7]],
                                  np.array([np.nan, 0.5, 1, 0, 1, np.exp(np.float32(-100))], np.float32))  # fmt: skip


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 2), (3, 4), (2, 3, 9), (7, 21), (2,)])
def test_softmax(shape):
    x = 4 * draw(*shape)
    y, cache = device.softmax(to_device(x))
    check(y, activation.softmax.reference(x)[0], 3e-7)
    assert cache.y is y


def test_softmax_of_what_is_not_finite():
    x = np.tile(np.float32([1, 2, 0, 5, 3]), (6, 1))
    x[0, 1], x[1, 3], x[2, 0], x[3], x[4], x[5, 4] = np.nan, np.inf, -np.inf, -np.inf, np.nan, 200
    np.testing.assert_allclose(device.softmax(to_device(x))[0].get(), activation.softmax.reference(x)[0], rtol=1e-6)


def test_softmax_in_any_order():
    x = to_device(draw(5, 9))
    same_in_any_order(lambda: [device.softmax(x)[0]])


def test_float64_and_no_classes_are_left_to_numpy():
    x = to_device(np.ones((2, 3)))
    assert all(f(x) is NotImplemented for f in (device.relu, device.sigmoid, device.softmax))
    assert device.relu_backward(x, activation.ReluCache(x)) is NotImplemented
    assert device.softmax(to_device(np.ones((2, 0), np.float32))) is NotImplemented
