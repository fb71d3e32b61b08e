"""What both sides agree on: one way to read options, and the same bits of meaning in each."""

import numpy as np
import pytest

from kernels import contract
from mrcnn_np import targets
from mrcnn_np.ops.conv import as_padding, as_pair, conv2d
from mrcnn_np.ops.pool import max_pool2d


@pytest.mark.parametrize("value", [2, np.int64(2), (2, 2), [2, 2], np.array([2, 2])])
def test_a_pair(value):
    assert contract.as_pair(value) == as_pair(value, "stride") == (2, 2)


@pytest.mark.parametrize("value", [0, -1, (1,), (1, 2, 3), 1.5, (1.5, 1), "ab", None, (1, 0)])
def test_no_pair(value):
    assert contract.as_pair(value) is None
    with pytest.raises(ValueError, match=r"stride is .* expected a positive integer or two of them"):
        as_pair(value, "stride")


@pytest.mark.parametrize("value", [1, np.int32(1), ((1, 1), (1, 1)), [[1, 1], [1, 1]], np.ones((2, 2), int)])
def test_padding(value):
    assert contract.as_padding(value) == as_padding(value) == ((1, 1), (1, 1))


@pytest.mark.parametrize(
    "value", [-1, (1, 2), (1, 2, 3), ((1, 2), 3), ((1, 2), (3, -4)), 1.0, ((1, 2), (3, 4.5)), None]
)
def test_no_padding(value):
    """Refused in the same words whatever the backend, by every operation that pads."""
    assert contract.as_padding(value) is None
    x, w = np.zeros((1, 8, 8, 4), np.float32), np.zeros((3, 3, 4, 5), np.float32)
    for call in (
        lambda: as_padding(value),
        lambda: conv2d(x, w, padding=value),
        lambda: max_pool2d(x, kernel_size=3, padding=value),
    ):
        with pytest.raises(ValueError, match=r"padding is .* not negative"):
            call()


def test_the_tolerance_of_ties_is_one_number():
    assert targets.TIE is contract.TIE
